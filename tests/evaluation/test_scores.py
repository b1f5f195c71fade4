"""DD-Ranking's scores: closed forms, the golden values, and what is null."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dcond.errors import ConfigError
from dcond.evaluation import EvalResult, NetworkResult
from dcond.evaluation.scores import ars, hlr, ior, lrs, score, scores

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "scores.npz", allow_pickle=False)


def golden(*names):
    return zip(*(GOLDEN[name].tolist() for name in names), strict=True)


def test_fixed_points():
    assert lrs(0, 0) == pytest.approx((1 - math.exp(-1)) / (math.e - math.exp(-1)))
    assert lrs(0, 0) == pytest.approx(0.2689, abs=5e-5)
    assert lrs(1, -1) == 1
    assert lrs(-1, 1) == 0
    assert lrs(0.10, 0.20) == pytest.approx(0.248, abs=5e-4)
    assert lrs(0.20, 0.15) == pytest.approx(0.280, abs=5e-4)
    assert ars(1, 1) == 1
    assert ars(-1, -1) == 0
    assert ars(0.3, -0.3) == pytest.approx(lrs(0, 0))


def test_golden_lrs():
    for real, hard, ours, random, h, i, wanted in golden(
        "acc_real_hard", "acc_syn_hard", "acc_syn_any", "acc_random_any", "hlr", "ior", "lrs"
    ):
        assert hlr(real, hard) == pytest.approx(h, abs=1e-12)
        assert ior(ours, random) == pytest.approx(i, abs=1e-12)
        assert lrs(ior(ours, random), hlr(real, hard)) == pytest.approx(wanted, abs=1e-12)


def test_golden_ars():
    for ours, random, bare, bare_random, wanted in golden(
        "acc_syn_aug", "acc_random_aug", "acc_syn_noaug", "acc_random_noaug", "ars"
    ):
        assert ars(ior(ours, random), ior(bare, bare_random)) == pytest.approx(wanted, abs=1e-12)


def test_golden_weights():
    pairs = list(golden("ior", "hlr"))
    gains = [
        (ior(a, b), ior(c, d))
        for a, b, c, d in golden(
            "acc_syn_aug", "acc_random_aug", "acc_syn_noaug", "acc_random_noaug"
        )
    ]
    for weight, by_lrs, by_ars in golden("weights", "lrs_by_weight", "ars_by_weight"):
        assert [lrs(i, h, weight) for i, h in pairs] == pytest.approx(by_lrs, abs=1e-12)
        assert [ars(a, b, weight) for a, b in gains] == pytest.approx(by_ars, abs=1e-12)


def test_per_cent_is_refused():
    with pytest.raises(
        ConfigError, match=r"^accuracy=51\.2 is out of range; allowed: fractions from 0 to 1\.$"
    ):
        ior(51.2, 0.3)
    with pytest.raises(ConfigError, match="out of range"):
        hlr(0.8, -0.1)


def test_a_score_with_a_missing_accuracy_is_null():
    assert score({"condensed": 0.5}) == {"ior": None, "hlr": None, "lrs": None, "ars": None}
    some = {"condensed": 0.6, "random": 0.4, "hard_labels": 0.5}
    assert score(some) == {"ior": pytest.approx(0.2), "hlr": None, "lrs": None, "ars": None}
    more = score(some | {"full": 0.9})
    assert more["hlr"] == pytest.approx(0.4)  # of the hard labels, not of the soft ones
    assert more["lrs"] == pytest.approx(lrs(0.2, 0.4))
    assert more["ars"] is None
    most = score(some | {"condensed_unaugmented": 0.3, "random_unaugmented": 0.2})
    assert most["ars"] == pytest.approx(ars(0.2, 0.1))


def found(conv: float, mlp: float) -> EvalResult:
    return EvalResult(
        "quick",
        {n: NetworkResult((x, x), 0.01, 1, 1.0) for n, x in (("ConvNet", conv), ("MLP", mlp))},
    )


def test_per_network_and_over_the_pool():
    results = {
        "condensed": found(0.6, 0.4),
        "hard_labels": found(0.6, 0.4),
        "random": found(0.5, 0.1),
    }
    got = scores(results | {"full": found(0.9, 0.8)})
    assert got["networks"]["ConvNet"] == score(
        {"condensed": 0.6, "hard_labels": 0.6, "random": 0.5, "full": 0.9}
    )
    assert got["networks"]["MLP"]["hlr"] == pytest.approx(0.4)
    assert got["ior"] == pytest.approx(0.2)
    assert got["hlr"] == pytest.approx(0.35)
    assert got["lrs"] == pytest.approx(lrs(0.2, 0.35))
    json.dumps(got, allow_nan=False)


def test_no_scores_are_null():
    assert scores({"condensed": found(0.6, 0.4)}) is None
