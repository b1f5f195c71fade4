"""The engine of matching: how gradients and features are computed on a device."""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from dcond.device import scaled_batch_size
from dcond.errors import ConfigError, first_line
from dcond.matching.class_gradients import ClassGradients
from dcond.matching.distillation import Distillation
from dcond.matching.fast_forward import (
    TRIAL_ERRORS,
    FastForward,
    has_fast_bfloat16,
    pays_to_compile,
    precision_context,
)
from dcond.matching.feature_matching import ClassFeatureMatching
from dcond.matching.gradients import class_gradient, stacked_gradients
from dcond.matching.target_bank import TargetBank
from dcond.models import Network
from dcond.settings import PositiveInt, settings
from dcond.types import ImageSpec

log = logging.getLogger(__name__)

CHUNK = {"cpu": 64}  # images per pass whose activations stay in a CPU's cache
CHUNK_ELSEWHERE = 2048


@settings
class Engine:
    """How class gradients and class features are computed.

    The settings change rounding and speed only. Exception: networks that draw random numbers while
    they compute (dropout, stochastic depth) draw once per pass, so their draws depend on ``chunk``
    and on the number of processes.

    Args:
        precision: of passes that are differentiated at most once (real images, training of θ):
            "float32", "bfloat16" (autocast), or "auto" for bfloat16 if the device has instructions
            for it. The synthetic side, the distances and all sums are in float32. On NVIDIA GPUs
            PyTorch does convolutions in TF32; "float32" prevents that too (``dcond condense``
            does).
        compile: whether these passes, and those of synthetic images in feature matching, are
            compiled; "auto": on a CPU, if the method has steps enough. Of HMDC's passes only that
            of real images under cross-entropy is compiled.
        classes: classes whose gradients are taken at once (``vmap``); with more than one the real
            side is not compiled. "auto": one; on a CUDA device one or as many as fit in memory,
            whichever is faster in the first step.
            Networks that ``vmap`` cannot handle, or whose second derivative it gets wrong, always
            take one.
        chunk: images per pass at up to 64 x 64 pixels, fewer for larger images; bounds the memory.
            In feature matching also the synthetic images whose graph exists at a time. None: 64 on
            a CPU, 2,048 elsewhere.
    """

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    classes: PositiveInt | Literal["auto"] = "auto"
    chunk: PositiveInt | None = None

    def bind(
        self, network: nn.Module, spec: ImageSpec, images: int, bank: TargetBank | None = None
    ) -> ClassGradients:
        """Return the class gradients of a network. Its weights may change later, its device not.

        Args:
            network: θ.
            spec: shape of the images.
            images: real images that pass in the whole run; decides whether to compile.
            bank: keeps the gradients of real images.

        Raises:
            ConfigError: the network has no second derivative.
        """
        check_second_derivative(network, spec)
        forward = self._fast(network, network, spec, 3 * images)
        chunk = self._chunk([network], spec)
        return ClassGradients(network, forward, chunk, self._classes([network], spec), bank)

    def distillation(self, networks: Sequence[Network], spec: ImageSpec) -> Distillation:
        """Return the gradients of the mutual distillation of networks; see :meth:`bind`."""
        device = device_of(networks[0])
        fast = precision_context(device, bfloat16=self._bfloat16(device))
        return Distillation(
            networks, self._chunk(networks, spec), self._classes(networks, spec), fast
        )

    def features(
        self,
        network: Network,
        spec: ImageSpec,
        images: int,
        synthetic: int,
        bank: TargetBank | None = None,
    ) -> ClassFeatureMatching:
        """Return the class features of a network; see :meth:`bind`. ``classes`` has no effect.

        Features of synthetic images are differentiated once, so these passes may be compiled too.
        They are in float32.

        Args:
            network: φ.
            spec: shape of the images.
            images: real images that pass in the whole run.
            synthetic: synthetic images that pass in the whole run.
            bank: keeps the features of real images.
        """
        forward = self._fast(network, network.embed, spec, images)
        exact = replace(self, precision="float32")
        ours = exact._fast(network, network.embed, spec, 3 * synthetic)
        chunk = self._chunk([network], spec)
        return ClassFeatureMatching(network, forward, ours, chunk, bank)

    def logits(self, network: nn.Module, spec: ImageSpec, images: int) -> FastForward:
        """Return the logits of a network in training; see :meth:`bind`."""
        return self._fast(network, network, spec, 3 * images)

    def _fast(
        self, network: nn.Module, called: Callable[[Tensor], Tensor], spec: ImageSpec, passes: int
    ) -> FastForward:
        """Return ``called``, a network or part of it, for passes differentiated at most once."""
        device = device_of(network)
        bfloat16, compiled = self._bfloat16(device), self.compile
        if compiled == "auto":
            compiled = pays_to_compile(network, spec, passes, device)
        log.debug("fast passes: bfloat16 %s, compiled %s", bfloat16, compiled)
        return FastForward(called, bfloat16=bfloat16, compiled=compiled)

    def _bfloat16(self, device: torch.device) -> bool:
        if self.precision == "auto":
            return has_fast_bfloat16(device)
        return self.precision == "bfloat16"

    def _classes(self, networks: Sequence[nn.Module], spec: ImageSpec) -> int | None:
        """Return how many classes go at once; None to measure."""
        classes = None if self.classes == "auto" else self.classes
        if self.classes == "auto" and device_of(networks[0]).type != "cuda":
            classes = 1
        if classes != 1 and not all(supports_vmap(network, spec) for network in networks):
            classes = 1
        log.debug("classes at once: %s", classes)
        return classes

    def _chunk(self, networks: Sequence[nn.Module], spec: ImageSpec) -> int:
        chunk = self.chunk or CHUNK.get(device_of(networks[0]).type, CHUNK_ELSEWHERE)
        return min(scaled_batch_size(chunk, *spec.size, network) for network in networks)


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's weights."""
    return next(network.parameters()).device


