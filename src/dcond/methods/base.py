"""What a method is: three functions over explicit state, and no loop of its own."""

from typing import Any, Protocol

from torch import Tensor

from dcond.rng import Streams
from dcond.types import RealData, SyntheticSet


class State(Protocol):
    """Everything a method keeps between steps; all of it can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """Return tensors, numbers and strings only: checkpoints are read with ``weights_only=True``."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        ...


class Method(Protocol):
    """A condensation method. Hyper-parameters sit on the object; moving parts in its :class:`State`.

    A method may say ``shares_classes: ClassVar = True``: under several processes
    (:mod:`dcond.distributed`) each computes its own classes, which is so for one that takes its
    batches and its image gradient from :mod:`dcond.matching.batches` and trains by
    :func:`~dcond.distributed.run_on_rank0`. One that takes steps and does not say so is refused there.
    """

    @property
    def steps(self) -> int:
        """How often the loop calls :meth:`step`; 0 where the first images are the result."""

    @property
    def factor(self) -> int:
        """The multi-formation factor of the sets it makes."""

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> State:
        """Make networks, optimisers, accumulators; may fill ``synthetic.images`` in place."""
        ...

    def step(self, real: RealData, synthetic: SyntheticSet, state: Any) -> dict[str, Tensor]:
        """Update ``synthetic.images`` in place once; return named scalars, ``loss`` among them.

        They are sums over classes, which under several processes are this one's; the loop adds them
        up.
        """
        ...


class NoState:
    """The state of a method that keeps none."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty dict."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing."""
