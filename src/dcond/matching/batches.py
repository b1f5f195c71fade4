"""A step's view of the two sets: class-shaped batches, augmented alike, embedded in chunks.

Where several processes share the classes (:mod:`dcond.distributed`), k below is the number of this
one's. Random numbers are drawn for all classes by all processes, and used for the own ones.
:func:`image_gradient` puts the parts together.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcond import distributed as ranks
from dcond.augment import DiffAug, cutmix
from dcond.device import even_chunks, scaled_batch_size, to_device
from dcond.errors import UnsupportedError
from dcond.matching.fast_forward import FastForward
from dcond.matching.lazy_batch import RealBatch
from dcond.matching.moments import full_precision
from dcond.models import Network
from dcond.multi_formation import decode
from dcond.types import RealData, SyntheticSet

FEATURE_BYTES = (
    2**29
)  # of real features, float32: what is held at a time where all images are embedded


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
    keep = to_device(group.own(keep), images.device)
    return images[torch.arange(k, device=images.device).unsqueeze(1), keep]


def real_by_class(real: RealData, count: int, rng: torch.Generator) -> RealBatch:
    """Draw a real batch of ``count`` images of every class: (k, count, c, h, w), normalised."""
    return normalised_by_class(real, ranks.current().own(real.draw_per_class(count, rng)))


def normalised_by_class(real: RealData, rows: Tensor) -> RealBatch:
    """Return the training images of rows (k, b) as (k, b, c, h, w), normalised."""
    shape = tuple(real.train.images.shape[1:])

    def make(begin: int, end: int) -> Tensor:
        own = rows[begin:end]
        return real.normalised(own.flatten()).view(*own.shape, *shape)

    return RealBatch.made_by(make, (*rows.shape, *shape), real.device)


def siamese_augment(
    augment: DiffAug | None, real: RealBatch, synthetic: Tensor, rng: torch.Generator
) -> tuple[RealBatch, Tensor]:
    """Augment both batches (k, n, c, h, w), normalised, with the same parameters; every class draws its own."""
    if augment is None:
        return real, synthetic
    group = ranks.current()
    draw = augment.draw(
        group.classes(len(real)), (real.shape[-2], real.shape[-1]), rng, shared_family=False
    )
    first, last, _ = group.range().indices(draw.groups)
    own = draw.part(first, last)
    ours = real.then(lambda images, begin, end: augment.apply(images, own.part(begin, end)))
    return ours, augment.apply(synthetic, own)


def mix_within_classes(images: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """CutMix every class of (k, n, c, h, w) among its own images, each with its own chance and box."""
    return _mixed(images, _mixes(images.shape, probability, rng))


def mix_real_within_classes(real: RealBatch, probability: float, rng: torch.Generator) -> RealBatch:
    """Do the same to a real batch."""
    mixes = _mixes(real.shape, probability, rng)
    return real.then(lambda images, begin, end: _mixed(images, mixes[begin:end]))


def _mixes(
    shape: Sequence[int], probability: float, rng: torch.Generator
) -> list[cutmix.Mix | None]:
    group = ranks.current()
    size = torch.Size(shape[1:])
    return [cutmix.draw(size, probability, rng) for _ in range(group.classes(shape[0]))][
        group.range()
    ]


def _mixed(images: Tensor, mixes: Sequence[cutmix.Mix | None]) -> Tensor:
    if not any(mixes):
        return images
    return torch.stack(
        [
            own if mix is None else cutmix.apply(own, mix)
            for own, mix in zip(images, mixes, strict=True)
        ]
    )


def image_gradient(
    synthetic: SyntheticSet, views: Tensor, towards: Tensor, *, retain_graph: bool = False
) -> Tensor:
    """Return ∂L/∂images (n, c, h, w) of all classes: every process adds what its own give.

    Args:
        synthetic: whose images the gradient is of.
        views: what was made of them.
        towards: ∂L/∂views, of the same shape.
        retain_graph: the graph is needed again.
    """
    (gradient,) = torch.autograd.grad(views, synthetic.images, towards, retain_graph=retain_graph)
    ranks.current().sum_([gradient])  # one term of each sum is not zero, so it is exact
    return gradient


@torch.no_grad()
def embed_real(network: Network, real: RealData, chunk: int, rows: Tensor | None = None) -> Tensor:
    """Embed training images in evaluation mode, ``chunk`` at a time: (N, d) on the data's device.

    Args:
        network: what embeds.
        real: the images.
        chunk: images per pass, of up to 64 x 64 pixels: fewer of larger ones.
        rows: which of them, (N,); None for all.
    """
    rows = torch.arange(len(real.train)) if rows is None else rows
    chunk = scaled_batch_size(chunk, real.spec.height, real.spec.width)
    network.eval()
    features = [network.embed(real.normalised(part)) for part in rows.split(chunk)]
    network.train()
    return torch.cat(features)


@dataclass(frozen=True, eq=False)
class ClassFeatures:
    """Features (N, d) of all training images of some classes: of ``rows`` (N,), ascending.

    ``places`` tells for each of the classes where its images stand in them.
    """

    features: Tensor
    rows: Tensor
    places: list[Tensor]


def class_features(
    network: Network, real: RealData, chunk: int, fast: AbstractContextManager[object] | None = None
) -> Iterator[ClassFeatures]:
    """Embed the training split, some classes after others: as many as have :data:`FEATURE_BYTES`, at least one.

    Counted as if all classes of a group were as large as its largest, which k-means pads them to.

    Args:
        network: what embeds.
        real: the images.
        chunk: as of :func:`embed_real`.
        fast: the precision of the passes, a context that can be entered again; features are float32
            at least.
    """

    def embedded(rows: Tensor) -> Tensor:
        with fast or nullcontext():
            return full_precision(embed_real(network, real, chunk, rows))

    width = embedded(real.class_rows[0][:1]).shape[1]
    for classes in _groups(real.class_rows, FEATURE_BYTES // (4 * width)):
        rows = torch.cat(classes).sort().values
        yield ClassFeatures(
            embedded(rows), rows, [torch.searchsorted(rows, own) for own in classes]
        )


def _groups(class_rows: Sequence[Tensor], most: int) -> list[list[Tensor]]:
    """Return neighbouring classes together: one, or as many as have ``most`` rows when padded to one length."""
    groups: list[list[Tensor]] = []
    longest = most
    for rows in class_rows:
        longest = max(longest, len(rows))
        if not groups or (len(groups[-1]) + 1) * longest > most:
            groups.append([])
            longest = len(rows)
        groups[-1].append(rows)
    return groups


def embed_by_class(
    network: Network, images: Tensor, chunk: int, forward: FastForward | None = None
) -> Tensor:
    """Embed (k, n, c, h, w) into (k, n, d), at most ``chunk`` images at a time, by ``forward`` if given.

    Chunks bound the memory and, on a CPU, keep a layer's activations in the cache. A network with
    batch norm sees all classes in one batch, as the public DM code does, so its statistics are
    those of the whole step.

    Raises:
        UnsupportedError: a network with batch norm, and several processes.
    """
    flat = images.flatten(0, 1)
    if has_batch_norm(network):
        if ranks.current().count > 1:
            raise UnsupportedError(
                "the features of a network with batch norm depend on the images of all classes, which several "
                "processes share; take another norm (model.norm=instance) or network, or one process."
            )
        chunk = len(flat)
    parts = [(forward or network.embed)(part) for part in even_chunks(flat, chunk)]
    return torch.cat(parts).view(*images.shape[:2], -1)


def has_batch_norm(network: nn.Module) -> bool:
    """Tell whether what a network makes of an image depends on its batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