def supports_vmap(network: nn.Module, spec: ImageSpec) -> bool:
    """Return whether ``vmap`` over two classes gives the same image gradients as a loop.

    A copy of the network in float64 is tried on noise, since ``vmap`` gets some second derivatives
    wrong without an error (:mod:`~dcond.matching.plain_norms`). A network that cannot be tried is
    not trusted. Networks that ``vmap`` rejects are handled in the first step.
    """
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(2, 2, spec.channels, *spec.size, generator=rng, dtype=torch.float64)
    images, labels = images.requires_grad_(True), torch.arange(2) % spec.classes
    try:
        tried = copy.deepcopy(network).cpu().double().eval()
        in_turn = [
            class_gradient(tried, x, label, create_graph=True)
            for x, label in zip(images, labels, strict=True)
        ]
        expected = _image_gradient([g for own in in_turn for g in own], images)
    except TRIAL_ERRORS:
        return False
    try:
        found = _image_gradient(stacked_gradients(tried, images, labels), images)
    except RuntimeError:
        return True
    return torch.allclose(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def _image_gradient(gradients: Sequence[Tensor], images: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(torch.stack([g.square().sum() for g in gradients]).sum(), images)
    return found


def check_second_derivative(network: nn.Module, spec: ImageSpec) -> None:
    """Check on one image that a network's gradients can be differentiated again.

    Raises:
        ConfigError: a layer, such as hard sigmoid, has no second derivative.
    """
    try:
        tried = copy.deepcopy(network).eval()  # networks that cannot be copied are not checked
        weights = [weight for weight in tried.parameters() if weight.requires_grad]
        image = weights[0].new_zeros(1, spec.channels, *spec.size, requires_grad=True)
        first = torch.autograd.grad(
            tried(image).square().sum(), weights, create_graph=True, allow_unused=True
        )
        torch.autograd.grad([g.sum() for g in first if g is not None and g.requires_grad], image)
    except TRIAL_ERRORS as error:
        message = str(error)  # other errors come again in the first step
        if message.startswith("derivative for") and "not implemented" in message:
            raise ConfigError(
                f"the network {type(network).__name__} has no second derivative, which this "
                f"method needs ({first_line(error)}); use fused_attention=false if it has "
                "attention, another network, or method=m3d or method=dm."
            ) from error
