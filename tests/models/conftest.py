from collections.abc import Callable

import pytest
import torch

from dcond.types import ImageSpec


@pytest.fixture(autouse=True)
def _inputs_are_the_same_each_time():
    torch.manual_seed(0)


@pytest.fixture
def make_spec() -> Callable[..., ImageSpec]:
    def make(
        channels: int = 3, side: int = 32, classes: int = 10, width: int | None = None
    ) -> ImageSpec:
        return ImageSpec(
            channels, side, width or side, classes, (0.4,) * channels, (0.25,) * channels
        )

    return make
