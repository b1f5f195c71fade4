"""What every network is, and the recipe that builds it."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from dcond.errors import require
from dcond.memory import to_device
from dcond.models.initial_weights import digest, read_weights, start_from
from dcond.rng import generator, seeded_globals
from dcond.types import Features, ImageSpec


class Network(nn.Module, ABC):
    """A classifier with two taps. Input: normalised images (n, c, h, w) at the data set's own size.

    Resizing or padding that a network needs happens inside it.
    """

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
        """Return what :meth:`forward` and :meth:`features` do, in one pass where the network allows it."""
        return self(x), self.features(x)


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """Hyper-parameters of a network, checked when made; :meth:`build` makes networks from it.

    Args:
        name: how messages call it; tables say the pool's key.
        lr: learning rate for training it on a synthetic set (SGD; METHODS of the evaluation
            protocol).
        weights: a file to start from, here and after every reset: a ``state_dict`` of this very
            network, saved by ``torch.save``, for any classes; the last linear layer is drawn anew.
            None draws all.
        cutmix: False trains it without CutMix where an evaluation mixes, as HMDC's does with
            transformers.
    """

    name: str
    lr: float = 0.01
    weights: str | None = None
    cutmix: bool = True

    def __post_init__(self) -> None:
        good = isinstance(self.lr, int | float) and 0 < self.lr < math.inf
        require(good, f"{self.name}: lr={self.lr!r} must be a number greater than 0.")

    @abstractmethod
    def module(self, spec: ImageSpec) -> Network:
        """Make the module for these images; PyTorch's global generator supplies the weights."""

    def fetch(self) -> None:
        """Bring what :meth:`build` needs and this machine lacks: published weights, or those of a file.

        Raises:
            ConfigError: they cannot be had; told before hours of work instead of after.
        """
        if self.weights is not None:
            _ = self._given

    def by_content(self) -> Self:
        """Return the recipe with a hash of what its files hold in the place of their paths: caches know it by that.

        Raises:
            ConfigError: a file cannot be read.
        """
        return self if self.weights is None else replace(self, weights=digest(self._given))

    def build(
        self, spec: ImageSpec, rng: torch.Generator, device: torch.device | str = "cpu"
    ) -> Network:
        """Make a network with weights drawn from ``rng``, or of its file, in train mode, on ``device``.

        Raises:
            ConfigError: the file cannot be read, or is that of another network.
        """
        return self._fresh(spec, rng).to(device).train()

    def reset(self, network: Network, spec: ImageSpec, rng: torch.Generator) -> None:
        """Give an existing network fresh weights and buffers in place: optimisers that hold its tensors stay valid."""
        fresh = self._fresh(spec, rng).state_dict()
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                tensor.copy_(to_device(fresh[name], tensor.device))

    def _fresh(self, spec: ImageSpec, rng: torch.Generator) -> Network:
        with seeded_globals(rng):
            network = self.module(spec)
        if self.weights is not None:
            start_from(network, self._given, self.name, self.weights)
        return network

    @cached_property
    def _given(self) -> dict[str, Tensor]:
        """The tensors of ``weights``, read once: methods reset their networks as often as in every step."""
        assert self.weights is not None
        return read_weights(self.name, self.weights)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Unlike networks that are trained on the same set.

    Args:
        networks: recipes by key, in table order; the keys are what the command line overrides.

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
        """Make every network once: one that these images are too small for is told before they are condensed."""
        for recipe in self.networks.values():
            recipe.build(spec, generator(0, "check"))
