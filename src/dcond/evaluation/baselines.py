"""Random baselines: random real images that use the same storage as a synthetic set."""

from dcond.init import FromReal, Random
from dcond.rng import Streams, derive
from dcond.types import RealData, SyntheticSet


def random_subset(
    real: RealData, synthetic: SyntheticSet, seed: int, repeat: int, *, factor: int
) -> SyntheticSet:
    """Return random real images in the storage of ``synthetic``; each repeat draws anew.

    The labels are hard, also if those of ``synthetic`` are soft.

    Args:
        real: source of the images.
        synthetic: set whose ipc and normalisation are used.
        seed: seed of the run.
        repeat: index of the draw.
        factor: 1 stores ipc images per class; f stores ipc·f² shrunken ones ("random_decoded").
    """
    rng = Streams(derive(seed, f"baseline/{factor}/{repeat}"))
    images = FromReal(rule=Random())(real, synthetic.ipc, factor, rng)
    return SyntheticSet.from_images(images, synthetic, ipc=synthetic.ipc, factor=factor)
