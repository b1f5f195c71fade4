"""The first five losses of every optimising method on a toy problem, against ``tests/values.json``.

They catch a change of the numbers that no other test is about. Tolerance: 1e-4 relative, for other
processors and PyTorch versions; so nothing is left to a count or a choice that the last bit may
change: k-means between two images, DEGM's measure between two ends of the training. If the change
is meant, renew the values and show them in review:

    DCOND_RENEW_VALUES=1 pytest tests/methods/test_pinned_curves.py -k NAME
"""

import json
import os
from pathlib import Path

import pytest
import yaml

from dcond.paths import conf_dir

VALUES = Path(__file__).parents[1] / "values.json"
FILES = sorted((conf_dir() / "method").glob("*.yaml"))
FIXED = {"hmdc": ("init=real", "method.real_selection=random"), "degm": ("method.inner=fixed",)}
METHODS = [path.stem for path in FILES if yaml.safe_load(path.read_text()).get("steps")]


@pytest.mark.parametrize("method", METHODS)
def test_the_losses_are_the_pinned_ones(method, condense, toy):
    losses = condense(method, toy, *FIXED.get(method, ()), steps=5, lr=0.1).losses
    pinned = json.loads(VALUES.read_text()) if VALUES.exists() else {}
    if os.environ.get("DCOND_RENEW_VALUES"):
        pinned[method] = losses
        VALUES.write_text(json.dumps(dict(sorted(pinned.items())), indent=2) + "\n")
    assert method in pinned, f"no values for {method}; the head of this file says how to add them"
    assert losses == pytest.approx(pinned[method], rel=1e-4)


def test_stored_values_are_of_existing_methods():
    assert json.loads(VALUES.read_text()).keys() <= set(METHODS)
