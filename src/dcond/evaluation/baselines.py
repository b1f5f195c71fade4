"""Random baselines: what the same storage is worth without condensing."""

import torch

from dcond.init import FromReal, Random
from dcond.rng import Streams, derive
from dcond.types import RealData, SyntheticSet


def random_subset(
    real: RealData, synthetic: SyntheticSet, seed: int, repeat: int, *, factor: int
) -> SyntheticSet:
    """Return random real images in the storage of ``synthetic``: a fresh draw for every repeat.

    Args:
        real: where the images come from.
        synthetic: whose ipc and normalisation are taken over.
        seed: of the run.
        repeat: which draw.
        factor: 1 stores ipc whole images per class; f stores ipc·f² shrunken ones
            ("random_decoded").
    """
    rng = Streams(derive(seed, f"baseline/{factor}/{repeat}"))
    images = FromReal(rule=Random())(real, synthetic.ipc, factor, rng)
    return SyntheticSet(
        images=images,
        labels=torch.arange(len(real.class_names)).repeat_interleave(
            synthetic.ipc
        ),  # hard, also where ours are soft
        class_names=synthetic.class_names,
        ipc=synthetic.ipc,
        mean=synthetic.mean,
        std=synthetic.std,
        factor=factor,
        whitening=synthetic.whitening,
    )
