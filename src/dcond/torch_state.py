"""PyTorch's global state, which a run neither sees nor changes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

# Held for a whole run from Python: PyTorch's global generator and defaults are one per process.
one_at_a_time = threading.RLock()


@contextmanager
def usual_torch() -> Iterator[None]:
    """Use PyTorch's defaults for the length of a block, whatever the program around it has set.

    New tensors are float32 and on the CPU, gradients are computed, and matrix products are in full
    precision, neither in TF32 nor under autocast. Another thread's block waits for the end of this
    one. The caller's CUDA device is current again afterwards.
    """
    with one_at_a_time:
        gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        try:
            with _usual_defaults():
                yield
        finally:
            if gpu is not None and torch.cuda.current_device() != gpu:
                torch.cuda.set_device(gpu)


@contextmanager
def _usual_defaults() -> Iterator[None]:
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    backends: Any = torch.backends
    products = (backends.cuda.matmul, backends.mkldnn.matmul)
    precisions = [each.fp32_precision for each in products]
    torch.set_default_dtype(torch.float32)
    try:
        for each in products:
            if each.fp32_precision in ("tf32", "bf16"):
                each.fp32_precision = "ieee"
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False) if torch.cuda.is_available() else nullcontext(),
            nullcontext() if device.type == "cpu" else torch.device("cpu"),
        ):
            yield
    finally:
        torch.set_default_dtype(dtype)
        for each, before in zip(products, precisions, strict=True):
            if each.fp32_precision != before:
                each.fp32_precision = before


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """Have NVIDIA GPUs convolve in float32, where PyTorch's default is TF32.

    TF32 has 10 bits for the fraction of a number, float32 has 23. Matrix products use float32
    anyway.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # set at import
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before
