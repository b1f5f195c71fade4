"""Batches of a step: images by class, augmented alike, embedded in chunks.

If several processes share the classes (:mod:`dcond.distributed`), k below is the number of classes
of this process. Every process draws random numbers for all classes and uses those of its own.
:func:`image_gradient` adds up the parts.
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
from dcond.matching.lazy_batch import RealBatch
from dcond.matching.mmd import full_precision
from dcond.models import Network
from dcond.multi_formation import decode
from dcond.rng import Streams
from dcond.types import RealData, SyntheticSet

FEATURE_BYTES = 2**29  # maximum size of real features, float32, held at a time


def decoded_by_class(synthetic: SyntheticSet) -> Tensor:
    """Return decoded images (k, ipc·f², c, h, w), pixel space, differentiable."""
    own, cells = ranks.current().own(synthetic.by_class), synthetic.factor**2
    k = len(own)
    images = decode(own.flatten(0, 1), synthetic.factor, align_corners=synthetic.align_corners)
    by_cell = images.view(cells, k, synthetic.ipc, *images.shape[1:])
    return by_cell.transpose(0, 1).reshape(k, cells * synthetic.ipc, *images.shape[1:])


def subset_per_class(images: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Return ``count`` random images of every class of (k, n, c, h, w); all if n ≤ count."""
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
    """Augment both batches (k, n, c, h, w), normalised, by the same draw; one draw per class."""
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


def siamese_views(
    augment: DiffAug | None,
    batch: RealBatch,
    synthetic: SyntheticSet,
    rng: Streams,
    count: int | None = None,
) -> tuple[RealBatch, Tensor]:
    """Return A_ω(B_c) and A_ω(S_c), (k, n, c, h, w), normalised: both sides of a step.

    Args:
        augment: A; None for none. Every class draws its own ω.
        batch: B, real images, normalised.
        synthetic: the set whose decoded images are S.
        rng: the random streams.
        count: maximum of decoded images per class; a random subset if there are more.
    """
    images = decoded_by_class(synthetic)
    if count is not None:
        images = subset_per_class(images, count, rng.synthetic)
    return siamese_augment(augment, batch, synthetic.spec.normalise(images), rng.augmentation)


def mix_within_classes(images: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """Apply CutMix within every class of (k, n, c, h, w), one draw and box per class."""
    return _mixed(images, _mixes(images.shape, probability, rng))


def mix_real_within_classes(real: RealBatch, probability: float, rng: torch.Generator) -> RealBatch:
    """Apply CutMix within every class of a real batch."""
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
    n, _, height, width = images.shape[1:]
    return cutmix.apply_each(images, [mix or cutmix.nothing(n, (height, width)) for mix in mixes])


def image_gradient(
    synthetic: SyntheticSet, views: Tensor, towards: Tensor, *, retain_graph: bool = False
) -> Tensor:
    """Return ∂L/∂images (n, c, h, w) of all classes, summed over the processes.

    Args:
        synthetic: the set of the images.
        views: tensor computed from them.
        towards: ∂L/∂views, of the same shape.
        retain_graph: keep the graph for another call.
    """
    (gradient,) = torch.autograd.grad(views, synthetic.images, towards, retain_graph=retain_graph)
    ranks.current().sum_([gradient])  # exact: one term of each sum is non-zero
    return gradient


@torch.no_grad()
def embed_real(network: Network, real: RealData, chunk: int, rows: Tensor | None = None) -> Tensor:
    """Embed training images in evaluation mode, ``chunk`` at a time: (N, d) on the data's device.

    Args:
        network: the network that embeds.
        real: the data set.
        chunk: images per pass at up to 64 x 64 pixels; fewer for larger images.
        rows: rows (N,) of the training images; None for all.
    """
    rows = torch.arange(len(real.train)) if rows is None else rows
    chunk = scaled_batch_size(chunk, *real.spec.size, network)
    network.eval()
    features = [network.embed(real.normalised(part)) for part in rows.split(chunk)]
    network.train()
    return torch.cat(features)


@dataclass(frozen=True, eq=False)
class ClassFeatures:
    """Features of all training images of some classes.

    Args:
        features: (N, d).
        rows: (N,), ascending, rows of the images in the training split.
        places: for each class the positions of its images in ``rows``.
    """

    features: Tensor
    rows: Tensor
    places: list[Tensor]


def class_features(
    network: Network, real: RealData, chunk: int, fast: AbstractContextManager[object] | None = None
) -> Iterator[ClassFeatures]:
    """Embed the training split in groups of classes of at most :data:`FEATURE_BYTES`.

    A group has at least one class. Its size is counted with all classes padded to its largest one,
    as k-means does.

    Args:
        network: the network that embeds.
        real: the data set.
        chunk: images per pass, as in :func:`embed_real`.
        fast: precision of the passes, a reusable context. Features are float32 or higher.
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
    """Group neighbouring classes: at most ``most`` rows after padding, or a single class."""
    groups: list[list[Tensor]] = []
    longest = most
    for rows in class_rows:
        longest = max(longest, len(rows))
        if not groups or (len(groups[-1]) + 1) * longest > most:
            groups.append([])
            longest = len(rows)
        groups[-1].append(rows)
    return groups


def class_chunks(network: Network, images: Tensor, chunk: int) -> Sequence[Tensor]:
    """Return (k, n, c, h, w) as batches of at most ``chunk`` images, class by class.

    Chunks bound the memory and, on a CPU, keep a layer's activations in the cache. A network with
    batch norm takes all classes in one batch, as in the public DM code, so that its statistics are
    those of the whole step.

    Raises:
        UnsupportedError: a network with batch norm under several processes.
    """
    flat = images.flatten(0, 1)
    refuse_shared_batch_norm(network)
    return even_chunks(flat, len(flat) if has_batch_norm(network) else chunk)


def refuse_shared_batch_norm(network: nn.Module) -> None:
    """Raise :class:`UnsupportedError` for batch norm under several processes.

    Features depend on the images of all classes then, which the processes share.
    """
    if ranks.current().count > 1 and has_batch_norm(network):
        raise UnsupportedError(
            "features of a network with batch norm depend on the images of all classes, which "
            "several processes share; use another norm (model.norm=instance), another network, or "
            "one process."
        )


def has_batch_norm(network: nn.Module) -> bool:
    """Return whether the network has batch norm in training mode: outputs depend on the batch."""
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        for module in network.modules()
    )
