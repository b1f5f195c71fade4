"""Joint training of several networks on real images, with an alignment of their features."""

import copy
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dcond.augment import DiffAug
from dcond.matching.alignment import Alignment, Axis
from dcond.matching.gradients import trained
from dcond.models import ConvNet, Network, Pool, Recipe
from dcond.rng import Streams, seeded_globals
from dcond.training.steps import TrainingBatch, training_batch
from dcond.types import RealData


class Learners:
    """The networks of a pool, trained by SGD, and the alignment of their features, trained by Adam.

    Each network has its own learning rate.

    Args:
        pool: recipes of the networks.
        real: the data set.
        rng: random streams; the weights are drawn from them.
        form: form of the distillation, see :class:`~dcond.matching.alignment.Alignment`; "none" for
            no alignment. A single network never has one.
        axis: axis of the mixing softmax, see there.
        lr_alignment: learning rate of Adam on P and M.
        frozen_convnet: train only the head of a ConvNet, and keep it when the other weights are
            redrawn. This is a fault of HMDC's public code, whose optimiser holds layers that the
            forward pass no longer uses.
    """

    networks: list[Network]
    alignment: Alignment | None

    def __init__(
        self,
        pool: Pool,
        real: RealData,
        rng: Streams,
        *,
        form: Literal["mean", "pairwise", "none"],
        axis: Axis,
        lr_alignment: float,
        frozen_convnet: bool = False,
    ):
        self.recipes = list(pool.networks.values())
        self.form, self.axis = form, axis
        self.lr_alignment, self.frozen_convnet = lr_alignment, frozen_convnet
        self.networks = [
            recipe.build(real.spec, rng.networks, real.device) for recipe in self.recipes
        ]
        self._start(real, rng)

    def renew(self, real: RealData, rng: Streams) -> None:
        """Reset the networks in place; make a new alignment and new optimisers."""
        for recipe, network in zip(self.recipes, self.networks, strict=True):
            part = self._trained(recipe, network)
            before = copy.deepcopy(part.state_dict())
            recipe.reset(network, real.spec, rng.networks)
            if part is not network:  # the public code never resets the head
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
        """Train all networks jointly on random real images, then the alignment for as many steps.

        Args:
            real: the data set.
            rng: random streams of the images and their augmentation.
            steps: steps of each of the two.
            batch: images per step.
            augment: augmentation, one draw per image; None for none.
            cutmix_p: probability of CutMix per batch.
            fast: precision of the forward passes, a reusable context.
        """

        def draw() -> TrainingBatch:
            rows = torch.randint(len(real.train), (batch,), generator=rng.real)
            return training_batch(*real.batch(rows), augment, cutmix_p, rng.augmentation)

        for _ in range(steps):
            self._joint_step(draw(), fast)
        if self.alignment is not None and self.aligner is not None:
            for _ in range(steps):
                self._alignment_step(self.alignment, self.aligner, draw().images, fast)

    def _joint_step(self, batch: TrainingBatch, fast: AbstractContextManager[object]) -> None:
        """Train the networks for a step on Σ_k cross-entropy_k + L_MD, on the same images."""
        groups = self.optimiser.param_groups
        with fast:
            if self.alignment is None:
                logits, distillation = [net(batch.images) for net in self.networks], 0
            else:
                pairs = [net.forward_with_features(batch.images) for net in self.networks]
                logits, taps = map(list, zip(*pairs, strict=True))
                distillation = self.alignment(taps)
            loss = torch.stack([batch.cross_entropy(own) for own in logits]).sum() + distillation
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward(inputs=[weight for group in groups for weight in group["params"]])
        self.optimiser.step()

    def _alignment_step(
        self,
        alignment: Alignment,
        aligner: torch.optim.Optimizer,
        images: Tensor,
        fast: AbstractContextManager[object],
    ) -> None:
        """Train the alignment for a step on L_MD.

        The networks' weights do not change. In training mode the statistics of batch norm do, as in
        HMDC's public code.
        """
        with fast:
            with torch.no_grad():
                taps = [network.features(images) for network in self.networks]
            loss = alignment(taps)
        aligner.zero_grad(set_to_none=True)
        loss.backward()
        aligner.step()

    @property
    def modules(self) -> list[nn.Module]:
        """All trained modules: the networks, and the alignment if there is one."""
        return [*self.networks, *([] if self.alignment is None else [self.alignment])]

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the networks, the alignment and the optimisers."""
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
        """Return every network's features of one image, as examples of their shapes."""
        image, taps = real.normalised(torch.zeros(1, dtype=torch.long)), []
        for network in self.networks:
            taps.append(network.eval().features(image))
            network.train()
        return taps

    def _trained(self, recipe: Recipe, network: Network) -> nn.Module:
        """Return the trained part of a network: all of it, or the head of a frozen ConvNet."""
        frozen = self.frozen_convnet and isinstance(recipe, ConvNet)
        return network.get_submodule("head") if frozen else network
