"""An accelerator that is pretended in Python: it refuses what a GPU refuses and counts its costs.

Tensors of device "pretend" lie behind a wrapper. An operator that mixes them with tensors of the
CPU raises, as on a GPU. Counted are launches, operators that start a kernel, and waits, operators
for which the host must wait until the device has computed (``.item()``, ``.cpu()``, ``nonzero``).

PyTorch's registration of such devices is experimental.

Example:
    >>> with pretend_device() as device:
    ...     x = torch.ones(3).to(device.name)
    ...     float(x.sum())
    >>> device.launches.total(), dict(device.waits)
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import dcond

NAME = "pretend"
SOURCES = f"{Path(dcond.__file__).parent}/"

NO_KERNEL = ("empty", "new_empty", "is_same_size", "_unsafe_view")  # nor do views start one
# Operators whose result, or its shape, the host must know.
WAITING = frozenset(
    [
        "_local_scalar_dense",
        "_unique2",
        "equal",
        "is_nonzero",
        "masked_select",
        "nonzero",
        "unique_consecutive",
        "unique_dim",
    ]
)
COPIES = frozenset(["_to_copy", "copy_"])
TAKES_HOST_INDICES = frozenset(
    ["index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"]
)


class OnDevice(torch.Tensor):
    """A tensor of the device; ``memory`` holds its values."""

    memory: torch.Tensor

    @staticmethod
    def __new__(cls, memory: torch.Tensor) -> "OnDevice":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            memory.shape,
            strides=memory.stride(),
            storage_offset=memory.storage_offset(),
            dtype=memory.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, memory: torch.Tensor):
        self.memory = memory

    def __reduce_ex__(self, protocol):
        """Have ``torch.save`` copy the values to the host, as from any device."""
        active().wait("copy to the host")
        return self.detach().memory.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return active().call(func, args, kwargs or {})


class PretendDevice(TorchDispatchMode):
    """The device while it is in use, and what it has counted."""

    def __init__(self) -> None:
        super().__init__()
        self.name = torch.device(NAME, 0)
        self.launches: Counter[str] = Counter()  # by operator
        self.waits: Counter[str] = Counter()  # by operator, file and line

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.call(func, args, kwargs or {})

    def reset(self) -> None:
        """Count from 0 again."""
        self.launches.clear()
        self.waits.clear()

    def wait(self, name: str) -> None:
        """Count a wait of the host at the innermost line of dcond."""
        frame = sys._getframe()
        while frame is not None and not frame.f_code.co_filename.startswith(SOURCES):
            frame = frame.f_back
        place = (
            "" if frame is None else f"{frame.f_code.co_filename[len(SOURCES) :]}:{frame.f_lineno}"
        )
        self.waits[f"{name} {place}"] += 1

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute an operator on the memory of its tensors."""
        name = func._schema.name.removeprefix("aten::")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        if ours and not (func.is_view or name.startswith(NO_KERNEL)):
            self.launches[name] += 1
        if ours and name in WAITING:
            self.wait(name)
        target = kwargs.get("device")
        if name == "_to_copy" and target is None and tensors:
            target = tensors[0].device
        if name in COPIES:
            source = tensors[1] if name == "copy_" else tensors[0] if tensors else None
            goes_to = tensors[0].device if name == "copy_" else torch.device(target or "cpu")
            if isinstance(source, OnDevice) and goes_to.type != NAME:
                self.wait("copy to the host")
        elif ours and name not in TAKES_HOST_INDICES:
            _require_one_device(name, tensors)
        options = {**kwargs, "device": "cpu"} if "device" in kwargs else kwargs
        result = func(*tree_map(_memory, args), **tree_map(_memory, options))
        if torch.device(target).type != NAME if target is not None else not ours:
            return result
        changed = {id(tensor.memory): tensor for tensor in ours} if func._schema.is_mutable else {}
        return tree_map(lambda value: _on_device(value, changed), result)


def _require_one_device(name: str, tensors: Sequence[torch.Tensor]) -> None:
    """Raise if there is a tensor of the CPU; a single number may be."""
    shapes = [tuple(t.shape) for t in tensors if t.ndim and not isinstance(t, OnDevice)]
    if shapes:
        raise RuntimeError(f"{name}: tensors {shapes} are on the CPU, others on {NAME}")


def _on_device(value: Any, changed: dict[int, OnDevice]) -> Any:
    """Return a result as a tensor of the device; one that was changed in place is the same one."""
    if not isinstance(value, torch.Tensor) or isinstance(value, OnDevice):
        return value
    return changed[id(value)] if id(value) in changed else OnDevice(value)


_active: list[PretendDevice] = []


def active() -> PretendDevice:
    """Return the device in use."""
    return _active[-1]


@contextmanager
def pretend_device() -> Iterator[PretendDevice]:
    """Use the device in a block. Afterwards its tensors can no longer be computed with."""
    _register()
    device = PretendDevice()
    _active.append(device)
    make, to_list = torch.tensor, torch.Tensor.tolist

    def tensor(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        made = make(data, **options)
        return made if device is None else made.to(device)

    def tolist(self: torch.Tensor) -> Any:
        if isinstance(self, OnDevice):
            device.wait("tolist")
            return to_list(self.detach().memory)
        return to_list(self)

    optimiser = import_module("torch.optim.optimizer")
    in_groups = [torch.Tensor, torch.nn.Parameter, OnDevice]  # of optimisers' foreach
    try:  # PyTorch's own two refuse wrappers
        with (
            mock.patch.object(optimiser, "_foreach_supported_types", in_groups),
            mock.patch.object(torch, "tensor", tensor),
            mock.patch.object(torch.Tensor, "tolist", tolist),
            device,
        ):
            yield device
    finally:
        _active.pop()


def _memory(value: Any) -> Any:
    return value.memory if isinstance(value, OnDevice) else value


@cache
def _register() -> None:
    """Tell PyTorch of the device, once in a process."""
    _setup_privateuseone_for_python_backend(NAME)
    getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    library = torch.library.Library("aten", "IMPL")

    def empty(size, *, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
        return OnDevice(torch.empty(size, dtype=dtype))

    def empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=None):
        return OnDevice(torch.empty_strided(size, stride, dtype=dtype))

    def copy_from(source, target, non_blocking=False):
        _memory(target).copy_(_memory(source))
        return target

    library.impl("empty.memory_format", empty, "PrivateUse1")
    library.impl("empty_strided", empty_strided, "PrivateUse1")
    library.impl("_copy_from", copy_from, "PrivateUse1")
    _kept.append(library)  # its registrations live as long as it does


_kept: list[Any] = []
