"""Fixtures of the evaluation's tests: small sets, and the stacks that are made."""

import pytest
import torch

from dcond.evaluation import protocol
from dcond.evaluation import vmap_training as stacked
from dcond.types import SyntheticSet


@pytest.fixture
def chosen(toy) -> SyntheticSet:
    """Two real images of every class."""
    rows = torch.cat([rows[:2] for rows in toy.class_rows])
    return SyntheticSet(
        toy.pixels(rows), toy.train.labels[rows], toy.class_names, 2, toy.mean, toy.std
    )


@pytest.fixture
def stacks(monkeypatch) -> list:
    """All stacks that are made."""
    made = []

    class Noted(stacked.Stack):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(protocol, "Stack", Noted)
    return made


@pytest.fixture
def sets(toy):
    """Return a set for every repeat, in float64."""

    def one(repeat: int) -> SyntheticSet:
        rows = torch.cat([rows[2 * repeat : 2 * repeat + 2] for rows in toy.class_rows])
        images = toy.pixels(rows).double()
        return SyntheticSet(images, toy.train.labels[rows], toy.class_names, 2, toy.mean, toy.std)

    return one
