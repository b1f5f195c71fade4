"""How many classes pass through a network at once."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from dcond.device import fastest, is_out_of_memory
from dcond.distributed import Ranks, current, use_group
from dcond.errors import first_line

log = logging.getLogger(__name__)

T = TypeVar("T")

TOO_LARGE = (
    "gradient matching of one class does not fit in the device's memory; "
    "use a smaller engine.chunk, method.batch_real or ipc."
)


class AtOnce:
    """Base of what takes several classes at once: a number that is given, or measured on first use.

    Attributes:
        classes: classes at once; None to choose the fastest number in the first step.
    """

    classes: int | None

    def in_groups(self, step: Callable[[int], T], count: int, device: torch.device) -> T:
        """Return ``step(m)``, which does the work of all ``count`` classes, m at a time."""
        if self.classes is None:
            alone = Ranks(local_count=current().local_count)
            with use_group(alone):  # every process measures alone; the smallest number counts
                found = _or_none(lambda: fastest(count, step, device, TOO_LARGE))
            self.classes = -int(current().largest(-(found or 1))[0])
            log.info("%s takes %d of %d classes at once", type(self).__name__, self.classes, count)
        if self.classes > 1:
            many = self.classes
            done = _or_none(lambda: step(many))
            if done is not None:
                return done
            self.classes = 1
        return step(1)


def _or_none(work: Callable[[], T]) -> T | None:
    """Return ``work()`` on several classes at once; None with a warning if ``vmap`` fails.

    ``vmap`` rejects some layers, such as dropout. Any other error comes again with one class.
    """
    try:
        return work()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        log.warning(
            "this network cannot take several classes at once; taking them one by one: %s",
            first_line(error),
        )
        return None
