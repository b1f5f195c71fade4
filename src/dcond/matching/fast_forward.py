"""Fast passes of a network, in bfloat16 and compiled, that are differentiated at most once.

Training steps, gradients and features of real images need no second derivative, so they can run
this way. The synthetic side of gradient matching cannot, because torch.compile does not support
double backward.
"""

import copy
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dcond.device import is_out_of_memory
from dcond.errors import first_line
from dcond.types import ImageSpec

log = logging.getLogger(__name__)

# On a CPU, runs with more first-order floating-point operations than this are compiled. This is 26
# steps of benchmarks/class_gradients.py, about 100 s on two cores in float32; compiling saves about
# 20 s of them.
WORTH_COMPILING = 2e13

# What a trial pass raises for a network that cannot be copied, or that is fixed to a device.
TRIAL_ERRORS = (RuntimeError, TypeError, copy.Error, pickle.PickleError)


class FastForward:
    """Computes a network's logits or features in passes that are differentiated at most once.

    Args:
        network: maps images to logits or features. Changes of its weights and mode take effect.
        bfloat16: run under autocast; weights, gradients and results keep the network's dtype.
        compiled: compile, once per shape. If that fails (no C++ compiler), run without.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], *, bfloat16: bool, compiled: bool):
        self.network = network
        self.bfloat16 = bfloat16
        self.compiled = torch.compile(network, dynamic=False) if compiled else None
        # A forward pass compiles its backward pass as well: by default that is done when it first
        # runs, where a failing compiler would end the run.
        self._with_backward: AbstractContextManager[object] = (
            torch._functorch.config.patch(force_non_lazy_backward_lowering=True)
            if compiled
            else nullcontext()
        )
        # By default PyTorch compiles eight shapes and runs others uncompiled, with other rounding.
        self._all_shapes: AbstractContextManager[object] = (
            torch._dynamo.config.patch(recompile_limit=256) if compiled else nullcontext()
        )
        if compiled:  # no warning that there is no GPU
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (n, k), or features (n, d), of images (n, c, h, w), normalised."""
        with self.precision(images.device):
            return self._forward(images).to(images.dtype)

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which a pass runs."""
        return precision_context(device, bfloat16=self.bfloat16)

    def _forward(self, images: Tensor) -> Tensor:
        if self.compiled is not None:
            try:
                with self._with_backward, self._all_shapes:
                    found: Tensor = self.compiled(images)
                return found
            except RuntimeError as error:  # the network's own errors come again below
                if is_out_of_memory(error):  # not the compiler's
                    raise
                reason = first_line(getattr(error, "inner_exception", error))
                log.warning("torch.compile failed; continuing without it: %s", reason)
                self.compiled = None
        return self.network(images)


def precision_context(device: torch.device, *, bfloat16: bool) -> AbstractContextManager[object]:
    """Return the context of a pass in bfloat16, or in the precision of its tensors; reusable."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if bfloat16 else nullcontext()


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for matrix products in bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def pays_to_compile(network: nn.Module, spec: ImageSpec, passes: int, device: torch.device) -> bool:
    """Return whether compiling saves time: on a CPU with a C++ compiler, for many passes.

    The answer is the same for two runs on one machine, so a resumed run takes the same path. A
    network whose operations cannot be counted is not compiled.

    Args:
        network: the network.
        spec: shape of the images.
        passes: forward passes of one image in all steps of the method; a backward pass counts as
            two. ``max_steps`` and ``max_seconds`` do not count.
        device: device of the run.
    """
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    if device.type != "cpu" or not any(map(shutil.which, compilers)):
        return False
    try:
        return passes * forward_flops(network, spec) > WORTH_COMPILING
    except TRIAL_ERRORS:  # an error of the network itself comes again in the first step
        return False


def forward_flops(network: nn.Module, spec: ImageSpec) -> int:
    """Return the floating-point operations of a forward pass of one image."""
    shape_only = copy.deepcopy(network).to("meta", torch.float32).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shape_only(torch.empty(1, spec.channels, *spec.size, device="meta"))
    return int(counter.get_total_flops())
