"""Random baselines: random real images that use the same storage as a synthetic set."""

import torch

from dcond.init import Random
from dcond.init.initialisers import warn_of_repeats
from dcond.multi_formation import encode
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
    counts = synthetic.counts.tolist()
    warn_of_repeats(real, [count * factor**2 for count in counts])
    rows = Random()(real, max(counts) * factor**2, rng)
    images = torch.cat(
        [
            encode(real.pixels(own[: count * factor**2]), factor)
            for own, count in zip(rows, counts, strict=True)
        ]
    )
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(images.device)
    return SyntheticSet.from_images(
        images, synthetic, ipc=synthetic.ipc, factor=factor, labels=labels
    )
