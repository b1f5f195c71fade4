"""Networks that learn real images together while a method condenses, and the alignment of their features."""

import copy
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from dcond.augment import DiffAug
from dcond.device import to_device
from dcond.matching.alignment import Alignment
from dcond.matching.gradients import trained
from dcond.models import ConvNet, Network, Pool, Recipe
from dcond.rng import Streams, seeded_globals
from dcond.training.steps import TrainingBatch, alignment_step, joint_step, training_batch
from dcond.types import RealData


class Learners:
    """The networks of a pool, each trained by SGD with its own rate, and what aligns their features, by Adam.

    Args:
        pool: the networks.
        real: the images they will see.
        rng: draws their weights.
        form: of the distillation, see :class:`~dcond.matching.alignment.Alignment`; "none" for no
            alignment, as with one network.
        axis: of the mixing softmax, ditto.
        lr_alignment: of Adam on P and M.
        frozen_convnet: train nothing of a ConvNet but its head, and keep that when its other
            weights are drawn anew: the fault of HMDC's public code, whose optimiser holds layers
            that the forward no longer uses.
    """

    networks: list[Network]
    alignment: Alignment | None

    def __init__(
        self,
        pool: Pool,
        real: RealData,
        rng: Streams,
        *,
        form: str,
        axis: str,
        lr_alignment: float,
        frozen_convnet: bool = False,
    ):
        self.recipes = list(pool.networks.values())
        self.form, self.axis, self.lr_alignment, self.frozen_convnet = (
            form,
            axis,
            lr_alignment,
            frozen_convnet,
        )
        self.networks = [
            recipe.build(real.spec, rng.networks, real.device) for recipe in self.recipes
        ]
        self._start(real, rng)

    def renew(self, real: RealData, rng: Streams) -> None:
        """Start anew: fresh weights in place, a fresh alignment, fresh optimisers."""
        for recipe, network in zip(self.recipes, self.networks, strict=True):
            part = self._trained(recipe, network)
            before = copy.deepcopy(part.state_dict())
            recipe.reset(network, real.spec, rng.networks)
            if part is not network:  # the public code never resets the head that it trains
                part.load_state_dict(before)
        self._start(real, rng)

    def train(
        self,
        real: RealData,
        rng: Streams,
        *,
        steps: int,
        batch: int,
        augment: DiffAug | None,
        cutmix_p: float,
        fast: AbstractContextManager[object],
    ) -> None:
        """Train all networks jointly on random real images, then the alignment alone for as many steps.

        Args:
            real: the images.
            rng: draws them and their augmentation.
            steps: of each.
            batch: images per step.
            augment: with parameters per image; None for none.
            cutmix_p: chance of CutMix per batch.
            fast: the precision of the forward passes, a context that can be entered again.
        """

        def draw() -> TrainingBatch:
            rows = torch.randint(len(real.train), (batch,), generator=rng.real)
            labels = real.train.labels[to_device(rows, real.device)]
            return training_batch(
                real.normalised(rows), labels, augment, cutmix_p, rng.augmentation
            )

        for _ in range(steps):
            joint_step(self.networks, self.optimiser, self.alignment, draw(), fast)
        if self.alignment is not None and self.aligner is not None:
            for _ in range(steps):
                alignment_step(self.networks, self.aligner, self.alignment, draw().images, fast)

    @property
    def modules(self) -> list[nn.Module]:
        """All that is trained: the networks, and the alignment where there is one."""
        return [*self.networks, *([] if self.alignment is None else [self.alignment])]

    def state_dict(self) -> dict[str, Any]:
        """Return what must be saved."""
        parts = {"optimiser": self.optimiser, "alignment": self.alignment, "aligner": self.aligner}
        saved = {name: part.state_dict() for name, part in parts.items() if part is not None}
        return {"networks": [network.state_dict() for network in self.networks], **saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for network, saved in zip(self.networks, state["networks"], strict=True):
            network.load_state_dict(saved)
        self.optimiser.load_state_dict(state["optimiser"])
        if self.alignment is not None and self.aligner is not None:
            self.alignment.load_state_dict(state["alignment"])
            self.aligner.load_state_dict(state["aligner"])

    def _start(self, real: RealData, rng: Streams) -> None:
        groups = [
            {"params": trained(self._trained(recipe, network)), "lr": recipe.lr}
            for recipe, network in zip(self.recipes, self.networks, strict=True)
        ]
        self.optimiser = torch.optim.SGD(groups)
        self.alignment, self.aligner = None, None
        if self.form != "none" and len(self.networks) > 1:
            with seeded_globals(rng.networks):
                alignment = Alignment.of(self._example(real), axis=self.axis, form=self.form)
            self.alignment = alignment.to(real.device)
            self.aligner = torch.optim.Adam(self.alignment.parameters(), lr=self.lr_alignment)

    @torch.no_grad()
    def _example(self, real: RealData) -> list[Any]:
        """Return every network's features of one image, for their shapes."""
        image, taps = real.normalised(torch.zeros(1, dtype=torch.long)), []
        for network in self.networks:
            taps.append(network.eval().features(image))
            network.train()
        return taps

    def _trained(self, recipe: Recipe, network: Network) -> nn.Module:
        """Return what is trained of a network: all of it, or the head of a frozen ConvNet."""
        frozen = self.frozen_convnet and isinstance(recipe, ConvNet)
        return network.get_submodule("head") if frozen else network
