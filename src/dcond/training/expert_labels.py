"""Soft labels from experts: the mean logits of those that classify an image right."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dcond.models import Network
from dcond.multi_formation import encode
from dcond.rng import draw_seed
from dcond.training.experts import Trajectory
from dcond.types import RealData, SyntheticSet, draw_rows

CHUNK = 256  # images per pass


def mean_logits(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean logits (n, k) of the predictions that are right, and whether any is (n,).

    Where none is right, the mean is that of all predictions.

    Args:
        logits: (e, n, k), e predictions of every image.
        classes: int64 (n,).
    """
    right = logits.argmax(-1) == classes
    some = right.any(0)
    weights = (right | ~some).to(logits.dtype)
    return (logits * weights[..., None]).sum(0) / weights.sum(0)[:, None], some


class ExpertLabels:
    """Labels by experts after a number of epochs.

    Args:
        network: of the experts' kind; its weights are overwritten.
        experts: the experts.
        epoch: of their weights.
    """

    def __init__(self, network: Network, experts: Sequence[Trajectory], epoch: int):
        self.network = network.eval().requires_grad_(False)
        self.experts, self.epoch = experts, epoch

    @torch.no_grad()
    def of(self, synthetic: SyntheticSet) -> tuple[Tensor, Tensor]:
        """Return :func:`mean_logits` of a set; all images packed in a stored one count.

        Where none is right for an image of the set, its row is the mean of all experts.
        """
        images, _ = synthetic.decoded()
        normalised = synthetic.spec.normalise(images)
        logits = []
        for expert in self.experts:
            self.network.load_state_dict(expert.state(self.epoch))
            logits.append(torch.cat([self.network(part) for part in normalised.split(CHUNK)]))
        every = torch.stack(logits).unflatten(1, (synthetic.factor**2, -1)).flatten(0, 1)
        return mean_logits(every, synthetic.classes)

    def labelled(self, synthetic: SyntheticSet) -> SyntheticSet:
        """Return a copy of a set with these labels, as logits."""
        labels, _ = self.of(synthetic)
        return replace(synthetic, labels=labels, logits=True)

    @torch.no_grad()
    def replace_wrong(
        self, real: RealData, synthetic: SyntheticSet, rng: torch.Generator
    ) -> list[int]:
        """Replace, in place, images that no expert classifies right by real ones that some do.

        Returns:
            For each class the number of images that are still wrong: the class has too few others.
        """
        _, some = self.of(synthetic)
        wrong, cells = [], synthetic.factor**2
        for label, rows in enumerate(real.class_rows):
            places = torch.nonzero(~some & (synthetic.classes == label)).flatten()
            order = torch.Generator().manual_seed(draw_seed(rng))
            candidates = draw_rows(rows, max(len(rows), cells), order)
            for part in candidates[: len(candidates) // cells * cells].split(CHUNK * cells):
                if len(places) == 0:
                    break
                packed = part.view(-1, cells).T.flatten()  # cell by cell
                images = encode(real.pixels(packed), synthetic.factor)
                own = SyntheticSet.from_images(
                    images,
                    synthetic,
                    ipc=len(images),
                    factor=synthetic.factor,
                    labels=torch.full((len(images),), label, device=images.device),
                )
                found = images[self.of(own)[1]][: len(places)]
                synthetic.images[places[: len(found)]] = found
                places = places[len(found) :]
            wrong.append(len(places))
        return wrong
