"""The base classes of networks, of the recipes that build them, and of pools of recipes."""

import logging
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from dcond.device import is_out_of_memory, to_device
from dcond.errors import ConfigError, DcondError, first_line, require
from dcond.models.initial_weights import digest, load_weights, read_weights
from dcond.rng import generator, seeded_globals
from dcond.settings import PositiveFloat, settings
from dcond.types import Features, ImageSpec

log = logging.getLogger(__name__)


class Network(nn.Module, ABC):
    """A classifier with two taps. Input: normalised images (n, c, h, w) at the data set's size.

    A network that needs another size resizes or pads inside.

    Attributes:
        input_side: pixels; side of the square that a network enlarges images to, else 0.
    """

    input_side: int = 0

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Return the features below the last linear layer, flattened: (n, d)."""

    @abstractmethod
    def features(self, x: Tensor) -> list[Features]:
        """Return one tap per stage, shallow to deep."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, k)."""

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Features]]:
        """Return :meth:`forward` and :meth:`features`, in one pass where the network allows it."""
        return self(x), self.features(x)


@settings
class Recipe(ABC):
    """Hyper-parameters of a network; :meth:`build` makes networks from them.

    Args:
        name: of the network in messages; tables show the key of the pool.
        lr: learning rate of SGD in an evaluation, and as an expert, a teacher, an embedding or a
            learner of HMDC. DC, DSA, DEGM, IDC and IDM train networks with ``method.lr_network``.
        weights: a file of initial weights, also used at every reset: a ``state_dict`` of this
            network or a checkpoint with one, for any number of classes (the last linear layer is
            drawn). None draws all.
        cutmix: False trains it without CutMix where the evaluation uses CutMix, as HMDC does with
            transformers. Of no effect elsewhere.

    Example:
        >>> network = ConvNet(name="ConvNet", depth=3).build(real.spec, torch.Generator())
    """

    name: str
    lr: PositiveFloat = 0.01
    weights: str | None = None
    cutmix: bool = True

    @abstractmethod
    def module(self, spec: ImageSpec) -> Network:
        """Build the module for these images; PyTorch's global generator draws the weights."""

    @property
    def pretrained_weights(self) -> bool:
        """Whether :meth:`build` starts from trained weights; only the head is drawn."""
        return self.weights is not None

    def fetch(self) -> None:
        """Fetch what :meth:`build` needs: published weights, or those of a file.

        Raises:
            ConfigError: they cannot be fetched or read. Called before hours of work, not after.
        """
        if self.weights is not None:
            _ = self._initial_weights

    def by_content(self) -> Self:
        """Return the recipe with hashes of its files in place of their paths, for cache keys.

        Raises:
            ConfigError: a file cannot be read.
        """
        if self.weights is None:
            return self
        return replace(self, weights=digest(self._initial_weights))

    def build(
        self, spec: ImageSpec, rng: torch.Generator, device: torch.device | str = "cpu"
    ) -> Network:
        """Build a network in train mode on ``device``, with weights from ``rng`` or from the file.

        Raises:
            ConfigError: the file cannot be read, or belongs to another network.
        """
        return self._build_on_cpu(spec, rng).to(device).train()

    def reset(self, network: Network, spec: ImageSpec, rng: torch.Generator) -> None:
        """Draw new weights and buffers in place; optimisers of the network stay valid."""
        new = self._build_on_cpu(spec, rng).state_dict()
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                tensor.copy_(to_device(new[name], tensor.device))

    def _build_on_cpu(self, spec: ImageSpec, rng: torch.Generator) -> Network:
        with seeded_globals(rng):
            network = self.module(spec)
        if self.weights is not None:
            self.log_once(load_weights(network, self._initial_weights, self.name, self.weights))
        return network

    def log_once(self, line: str) -> None:
        """Log a line unless this recipe has: networks are built again at every reset."""
        if self.is_first(line):
            log.info("%s", line)

    def is_first(self, what: str) -> bool:
        """Return whether this recipe is asked for the first time about ``what``."""
        first = what not in self._known
        self._known.add(what)
        return first

    @cached_property
    def _known(self) -> set[str]:
        return set()

    @cached_property
    def _initial_weights(self) -> dict[str, Tensor]:
        """Tensors of ``weights``, read once: some methods reset their networks at every step."""
        assert self.weights is not None
        return read_weights(self.name, self.weights)


@settings
class Pool:
    """Networks of different kinds that are trained on the same set.

    Args:
        networks: recipes by key, in table order; the command line overrides them by key.

    Raises:
        ConfigError: no network, or a value that is not a recipe.
    """

    networks: dict[str, Recipe]

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", dict(self.networks))
        require(len(self.networks) > 0, "the pool is empty; name at least one network.")
        for key, recipe in self.networks.items():
            require(
                isinstance(recipe, Recipe),
                f"pool.networks.{key}={recipe!r} is not a network; start from one in conf/model, "
                f"such as +model@pool.networks.{key}=convnet.",
            )

    def fetch(self) -> None:
        """Fetch what the networks need: see :meth:`Recipe.fetch`."""
        for recipe in self.networks.values():
            recipe.fetch()

    def check(self, spec: ImageSpec) -> None:
        """Run every network once, so that one that does not fit the images fails before any step.

        Raises:
            ConfigError: a network cannot be built for the images, or does not give k logits.
        """
        zeros = torch.zeros(2, spec.channels, *spec.size)
        for key, recipe in self.networks.items():
            network = recipe.build(spec, generator(0, "check")).eval()
            found: object
            try:
                with torch.no_grad():
                    logits = network(zeros)
                found = getattr(logits, "shape", type(logits).__name__)
            except DcondError:
                raise
            except Exception as error:  # a network may fail in any way
                if is_out_of_memory(error):
                    raise
                found = first_line(error)
            if found != (2, spec.classes):
                raise ConfigError(
                    f"pool.networks.{key} does not fit images {tuple(zeros.shape[1:])} of "
                    f"{spec.classes} classes: {found}; change its settings, or omit it."
                )
