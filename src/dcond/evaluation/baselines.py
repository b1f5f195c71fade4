"""Random baselines: random real images that use the same storage as a synthetic set."""

import torch

from dcond.init import FromReal, Random
from dcond.rng import Streams, derive
from dcond.types import RealData, SyntheticSet


def random_subset(
    real: RealData, synthetic: SyntheticSet, seed: int, repeat: int, *, factor: int
) -> SyntheticSet:
    """Return random real images in the storage of ``synthetic``; each repeat draws anew.

    The labels are hard, also if those of ``synthetic`` are soft; the caller may label them again.

    Args:
        real: source of the images.
        synthetic: set whose images per class and normalisation are used.
        seed: seed of the run.
        repeat: index of the draw.
        factor: 1 stores ipc images per class; f stores ipc·f² shrunken ones ("random_decoded").
    """
    rng = Streams(derive(seed, f"baseline/{factor}/{repeat}"))
    counts, ipc, labels = synthetic.counts, synthetic.ipc, None
    most = int(counts.max())
    images = FromReal(rule=Random())(real, most, factor, rng)
    if int(counts.min()) < most:
        taken = torch.arange(most).expand(len(counts), -1) < counts[:, None]
        images = images[taken.flatten().to(images.device)]
        labels = torch.arange(len(counts)).repeat_interleave(counts).to(images.device)
    return SyntheticSet.from_images(images, synthetic, ipc=ipc, factor=factor, labels=labels)
