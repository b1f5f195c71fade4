"""Expert trajectories: networks trained on the real images, their weights after every epoch.

Trajectory matching (MTT, DATM) follows them; other methods can take trained networks from them.
They are cached: one safetensors file per expert, in a folder whose name holds a hash of everything
that the weights depend on.
"""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dcond.cache import cache_file, own_code
from dcond.data.fingerprint import fingerprint
from dcond.distributed import current
from dcond.errors import DataError
from dcond.file_lock import LockedError, locked
from dcond.models import Recipe
from dcond.paths import write_atomically
from dcond.rng import generator
from dcond.settings import Momentum, NonNegativeFloat, PositiveFloat, PositiveInt, settings
from dcond.training.gsam import GSAM
from dcond.training.on_real import train_on_real
from dcond.training.schedule import Schedule, describe
from dcond.types import RealData

log = logging.getLogger(__name__)

FORMAT = "dcond-expert/1"
SUFFIX = ".safetensors"
GSAM_ONLY = ("rho", "alpha", "adaptive")  # settings


@dataclass(frozen=True)
class Trajectory:
    """The weights of one expert after every epoch, read from its file on use.

    Args:
        file: holds every tensor of the network's ``state_dict``, stacked over the epochs.
        facts: metadata: data set, network, epochs, rate, seed, test accuracy, seconds.

    Example:
        >>> network.load_state_dict(trajectory.state(3))
    """

    file: Path
    facts: dict[str, Any]

    @property
    def epochs(self) -> int:
        """Number of epochs, E; there are E + 1 states."""
        return int(self.facts["epochs"])

    def state(self, epoch: int) -> dict[str, Tensor]:
        """Return the ``state_dict`` after an epoch, 0 (untrained) to E, on the CPU."""
        with safe_open(str(self.file), framework="pt") as content:
            return {name: content.get_slice(name)[epoch] for name in content.keys()}  # noqa: SIM118


