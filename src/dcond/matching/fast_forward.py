"""Fast passes of a network that are differentiated once or not at all: in bfloat16, and compiled.

Training steps, gradients and features of real images need no second derivative, so they may run
this way. The synthetic side of gradient matching may not: PyTorch's compiler has no double
backward.
"""

import copy
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dcond.errors import first_line
from dcond.types import ImageSpec

log = logging.getLogger(__name__)

PRECISIONS = ("auto", "float32", "bfloat16")

# A run with more first-order work than this is compiled on a CPU: 26 steps of
# benchmarks/class_gradients.py, about 100 s on two cores in float32, of which compiled passes save
# about 20.
WORTH_COMPILING = 2e13


class FastForward:
    """Logits or features of a network in its own dtype, for passes that are differentiated once or not at all.

    Args:
        network: maps images to them, called as it is at the time: fresh weights and modes take
            effect.
        bfloat16: run under autocast; weights, their gradients and what is returned stay in the
            network's dtype.
        compiled: run compiled, once per shape. Where that fails (no C++ compiler) the run goes on
            without.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], *, bfloat16: bool, compiled: bool):
        self.network = network
        self.bfloat16 = bfloat16
        self.compiled = torch.compile(network, dynamic=False) if compiled else None
        if compiled:  # else it tells every user without a GPU that there is none
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (n, k), or features (n, d), of images (n, c, h, w), normalised."""
        with self.precision(images.device):
            found = self._found(images)
        return found.to(images.dtype)

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context that a pass runs in."""
        return torch.autocast(device.type, dtype=torch.bfloat16) if self.bfloat16 else nullcontext()

    def _found(self, images: Tensor) -> Tensor:
        if self.compiled is not None:
            try:
                found: Tensor = self.compiled(images)
                return found
            except torch.OutOfMemoryError:  # a RuntimeError too, and no fault of the compiler
                raise
            except (
                RuntimeError
            ) as error:  # the compiler's own errors are RuntimeErrors; the network's come again
                log.warning(
                    "torch.compile failed, so the run goes on without it: %s", first_line(error)
                )
                self.compiled = None
        return self.network(images)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Tell whether the device multiplies matrices in bfloat16 by its own instructions."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def pays_to_compile(network: nn.Module, spec: ImageSpec, passes: int, device: torch.device) -> bool:
    """Tell whether a run's passes are more work than compiling costs: on a CPU with a C++ compiler only.

    It depends on nothing that varies between two runs on one machine, so a resumed run takes the
    same path.

    Args:
        network: what is passed.
        spec: of the images.
        passes: of one image forward, in the whole run; backward counts as two.
        device: what computes.
    """
    if device.type != "cpu" or not any(
        shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")
    ):
        return False
    return passes * forward_flops(network, spec) > WORTH_COMPILING


def forward_flops(network: nn.Module, spec: ImageSpec) -> int:
    """Return the floating-point operations of one image, forward."""
    shape_only = copy.deepcopy(network).to("meta", torch.float32).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shape_only(torch.empty(1, spec.channels, spec.height, spec.width, device="meta"))
    return int(counter.get_total_flops())
