"""A step's view of the two sets: class-shaped batches, augmented alike, embedded in chunks.

Where several processes share the classes (:mod:`dcond.ranks`), k below is the number of this one's. Random numbers are
drawn for all classes by all processes, and used for the own ones. :func:`image_gradient` puts the parts together.
"""

import torch
from torch import Tensor, nn

from dcond import ranks
from dcond.augment import DiffAug, cutmix
from dcond.errors import UnsupportedError
from dcond.formation import decode
from dcond.models import Network
from dcond.types import RealData, SyntheticSet


def decoded_by_class(synthetic: SyntheticSet) -> Tensor:
    """Return decoded images (k, ipc·f², c, h, w) in pixel space; gradients reach ``synthetic.images``."""
    own, cells = ranks.current().own(synthetic.by_class), synthetic.factor**2
    k = len(own)
    images = decode(own.flatten(0, 1), synthetic.factor, align_corners=synthetic.align_corners)
    by_cell = images.view(cells, k, synthetic.ipc, *images.shape[1:])
    return by_cell.transpose(0, 1).reshape(k, cells * synthetic.ipc, *images.shape[1:])


def subset_per_class(images: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Keep ``count`` random images of every class of (k, n, c, h, w); all of them where n ≤ count."""
    k, n = images.shape[:2]
    if n <= count:
        return images
    group = ranks.current()
    keep = torch.stack([torch.randperm(n, generator=rng)[:count] for _ in range(group.classes(k))])
    keep = group.own(keep).to(images.device)
    return images[torch.arange(k, device=images.device).unsqueeze(1), keep]


def real_by_class(real: RealData, count: int, rng: torch.Generator) -> Tensor:
    """Draw a real batch of ``count`` images of every class: (k, count, c, h, w), normalised."""
    return normalised_by_class(real, ranks.current().own(real.draw_per_class(count, rng)))


def normalised_by_class(real: RealData, rows: Tensor) -> Tensor:
    """Return the training images of rows (k, b) as (k, b, c, h, w), normalised."""
    return real.normalised(rows.flatten()).view(*rows.shape, *real.train.images.shape[1:])


def siamese(augment: DiffAug | None, real: Tensor, synthetic: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment both batches (k, n, c, h, w), normalised, with the same parameters; every class draws its own."""
    if augment is None:
        return real, synthetic
    group = ranks.current()
    draw = augment.draw(group.classes(len(real)), (real.shape[-2], real.shape[-1]), rng, shared_family=False)
    begin, end, _ = group.range().indices(draw.groups)
    draw = draw.part(begin, end)
    return augment.apply(real, draw), augment.apply(synthetic, draw)


def mix_within_classes(images: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """CutMix every class of (k, n, c, h, w) among its own images, each with its own chance and box."""
    if probability == 0:
        return images
    group = ranks.current()
    mixes = [cutmix.draw(images.shape[1:], probability, rng) for _ in range(group.classes(len(images)))][group.range()]
    return torch.stack([own if mix is None else cutmix.apply(own, mix) for own, mix in zip(images, mixes, strict=True)])


def image_gradient(
    synthetic: SyntheticSet, output: Tensor, towards: Tensor | None = None, *, retain_graph: bool = False
) -> Tensor:
    """Return ∂L/∂images (n, c, h, w) of all classes: every process adds what its own give.

    Args:
        synthetic: whose images the gradient is of.
        output: the loss; or with ``towards`` = ∂L/∂output anything on the way to it.
        towards: see there.
        retain_graph: the graph is needed again.
    """
    (gradient,) = torch.autograd.grad(output, synthetic.images, towards, retain_graph=retain_graph)
    ranks.current().sum_([gradient])  # one term of each sum is not zero, so it is exact
    return gradient


@torch.no_grad()
def embed_real(network: Network, real: RealData, chunk: int) -> Tensor:
    """Embed the whole training split in evaluation mode, ``chunk`` images at a time: (N, d) on the data's device."""
    network.eval()
    features = [network.embed(real.normalised(rows)) for rows in torch.arange(len(real.train)).split(chunk)]
    network.train()
    return torch.cat(features)


def embed_by_class(network: Network, images: Tensor, chunk: int) -> Tensor:
    """Embed (k, n, c, h, w) into (k, n, d), ``chunk`` images at a time.

    Chunks bound the memory and, on a CPU, keep a layer's activations in the cache. A network with batch norm sees all
    classes in one batch, as the public DM code does, so its statistics are those of the whole step.

    Raises:
        UnsupportedError: a network with batch norm, and several processes.
    """
    flat = images.flatten(0, 1)
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()):
        if ranks.current().count > 1:
            raise UnsupportedError(
                "the features of a network with batch norm depend on the images of all classes, which several "
                "processes share; take another norm (model.norm=instance) or network, or one process."
            )
        chunk = len(flat)
    parts = [network.embed(part) for part in flat.split(chunk)]
    return torch.cat(parts).view(*images.shape[:2], -1)
