"""Which of two ways is faster on this device: found by measuring both, once, within its memory."""

import time
from collections.abc import Callable
from contextlib import suppress

import torch

from dcond.errors import DcondError


def fastest(count: int, step: Callable[[int], object], device: torch.device, too_large: str) -> int:
    """Return how many at once are fastest: one, or the largest of k, k/2, k/4 … that fits in memory.

    Args:
        count: k, how many there are.
        step: ``step(m)`` does the work of all k, m at a time.
        device: where it computes.
        too_large: what the user is told when not even one fits.

    Raises:
        DcondError: not even one fits.
    """
    times = {}
    at_once = count
    while at_once > 1:
        with suppress(torch.OutOfMemoryError):
            times[at_once] = seconds(lambda: step(at_once), device)  # noqa: B023 - called at once
            break
        at_once = -(-at_once // 2)
    try:
        times[1] = seconds(lambda: step(1), device)
    except torch.OutOfMemoryError as error:
        raise DcondError(too_large) from error
    return min(times, key=lambda way: times[way])


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the second of two calls."""
    took = 0.0
    for _ in range(2):
        start = time.perf_counter()
        call()
        wait_for(device)
        took = time.perf_counter() - start
    return took


def wait_for(device: torch.device) -> None:
    """Wait until a device has computed what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
