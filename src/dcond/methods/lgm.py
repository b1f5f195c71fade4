"""LGM: linear gradient matching, with a frozen network."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dcond.augment import DiffAug
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
    start from the first images (``init``); images have the size of the data set; float32.

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
        state = LGMState(network, pyramid, 0, rng)
        _store(synthetic, pyramid)
        return state

    def step(self, real: RealData, synthetic: SyntheticSet, state: LGMState) -> dict[str, Tensor]:
        """Update the images of all classes once."""
        pyramid, rng = state.pyramid, state.rng
        if state.steps and state.steps % self.grow_every == 0:
            pyramid.grow()
            _store(synthetic, pyramid)
        state.steps += 1
        views = decoded_by_class(synthetic).repeat(1, self.copies, 1, 1, 1)
        k, count = views.shape[:2]
        rows = real.draw_per_class(count, rng.real)  # B
        with torch.no_grad():
            z = [
                state.network.embed(self._augmented(real.normalised(part), real.spec, rng))
                for part in rows.flatten().split(_chunk(state.network, real.spec))
            ]
        weight = HEAD_STD * torch.randn(k, z[0].shape[1], generator=rng.networks)
        weight = to_device(weight.to(z[0].dtype), real.device)
        labels = torch.arange(k, device=real.device).repeat_interleave(count)
        bias = weight.new_zeros(k)
        theirs = head_gradient(torch.cat(z), labels, weight, bias)  # G(B)
        images = self._augmented(synthetic.spec.normalise(views.flatten(0, 1)), synthetic.spec, rng)
        parts = images.split(_chunk(state.network, real.spec))
        own = [checkpoint(state.network.embed, part, use_reentrant=False) for part in parts]
        ours = head_gradient(torch.cat(own), labels, weight, bias)  # G(S)
        loss = whole_cosine([ours], [theirs])
        (towards,) = torch.autograd.grad(loss, views)
        pyramid.step(image_gradient(synthetic, views, towards))
        _store(synthetic, pyramid)
        return {"loss": loss.detach()}

    def _augmented(self, images: Tensor, spec: ImageSpec, rng: Streams) -> Tensor:
        """Return normalised images (n, c, h, w), each augmented by itself, half of them noisy."""
        if self.augment is not None:
            images = self.augment.per_image(images, rng.augmentation)
        if not self.noise:
            return images
        noise = NOISE_MEAN + NOISE_STD * torch.randn(images.shape, generator=rng.augmentation)
        noisy = torch.rand(len(images), 1, 1, 1, generator=rng.augmentation) < NOISE_P
        added = to_device((noise * noisy).to(images.dtype), images.device)
        return spec.normalise(spec.denormalise(images) + added)


def _chunk(network: Network, spec: ImageSpec) -> int:
    return scaled_batch_size(CHUNK, spec.height, spec.width, network)


def _store(synthetic: SyntheticSet, pyramid: ImagePyramid) -> None:
    """Store the images of the levels; they are the leaf of the next step's gradient."""
    with torch.no_grad():
        synthetic.images.copy_(pyramid.images())
    synthetic.images.requires_grad_()
