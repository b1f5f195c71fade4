"""Options and fixtures of all tests: ``--runslow``, one CPU thread, a toy data set."""

import pytest
import torch

from dcond.types import RealData, Split


def pytest_addoption(parser):
    parser.addoption("--runslow", action="store_true", default=False, help="also run the tests marked slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--runslow"):
        return
    skip = pytest.mark.skip(reason="slow: give --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors run faster on one thread, and sums do not depend on how many cores there are."""
    torch.set_num_threads(1)


@pytest.fixture
def toy() -> RealData:
    """Three classes of 8 x 8 grey images: a bright quadrant each, under noise; unequal class sizes."""
    rng = torch.Generator().manual_seed(0)

    def split(sizes: tuple[int, ...]) -> Split:
        labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        images = 60 * torch.rand(len(labels), 1, 8, 8, generator=rng)
        for c, (row, col) in enumerate([(0, 0), (0, 4), (4, 2)]):
            images[labels == c, :, row : row + 4, col : col + 4] += 120
        order = torch.randperm(len(labels), generator=rng)
        return Split(images.to(torch.uint8)[order], labels[order])

    return RealData("toy", split((40, 30, 50)), split((20, 20, 20)), ("left", "right", "low"), (0.25,), (0.22,))
