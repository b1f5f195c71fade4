"""The interface of a condensation method: settings, explicit state, and no loop of its own."""

from collections.abc import Container
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from dcond.augment import DiffAug
from dcond.matching.engine import Engine
from dcond.rng import Streams
from dcond.settings import Momentum, PositiveInt, settings
from dcond.training.image_optim import PixelBox
from dcond.types import RealData, SyntheticSet


class State(Protocol):
    """Everything that changes between steps; all of it can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """Return tensors, numbers and strings only: checkpoints load with ``weights_only=True``."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        ...


class Method(Protocol):
    """A condensation method. The object holds settings; what changes is in its :class:`State`.

    A method may declare ``shares_classes: ClassVar = True``. Then, under several processes
    (:mod:`dcond.distributed`), each computes its own classes. The method must take its batches and
    its image gradient from :mod:`dcond.matching.batches` and train networks by
    :func:`~dcond.distributed.run_on_rank0`. A method that takes steps and does not declare it is
    rejected under several processes.
    """

    @property
    def steps(self) -> int:
        """Number of calls of :meth:`step`; 0 if the initial images are the result."""

    @property
    def factor(self) -> int:
        """Multi-formation factor of the synthetic set."""

    def init(self, real: RealData, synthetic: SyntheticSet, rng: Streams) -> State:
        """Make networks, optimisers and accumulators; may fill ``synthetic.images`` in place."""
        ...

    def step(self, real: RealData, synthetic: SyntheticSet, state: Any) -> dict[str, Tensor]:
        """Update ``synthetic.images`` in place once and return named scalars, including ``loss``.

        The scalars are sums over classes. Under several processes they are sums over the classes of
        this process, and the loop adds them up.
        """
        ...

    # Optional: finish(synthetic: SyntheticSet, state) -> SyntheticSet, after the last step: the set
    # with what is learned beside the images, such as soft labels.


@settings
class NoSteps:
    """Base class of a method without steps: the images that ``init`` stores are the result."""

    steps: Literal[0] = 0

    def step(self, real: RealData, synthetic: SyntheticSet, state: Any) -> dict[str, Tensor]:
        """Not called."""
        raise AssertionError("a selection has no steps")


@settings
class MatchingSettings:
    """The settings that the matching methods share.

    Args:
        engine: how features or class gradients are computed, and networks trained.
        augment: Siamese augmentation, one draw per class for real and synthetic images together;
            None for none.
        steps: image updates, of all classes each.
        momentum: momentum of the images.
        pixel_box: "project" keeps the images in [0, 1], "free" does not.
    """

    shares_classes: ClassVar = True

    engine: Engine = Engine()
    augment: DiffAug | None = None
    steps: PositiveInt
    momentum: Momentum = 0.5
    pixel_box: PixelBox = "project"


class TrainsNetworks:
    """Base class of a method that trains its networks by SGD."""

    lr_network: float
    momentum_network: float
    weight_decay: float = 0.0

    def _optimiser(self, network: nn.Module) -> torch.optim.SGD:
        """Return a new optimiser of a network's weights."""
        return torch.optim.SGD(
            network.parameters(),
            lr=self.lr_network,
            momentum=self.momentum_network,
            weight_decay=self.weight_decay,
        )


class SavedState:
    """Base class of a state that is a dataclass: saves and restores its fields.

    A field that has a ``state_dict`` (a network, an optimiser) is saved by it, a list, tuple or
    dict by its members; a tensor or a number is saved as it is.

    Example:
        >>> @dataclass
        ... class MyState(SavedState):
        ...     pixels: PixelSGD
        ...     count: int
        ...     rng: Streams  # not saved here: the loop saves the streams
    """

    not_saved: ClassVar[tuple[str, ...]] = ("rng",)  # names of fields that need no saving

    def state_dict(self) -> dict[str, Any]:
        """Return the saved fields by name."""
        return {name: _content(value) for name, value in self._saved().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; tensors keep the device of the current ones.

        Tensors that an optimiser of this state moves stay the same objects.
        """
        groups = [
            group for part in self._saved().values() for group in getattr(part, "param_groups", ())
        ]
        moved = {id(tensor) for group in groups for tensor in group["params"]}
        for name, current in self._saved().items():
            # A checkpoint may be older than a field, or than a part that adds nothing.
            missing = {} if hasattr(current, "load_state_dict") else _content(current)
            restored = _restored(current, state.get(name, missing), moved)
            if restored is not current:
                setattr(self, name, restored)

    def _saved(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self.not_saved}


def _content(value: Any) -> Any:
    """Return what is saved of a field."""
    if hasattr(value, "state_dict"):
        return value.state_dict()
    if isinstance(value, list | tuple):
        return type(value)(map(_content, value)) if type(value) in (list, tuple) else value
    return {key: _content(part) for key, part in value.items()} if type(value) is dict else value


def _restored(current: Any, saved: Any, moved: Container[int]) -> Any:
    """Return a field after restoring what :func:`_content` returned of it.

    Args:
        current: the field.
        saved: what was saved of it.
        moved: ids of the tensors that are restored in place.
    """
    if hasattr(current, "load_state_dict"):
        current.load_state_dict(saved)
        return current
    if isinstance(current, Tensor) and isinstance(saved, Tensor):
        if id(current) not in moved:
            return saved.to(current.device)
        with torch.no_grad():
            return current.copy_(saved)
    if type(current) is not type(saved):
        return saved
    if isinstance(current, list | tuple) and len(current) == len(saved):
        pairs = zip(current, saved, strict=True)
        return type(current)(_restored(part, of, moved) for part, of in pairs)
    if isinstance(current, dict) and current.keys() == saved.keys():
        return {key: _restored(part, saved[key], moved) for key, part in current.items()}
    return saved


class NoState(SavedState):
    """State of a method that has none."""
