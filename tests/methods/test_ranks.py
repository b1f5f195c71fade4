"""Classes shared by several ranks: every method that claims it ends in the images of one process."""

import sys

sys.path.insert(0, "tests")
from lockstep import lockstep
import pytest
import torch
import yaml

METHODS = ["dc", "degm", "dm", "dsa", "hmdc", "idc", "m3d"]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_it(method, count, parts, run_made, data, tmp_path):
    real = data((40, 30, 50, 24, 33))
    alone = run_made(parts(method, steps=7), real, tmp_path / "alone")
    ranks = lockstep(count, lambda rank: run_made(parts(method, steps=7), real, tmp_path / str(rank.rank)))
    assert len({rank.bytes for rank in ranks}) == 1
    print(
        method,
        count,
        (ranks[0].synthetic.images - alone.synthetic.images).abs().max().item(),
        (ranks[0].first - alone.synthetic.images).abs().max().item(),
        [a / b - 1 for a, b in zip(ranks[0].losses, alone.losses)][-1],
    )
