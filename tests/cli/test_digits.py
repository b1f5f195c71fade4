"""What the README's first command promises: better than random real images, on every network of the
pool.
"""

import json

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("ipc", [1, 10])
def test_the_default_run_beats_the_random_baseline_on_every_network(ipc, run_cli, tmp_path):
    done = run_cli("condense", f"ipc={ipc}", f"hydra.run.dir={tmp_path}/run")
    assert done.code == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    random = result["baselines"]["random"]["networks"]
    assert len(random) == 4
    for name, network in result["evaluation"]["networks"].items():
        assert network["mean"] > random[name]["mean"], name
