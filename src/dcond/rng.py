"""Named random streams: one seed per run, one generator per purpose, no global generator.

All streams are on the CPU, so a run draws the same numbers on every device.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

PURPOSES = ("initialisation", "real", "augmentation", "networks", "synthetic")


def derive(seed: int, name: str) -> int:
    """Return a 63-bit seed from a run's seed and a name; different names give unrelated streams."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str) -> torch.Generator:
    """Return a new CPU generator for one purpose of one run."""
    return torch.Generator().manual_seed(derive(seed, name))


class Streams:
    """The generators of one run, one attribute per purpose in :data:`PURPOSES`.

    Example:
        >>> rng = Streams(seed=0)
        >>> torch.rand(3, generator=rng.real)
    """

    initialisation: torch.Generator
    real: torch.Generator
    augmentation: torch.Generator
    networks: torch.Generator
    synthetic: torch.Generator

    def __init__(self, seed: int):
        self.seed = seed
        for name in PURPOSES:
            setattr(self, name, generator(seed, name))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return every generator's state as byte tensors."""
        return {name: getattr(self, name).get_state() for name in PURPOSES}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Set every generator to a state returned by :meth:`state_dict`."""
        for name in PURPOSES:
            getattr(self, name).set_state(state[name].cpu())


def draw_seed(rng: torch.Generator) -> int:
    """Draw an integer seed."""
    return int(torch.randint(2**62, (1,), generator=rng).item())


@contextmanager
def seeded_globals(rng: torch.Generator) -> Iterator[None]:
    """Seed torch's global CPU generator from ``rng`` in a block, then restore it.

    For constructors of networks: PyTorch's and timm's initialisers take no generator. Only the CPU
    generator is set, because networks are built on the CPU and moved.
    """
    seed = draw_seed(rng)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def seeded_layers(seed: int, name: str, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators in a block that trains networks, then restore them.

    For layers that draw random numbers and take no generator: dropout, stochastic depth.

    Args:
        seed: seed of the run.
        name: name of the block; different names give unrelated draws.
        device: device of the networks; its generator is set besides the CPU's.
    """
    seed = derive(seed, f"layers/{name}")
    kind = device.type if device.type in ("cuda", "mps") else "cpu"
    with torch.random.fork_rng([] if kind == "cpu" else [device], device_type=kind):
        torch.default_generator.manual_seed(seed)
        if kind == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif kind == "mps":
            torch.mps.manual_seed(seed)
        yield
