"""The engine of matching: how, and how fast, gradients and features are computed on a device."""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from dcond.device import scaled_batch_size
from dcond.errors import ConfigError, first_line, one_of, require, whole_number
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.fast_forward import PRECISIONS, FastForward, has_fast_bfloat16, pays_to_compile
from dcond.matching.feature_matching import ClassFeatureMatching
from dcond.matching.gradients import class_gradient, stacked_gradients
from dcond.models import Network
from dcond.types import ImageSpec

log = logging.getLogger(__name__)

CHUNK = {"cpu": 64}  # images per pass: what stays in a CPU's cache
CHUNK_ELSEWHERE = 2048


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How class gradients and class features are computed. No choice changes more than rounding and speed.

    But for networks that draw while they compute (dropout, stochastic depth): those draw once per
    pass, so chunks, and the processes that share the classes, draw otherwise.

    Args:
        precision: of the passes that are differentiated once or not at all (real images, training
            of θ): float32, bfloat16 under autocast, or auto: bfloat16 where the device has
            instructions for it. The synthetic side, the distances and all sums are in float32
            always, but for the convolutions of NVIDIA GPUs, which PyTorch does in TF32: float32
            stops that too (``dcond condense`` does).
        compile: compile these passes: true, false, or auto: on a CPU, where the run is long enough
            to pay for it. Of HMDC's passes only that of real images under cross-entropy.
        classes: how many classes go through the synthetic side at once (``vmap``): a number, or
            auto: one, and on a CUDA device one, or as many as fit in memory, whichever is measured
            to be faster in the first step. A network of which ``vmap`` has another second
            derivative (layer norm) takes one always, and so does one that it refuses (dropout).
        chunk: images per pass, of up to 64 x 64 pixels, fewer of larger ones: real ones, and in
            feature matching the synthetic ones whose graph lives at a time; bounds the memory.
            None: 64 on a CPU, 2,048 elsewhere.
    """

    precision: str = "auto"
    compile: bool | str = "auto"
    classes: int | str = "auto"
    chunk: int | None = None

    def __post_init__(self) -> None:
        one_of("engine.precision", self.precision, PRECISIONS)
        good = isinstance(self.compile, bool) or self.compile == "auto"
        require(good, f"engine.compile={self.compile!r} is unknown; allowed: auto, true, false.")
        if self.classes != "auto":
            whole_number("engine.classes", self.classes)
        if self.chunk is not None:
            whole_number("engine.chunk", self.chunk)

    def bind(self, network: nn.Module, spec: ImageSpec, images: int) -> "ClassGradients":
        """Return the gradients of one network, whose weights may change afterwards, but not its device.

        Args:
            network: θ.
            spec: of the images.
            images: how many real images will pass in the whole run, for the choice to compile.

        Raises:
            ConfigError: the network has no second derivative.
        """
        check_second_derivative(network, spec)
        device = device_of(network)
        automatic = self.classes == "auto"
        classes = (None if device.type == "cuda" else 1) if automatic else int(self.classes)
        if classes != 1 and not takes_several_classes(network, spec):
            classes = 1
        log.debug("classes at once: %s", classes)
        forward = self._fast(network, network, spec, 3 * images)
        return ClassGradients(network, forward, self._chunk(device, spec), classes)

    def features(self, network: Network, spec: ImageSpec, images: int) -> ClassFeatureMatching:
        """Return the features of one network, of which the same holds; ``classes`` plays no part."""
        forward = self._fast(network, network.embed, spec, images)
        return ClassFeatureMatching(network, forward, self._chunk(device_of(network), spec))

    def _fast(
        self, network: nn.Module, called: Callable[[Tensor], Tensor], spec: ImageSpec, passes: int
    ) -> FastForward:
        """Return how a network, or a part of it, is called where it is differentiated once or not at all."""
        device = device_of(network)
        automatic = self.precision == "auto"
        bfloat16 = has_fast_bfloat16(device) if automatic else self.precision == "bfloat16"
        automatic = self.compile == "auto"
        compiled = (
            pays_to_compile(network, spec, passes, device) if automatic else bool(self.compile)
        )
        log.debug("passes of real images: bfloat16 %s, compiled %s", bfloat16, compiled)
        return FastForward(called, bfloat16=bfloat16, compiled=compiled)

    def _chunk(self, device: torch.device, spec: ImageSpec) -> int:
        return scaled_batch_size(
            self.chunk or CHUNK.get(device.type, CHUNK_ELSEWHERE), spec.height, spec.width
        )


def device_of(network: nn.Module) -> torch.device:
    """Return where a network's weights are."""
    return next(network.parameters()).device


def takes_several_classes(network: nn.Module, spec: ImageSpec) -> bool:
    """Tell whether two classes at once get the image gradients of two in turn; a copy in float64 is tried on noise.

    ``vmap`` has a wrong second derivative of layer norm and of an instance norm with weights,
    silently (PyTorch 2.11 and 2.15). What it refuses to do is left to the first step; of a network
    that cannot be copied, or not computed so, these norms tell.
    """
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(
        2, 2, spec.channels, spec.height, spec.width, generator=rng, dtype=torch.float64
    )
    images, labels = images.requires_grad_(True), torch.arange(2) % spec.classes
    try:
        tried = copy.deepcopy(network).cpu().double().eval()
        in_turn = [
            class_gradient(tried, x, label, create_graph=True)
            for x, label in zip(images, labels, strict=True)
        ]
        wanted = _image_gradient([g for own in in_turn for g in own], images)
    except RuntimeError:
        return not any(
            isinstance(module, nn.LayerNorm | _InstanceNorm) for module in network.modules()
        )
    try:
        found = _image_gradient(stacked_gradients(tried, images, labels), images)
    except RuntimeError:
        return True
    return torch.allclose(found, wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))


def _image_gradient(gradients: Sequence[Tensor], images: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(torch.stack([g.square().sum() for g in gradients]).sum(), images)
    return found


def check_second_derivative(network: nn.Module, spec: ImageSpec) -> None:
    """Refuse a network whose gradients PyTorch cannot differentiate again; it is tried on one image.

    Raises:
        ConfigError: a layer has no second derivative, such as hard sigmoid.
    """
    try:
        tried = copy.deepcopy(
            network
        ).eval()  # which not every network of a user's can be: then it is not tried
        weights = [weight for weight in tried.parameters() if weight.requires_grad]
        image = weights[0].new_zeros(1, spec.channels, spec.height, spec.width, requires_grad=True)
        first = torch.autograd.grad(
            tried(image).square().sum(), weights, create_graph=True, allow_unused=True
        )
        torch.autograd.grad([g.sum() for g in first if g is not None and g.requires_grad], image)
    except RuntimeError as error:
        if str(error).startswith("derivative for") and "not implemented" in str(
            error
        ):  # what else is, is not for here
            raise ConfigError(
                f"the network {type(network).__name__} has no second derivative, which gradient matching needs "
                f"({first_line(error)}); choose another network, or method=m3d or method=dm."
            ) from error