@settings
class Experts(Schedule):
    """How experts are trained: by plain SGD on the real training images, as MTT's code does.

    Source: MTT, arXiv 2203.11932, and ``buffer.py`` of its code, with 100 experts of 50 epochs.
    DATM's code trains them by GSAM (``buffer_FTD.py``); its switch ``--adaptive`` is always on.

    Args:
        network: recipe of the network.
        folder: cache folder; created if missing.
        count: number of experts. Expert i does not depend on it.
        lr: learning rate; None for the network's own.
        optimiser: "sgd", "adamw" or "gsam" (:mod:`dcond.training.gsam`).
        rho: length of GSAM's perturbation.
        alpha: weight of GSAM's surrogate gap.
        adaptive: scale GSAM's perturbation with the weights.
        seed: seed of the experts, independent of the run's: all runs share them.

    The other arguments are those of :class:`~dcond.training.schedule.Schedule`.

    Example:
        >>> experts = Experts(network=ConvNet(name="ConvNet"), folder="cache", count=5, epochs=10)
        >>> trajectories = experts.load_or_train(real)
        >>> trajectories[0].state(10)  # weights of the first expert after epoch 10
    """

    network: Recipe
    folder: str
    count: PositiveInt = 100
    lr: PositiveFloat | None = None
    optimiser: Literal["sgd", "adamw", "gsam"] = "sgd"  # type: ignore[assignment]
    rho: PositiveFloat = 0.01
    alpha: NonNegativeFloat = 0.3
    adaptive: bool = True
    momentum: Momentum = 0.0
    weight_decay: NonNegativeFloat = 0.0
    lr_milestones: tuple[float, ...] = ()
    seed: int = 0

    def place(self, real: RealData) -> Path:
        """Return the folder of these experts' files, which need not exist."""
        unused = () if self.optimiser == "gsam" else GSAM_ONLY
        own = describe(replace(self, network=self.network.by_content()), "folder", "count", *unused)
        key = f"{FORMAT}/{own}/{fingerprint(real)}{own_code(self.network)}"
        name = f"{real.name}_{self.network.name}"
        return cache_file(Path(self.folder) / "experts", name, key, suffix="")

    def make_optimiser(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return a new optimiser of these parameter groups."""
        if self.optimiser != "gsam":
            return super().make_optimiser(groups)
        gsam = {name: getattr(self, name) for name in GSAM_ONLY}
        return GSAM(groups, momentum=self.momentum, weight_decay=self.weight_decay, **gsam)

    def load_or_train(self, real: RealData) -> list[Trajectory]:
        """Return the experts, after training those that the cache lacks.

        Each is written when it is finished, so an interruption costs one. Processes that run at the
        same time train different ones.

        Args:
            real: the data set.

        Raises:
            DataError: the cache folder cannot be written.
            DivergedError: the weights became non-finite; nothing is written.
        """
        files = self._files(real)
        folder = files[0].parent
        missing = [index for index, file in enumerate(files) if read(file) is None]
        if missing:
            try:
                self._train_missing(real, files, missing)
            except (OSError, SafetensorError) as error:
                reason = getattr(error, "strerror", None) or error
                raise DataError(
                    f"cannot write experts in {folder}: {reason}. Free some space "
                    "or choose another folder with paths.outputs=FOLDER."
                ) from error
        found = _readable(files)
        if len(found) < self.count:
            raise DataError(f"{folder} lost expert files while they were read; start again.")
        return found

    def is_cached(self, real: RealData) -> bool:
        """Return whether the cache has all of these experts."""
        return len(_readable(self._files(real))) == self.count

    def _files(self, real: RealData) -> list[Path]:
        folder = self.place(real)
        return [folder / f"{index:04d}{SUFFIX}" for index in range(self.count)]

    def _train_missing(self, real: RealData, files: list[Path], missing: list[int]) -> None:
        """Train experts: first those that no other process trains, then wait for the rest."""
        ranks = current()
        name, folder = self.network.name, files[0].parent
        log.info(
            "experts %s: %d of %d are cached; training %d for %d epochs on %d real images -> %s",
            *(name, self.count - len(missing), self.count, len(missing), self.epochs),
            *(len(real.train), folder),
        )
        folder.mkdir(parents=True, exist_ok=True)
        begin, trained = time.perf_counter(), 0
        own = [*missing[ranks.rank :: ranks.count], *missing]
        for blocking in (False, True):
            for index in own:
                file = files[index]
                with suppress(LockedError), locked(file.with_suffix(".lock"), blocking=blocking):
                    if read(file) is not None:
                        continue
                    facts = self._train(real, index, file)
                    trained += 1
                    left = self.count - len(_readable(files))
                    spent = time.perf_counter() - begin
                    log.info(
                        "expert %d of %d: test accuracy %.1f %%, %.0f s%s",
                        *(index + 1, self.count, 100 * facts["accuracy"], facts["wall_s"]),
                        f"; {left} left, about {left * spent / trained / 60:.0f} min" * (left > 0),
                    )
        for index in missing:
            files[index].with_suffix(".lock").unlink(missing_ok=True)

    def _train(self, real: RealData, index: int, file: Path) -> dict[str, Any]:
        """Train one expert, write its file and return its facts."""
        stream = f"expert/{index}"
        network = self.network.build(real.spec, generator(self.seed, stream), real.device)

        def state() -> dict[str, Tensor]:  # detach().cpu() alone is the live weight on a CPU
            return {name: x.detach().cpu().clone() for name, x in network.state_dict().items()}

        states = [state()]
        facts = {"dataset": real.name, "network": self.network.name, "index": index}
        facts |= train_on_real(
            self,
            network,
            real,
            lr=self.network.lr if self.lr is None else self.lr,
            seed=self.seed,
            stream=stream,
            who=f"expert {index + 1} of {self.count} ({self.network.name})",
            setting="lr of the experts",
            after=lambda: states.append(state()),
        )
        tensors = {name: torch.stack([each[name] for each in states]) for name in states[0]}
        metadata = {"format": FORMAT, "facts": json.dumps(facts)}
        write_atomically(file, lambda path: save_file(tensors, path, metadata=metadata))
        return facts


def read(file: Path) -> Trajectory | None:
    """Return the expert in a file; None if it is missing or damaged."""
    try:
        with safe_open(str(file), framework="pt") as content:
            metadata = content.metadata() or {}
        if metadata.get("format") != FORMAT:
            return None
        facts = json.loads(metadata["facts"])
        return Trajectory(file, facts | {"epochs": int(facts["epochs"])})
    except (OSError, SafetensorError, LookupError, TypeError, ValueError):
        return None


def _readable(files: Iterable[Path]) -> list[Trajectory]:
    """Return the experts in those of the files that are there and undamaged."""
    return [found for file in files if (found := read(file)) is not None]


def cached(folder: Path) -> Iterator[tuple[Path, list[Trajectory]]]:
    """Yield every folder with experts in a cache folder, and these experts."""
    for place in sorted((folder / "experts").glob("*/")):
        if found := _readable(sorted(place.glob(f"*{SUFFIX}"))):
            yield place, found
