"""LGM: linear gradient matching, with a frozen network."""

import logging
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dcond.augment import DiffAug, Draw
from dcond.device import scaled_batch_size, to_device
from dcond.matching.batches import decoded_by_class, image_gradient
from dcond.matching.distances import whole_cosine
from dcond.matching.head_gradients import head_gradient
from dcond.methods.base import SavedState
from dcond.models import Network, Recipe
from dcond.rng import Streams
from dcond.settings import PositiveFloat, PositiveInt, settings
from dcond.training.pyramid import ImagePyramid
from dcond.types import ImageSpec, RealData, SyntheticSet

log = logging.getLogger(__name__)

Drawn = tuple[Draw | None, Tensor | None]  # augmentation and noise (n, c, h, w) of n images
HEAD_STD = 0.01  # of the random heads
NOISE_MEAN, NOISE_STD, NOISE_P = 0.5, 0.2, 0.5  # added to pixels of half of the images
CHUNK = 256  # images per pass at up to 64 x 64 pixels; passes are computed again in backward


@dataclass
class LGMState(SavedState):
    """The frozen network, the levels of the images with their optimiser, and the steps done."""

    not_saved: ClassVar = ("network", "rng")  # the network is built from the seed again

    network: Network
    pyramid: ImagePyramid
    steps: int
    rng: Streams


@settings
class LGM:
    """Match the gradients of a random linear classifier on the features of a frozen network.

    L = 1 - cos(vec G(B), vec G(S)),  G(X) = ∂/∂(W, b) of mean CE(W φ(A(x)) + b, y) over all classes

    with a new W ~ N(0, 0.01²), b = 0 in every step, and images in the form of
    :class:`~dcond.training.pyramid.ImagePyramid`. G has a closed form, so one backward
    pass through φ gives the gradient. Every image is augmented by itself, then half of all get
    noise.

    Paper: Cazenavette, Torralba and Sitzmann, Dataset distillation for pre-trained self-supervised
    vision models, arXiv 2511.16674. Code: github GeorgeCazenavette/linear-gradient-matching,
    distillation/linear_gm.py. Differs: real images are drawn in equal numbers per class; levels
    start from the initial images (``init``); images have the size of the data set; float32.

    Args:
        network: recipe of φ, with trained weights (``weights=FILE``, or timm's ``pretrained``);
            without them φ is one random network.
        augment: A, drawn for every image; None for none.
        steps: image updates.
        lr: learning rate of Adam, for every level.
        copies: augmented copies of every synthetic image, and real images per synthetic one.
        grow_every: steps between levels.
        noise: add noise N(0.5, 0.2²) to the pixels of half of the augmented images.
        factor: multi-formation factor.
    """

    network: Recipe
    augment: DiffAug | None = None
    steps: PositiveInt
    lr: PositiveFloat = 0.002
    copies: PositiveInt = 10
    grow_every: PositiveInt = 200
    noise: bool = True
    factor: PositiveInt = 1

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> LGMState:
        """Make the network and the levels; the images become those of the first level."""
        network = self.network.build(real.spec, rng.networks, real.device)
        network.eval().requires_grad_(False)
        pyramid = ImagePyramid(synthetic.images, self.lr)
        if (needed := self.grow_every * (len(pyramid.levels) - 1)) >= self.steps:
            log.warning(
                "the last of %d levels joins after %d steps, and there are %d: the images will be "
                "coarse; lower method.grow_every, or take more steps",
                *(len(pyramid.levels), needed, self.steps),
            )
        _store(synthetic, pyramid)
        return LGMState(network, pyramid, 0, rng)

    def step(self, real: RealData, synthetic: SyntheticSet, state: LGMState) -> dict[str, Tensor]:
        """Update the images of all classes once."""
        pyramid, rng = state.pyramid, state.rng
        if state.steps and state.steps % self.grow_every == 0:
            pyramid.grow()
            _store(synthetic, pyramid)
        state.steps += 1
        views = decoded_by_class(synthetic).repeat(1, self.copies, 1, 1, 1)
        k, count = views.shape[:2]
        rows = real.draw_per_class(count, rng.real).flatten()  # B
        z = self._embedded(real, rows, state)
        weight = HEAD_STD * torch.randn(k, z.shape[1], generator=rng.networks)
        weight = to_device(weight.to(z.dtype), real.device)
        labels = torch.arange(k, device=real.device).repeat_interleave(count)
        bias = weight.new_zeros(k)
        theirs = head_gradient(z, labels, weight, bias)  # G(B)
        images, spec = views.flatten(0, 1), synthetic.spec
        drawn = self._draw(len(images), spec, rng.augmentation)
        images = self._augmented(spec.normalise(images), spec, drawn)
        parts = images.split(_chunk(state.network, real.spec))
        embed = state.network.embed
        if len(parts) > 1:
            embed = partial(checkpoint, embed, use_reentrant=False)
        own = [embed(part) for part in parts]
        ours = head_gradient(torch.cat(own), labels, weight, bias)  # G(S)
        loss = whole_cosine([ours], [theirs])
        (towards,) = torch.autograd.grad(loss, views)
        pyramid.step(image_gradient(synthetic, views, towards))
        _store(synthetic, pyramid)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def _embedded(self, real: RealData, rows: Tensor, state: LGMState) -> Tensor:
        """Return features (n, d) of training images, augmented; all draws are before any read."""
        chunk = _chunk(state.network, real.spec)
        drawn = self._draw(len(rows), real.spec, state.rng.augmentation)
        return torch.cat(
            [
                state.network.embed(
                    self._augmented(real.normalised(rows[i : i + chunk]), real.spec, drawn, i)
                )
                for i in range(0, len(rows), chunk)
            ]
        )

    def _draw(self, count: int, spec: ImageSpec, rng: torch.Generator) -> Drawn:
        """Draw the augmentation of every image, and the noise, 0 for half of them."""
        draw, noise = None, None
        if self.augment is not None:
            draw = self.augment.draw_per_image(count, spec.size, rng)
        if self.noise:
            noise = torch.randn(count, spec.channels, *spec.size, generator=rng)
            noise.mul_(NOISE_STD).add_(NOISE_MEAN)
            noise.mul_(torch.rand(count, 1, 1, 1, generator=rng) < NOISE_P)
        return draw, noise

    def _augmented(self, images: Tensor, spec: ImageSpec, drawn: Drawn, start: int = 0) -> Tensor:
        """Return normalised images (n, c, h, w), changed as drawn for those from ``start`` on."""
        draw, noise = drawn
        end = start + len(images)
        if self.augment is not None and draw is not None:
            images = self.augment.apply(images[:, None], draw.part(start, end))[:, 0]
        if noise is None:
            return images
        added = to_device(noise[start:end].to(images.dtype), images.device)
        return spec.normalise(spec.denormalise(images) + added)


def _chunk(network: Network, spec: ImageSpec) -> int:
    return scaled_batch_size(CHUNK, *spec.size, network)


def _store(synthetic: SyntheticSet, pyramid: ImagePyramid) -> None:
    """Store the images of the levels; they are the leaf of the next step's gradient."""
    with torch.no_grad():
        synthetic.images.copy_(pyramid.images())
    synthetic.images.requires_grad_()
