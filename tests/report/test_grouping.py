"""Grouping of runs into rows and blocks, missing runs, and bold."""

import pytest

from dcond.errors import ConfigError
from dcond.report.rows import AVERAGE
from dcond.report.settings_diff import differing_settings
from dcond.report.sheets import count, marks, notes


def test_seeds_make_a_row_and_networks_an_average(write_result, report):
    for seed, (a, b) in enumerate([(0.5, 0.3), (0.6, 0.4), (0.7, 0.2)]):
        write_result(f"{seed}", {"A": a, "B": b}, seed=seed)
    (block,) = report().blocks
    assert block.title == "digits, protocol quick, ipc 1"
    (row,) = block.rows
    assert row.name == "dm"
    assert row.accuracies["A"].values == (0.5, 0.6, 0.7)
    assert row.accuracies[AVERAGE].values == pytest.approx((0.4, 0.5, 0.45))
    assert (count(row), marks(row)) == ("3", "")


def test_blocks_hold_comparable_runs(write_result, report):
    write_result("a", {"A": 0.5})
    write_result("b", {"A": 0.5}, ipc=10)
    write_result("c", {"A": 0.5}, dataset="mnist")
    write_result("d", {"A": 0.5, "B": 0.5})
    write_result("e", {"A": 0.5}, settings={"evaluation.epochs": 5})
    assert [block.title for block in report().blocks] == [
        "digits, protocol quick, ipc 1",
        "digits, protocol quick, ipc 1",  # other networks
        "digits, protocol quick, ipc 10",
        "digits, protocol quick, evaluation.epochs=5, ipc 1",
        "mnist, protocol quick, ipc 1",
    ]


def test_two_folders_of_images_are_two_data_sets_at_any_ipc(write_result, report):
    for name, ipc in (("cats", 1), ("cats", 10), ("dogs", 10)):
        settings = {"dataset.path": name}
        write_result(f"{name}{ipc}", {"A": 0.5}, ipc=ipc, dataset="own", settings=settings)
    assert [block.title for block in report().blocks] == [
        "own, protocol quick, dataset.path=cats, ipc 1",
        "own, protocol quick, dataset.path=cats, ipc 10",
        "own, protocol quick, dataset.path=dogs, ipc 10",
    ]
    assert len(report().families) == 2


def test_settings_that_differ_never_merge_and_are_named(names, write_result, report):
    write_result("a", {"A": 0.5})
    write_result("b", {"A": 0.6}, settings={"method.lr": 0.5})
    write_result("c", {"A": 0.7}, settings={"method.lr": 0.5, "init": "kmeans"})
    (block,) = report().blocks
    assert names(block) == [
        "dm (init=kmeans, method.lr=0.5)",
        "dm (init=real, method.lr=0.5)",
        "dm (init=real, method.lr=1.0)",
    ]


def test_a_setting_that_depends_on_the_ipc_splits_nothing(names, write_result, report):
    for ipc in (1, 10):
        for seed in (0, 1):
            write_result(
                f"{ipc}{seed}", {"A": 0.5}, ipc=ipc, seed=seed, settings={"method.lr": float(ipc)}
            )
    assert [names(block) for block in report().blocks] == [["dm"], ["dm"]]
    write_result("other", {"A": 0.5}, ipc=10, settings={"method.lr": 3.0})  # now named at both ipc
    assert [names(block) for block in report().blocks] == [
        ["dm (method.lr=1.0)"],
        ["dm (method.lr=3.0)", "dm (method.lr=10.0)"],
    ]


def test_settings_below_a_choice_are_compared_within_it():
    mlp = {"model": "mlp", "model.hidden": "128"}
    narrow = {"model": "convnet", "model.width": "8", "model.depth": "3"}
    assert differing_settings([(1, mlp), (1, narrow)]) == ["model"]
    assert differing_settings([(1, mlp), (1, narrow), (1, narrow | {"model.width": "64"})]) == [
        "model",
        "model.width",
    ]
    assert differing_settings([(1, narrow), (10, narrow | {"model.width": "64"})]) == []
    assert differing_settings([(1, narrow), (1, {"model": "convnet", "model.depth": "3"})]) == [
        "model.width"
    ]


def test_settings_below_a_missing_option_are_not_compared():
    plain = {"evaluation.augment": "null"}
    assert differing_settings([(1, plain), (1, {"evaluation.augment.ops": "[]"})]) == [
        "evaluation.augment"
    ]


def test_an_additional_network_is_described_by_its_name(names, write_result, report):
    vit = {
        "learners.networks.Mine._target_": "dcond.models.ViT",
        "learners.networks.Mine.name": "ViT",
        "learners.networks.Mine.depth": 2,
    }
    timm = {
        "learners.networks.Mine.name": "${.architecture}",
        "learners.networks.Mine.architecture": "resnet10t",
    }
    write_result("a", {"A": 0.5}, method="hmdc")
    write_result("b", {"A": 0.6}, method="hmdc", settings=vit)
    write_result("c", {"A": 0.6}, method="hmdc", settings=timm)
    (block,) = report().blocks
    assert names(block) == [
        "hmdc",
        "hmdc (learners.networks.Mine=ViT)",
        "hmdc (learners.networks.Mine=resnet10t)",
    ]
    write_result("d", {"A": 0.7}, method="hmdc", settings=vit | {"learners.networks.Mine.depth": 3})
    (block,) = report().blocks
    assert names(block)[1:] == [
        "hmdc (learners.networks.Mine=ViT, learners.networks.Mine.depth=2)",
        "hmdc (learners.networks.Mine=ViT, learners.networks.Mine.depth=3)",
        "hmdc (learners.networks.Mine=resnet10t)",
    ]


def test_group_by_splits_by_the_named_settings_and_reports_the_others(names, write_result, report):
    write_result("a", {"A": 0.5})
    write_result("b", {"A": 0.6}, settings={"method.lr": 0.5})
    write_result("c", {"A": 0.7}, settings={"method.steps": 20})
    found = report("method.lr")
    assert names(found.blocks[0]) == ["dm (method.lr=0.5)", "dm (method.lr=1.0)"]
    assert found.merged == ("method.steps",)
    assert "runs of one row differ in settings not in --group-by: method.steps" in notes(found)
    assert report().merged == ()
    with pytest.raises(
        ConfigError,
        match=r"^--group-by='method.l' is unknown; allowed: .* Did you mean 'method.lr'\?$",
    ):
        report("method.l")


def test_one_configuration_counts_once_the_evaluated_run_first(write_result, report):
    same = {"config_sha256": "x"}
    write_result("1", {"A": 0.5}, **same)
    write_result("2", {"A": 0.6}, **same)
    write_result("3", **same)
    write_result("4", status="failed", error="disk full", **same)
    found = report()
    (row,) = found.blocks[0].rows
    assert row.accuracies["A"].values == (0.6,)
    assert (found.repeated, marks(row)) == (3, "")


def test_the_repeated_run_with_most_scores_and_baselines_counts(write_result, report):
    """Scores and baselines are not part of the configuration."""
    same = {"config_sha256": "x"}
    write_result(
        "1", {"A": 0.5}, baselines={"random": {"A": 0.3}}, scores={"ior": 0.2, "hlr": 0.1}, **same
    )
    write_result("2", {"A": 0.6}, baselines={"random": {"A": 0.3}}, scores={"ior": 0.3}, **same)
    write_result("3", {"A": 0.7}, **same)
    ours, random = report().blocks[0].rows
    assert (ours.accuracies["A"].values, random.title) == ((0.5,), "random real images")
    assert ours.score("hlr").values == (0.1,)


def test_failed_interrupted_unevaluated_and_missing_runs_are_marked(write_result, report):
    for seed in range(5):
        write_result(f"m3d{seed}", {"A": 0.5, "B": 0.5}, method="m3d", seed=seed)
    write_result("0", {"A": 0.5, "B": 0.5}, seed=0)
    write_result("1", status="failed", error="loss is not finite at step 3", seed=1)
    write_result("2", status="interrupted", error="interrupted by SIGTERM", seed=2)
    write_result("3", seed=3)
    write_result("ipc10", {"A": 0.5, "B": 0.5}, method="m3d", ipc=10, seed=0)
    found = report()
    first, second = found.blocks
    dm = first.rows[0]
    assert marks(dm) == "1 failed; 1 interrupted; 1 not evaluated; seed 4 missing"
    assert count(dm) == "1/5"
    assert [(row.title, count(row), marks(row)) for row in second.rows] == [
        ("m3d", "1/5", "seed 1, 2, 3, 4 missing"),
        ("dm", "0/5", "no run"),
    ]
    assert [note.split("/")[-1] for note in notes(found)] == [
        "1: loss is not finite at step 3",
        "2: interrupted by SIGTERM",
    ]


def test_a_run_that_failed_early_is_in_the_notes(write_result, report):
    write_result("a", {"A": 0.5})
    folder = write_result("b", status="failed", error="ipc=0 is out of range", ipc=None)
    found = report()
    assert count(found.blocks[0].rows[0]) == "1"
    assert notes(found) == [f"failed: {folder}: ipc=0 is out of range"]


def test_one_run_on_two_devices_is_repeated_unless_devices_are_compared(write_result, report):
    for device in ("cpu", "cuda"):
        write_result(device, {"A": 0.5}, device=device, config_sha256="same")
    assert report().repeated == 1
    (block,) = report("device").blocks
    assert (report("device").repeated, len(block.rows)) == (0, 2)


def test_several_devices_give_a_note(write_result, report):
    write_result("a", {"A": 0.5}, device="cpu", versions={"torch": "2.11"})
    write_result("b", {"A": 0.5}, device="cuda", versions={"torch": "2.11"}, seed=1)
    assert notes(report()) == [
        "runs with several devices: cpu (1), cuda (1); their costs may not be comparable"
    ]


@pytest.mark.parametrize(
    ("dm", "m3d", "bold"),
    [
        ((0.50, 0.51, 0.52), (0.60, 0.61, 0.62), True),
        ((0.50, 0.51, 0.52), (0.52, 0.53, 0.54), False),  # 2 points, the interval is 2.3
        ((0.50, 0.51, 0.52), (0.51, 0.56, 0.76), False),
        ((0.50,), (0.90, 0.90), False),
        ((0.50, 0.50), (0.90,), False),
    ],
)
def test_bold_means_ahead_by_more_than_the_interval(dm, m3d, bold, write_result, report):
    for method, values in (("dm", dm), ("m3d", m3d)):
        for seed, value in enumerate(values):
            write_result(f"{method}{seed}", {"A": value, "B": 0.5}, method=method, seed=seed)
    rows = {row.title: row for row in report().blocks[0].rows}
    assert rows["dm"].best == frozenset()
    assert ("A" in rows["m3d"].best) is bold
    assert "B" not in rows["m3d"].best


@pytest.mark.parametrize("third", [(0.10, 0.40, 0.70), (0.10,)])
def test_bold_means_ahead_of_every_row_not_only_of_the_next(third, write_result, report):
    """Nothing is ahead of a row with a large variance or with one seed, even if its mean is low."""
    for method, values in (("m3d", (0.60, 0.61, 0.62)), ("dm", (0.50, 0.51, 0.52)), ("idc", third)):
        for seed, value in enumerate(values):
            write_result(f"{method}{seed}", {"A": value}, method=method, seed=seed)
    assert not any(row.best for row in report().blocks[0].rows)


def test_a_single_row_is_never_bold(write_result, report):
    write_result("a", {"A": 0.5})
    write_result("b", {"A": 0.5}, seed=1)
    assert report().blocks[0].rows[0].best == frozenset()


def test_baselines_compete_a_value_per_seed_and_the_whole_set_does_not(write_result, report):
    for method, plus in (("dm", 0.0), ("m3d", 0.2)):
        for seed in (0, 1, 2):
            drawn = {
                "random": {"A": 0.5 + seed / 100},
                "random_decoded": {"A": 0.6 + seed / 100},
                "full": {"A": 0.99},
            }
            mean = 0.5 + plus + seed / 100
            write_result(
                f"{method}{seed}", {"A": mean}, method=method, seed=seed, factor=2, baselines=drawn
            )
    rows = {row.name: row for row in report().blocks[0].rows}
    assert list(rows) == [
        "dm",
        "m3d",
        "random real images",
        "random, shrunken (factor 2)",
        "whole real set",
    ]
    assert rows["random real images"].accuracies["A"].values == pytest.approx(
        (0.5, 0.51, 0.52)
    )  # not six
    assert rows["m3d"].best == {"A", AVERAGE}
    assert all(not row.best for name, row in rows.items() if name != "m3d")


def test_a_baseline_level_with_the_best_row_prevents_bold(write_result, report):
    for seed in (0, 1, 2):
        means = {"A": 0.7 + seed / 100}
        write_result(f"{seed}", means, seed=seed, baselines={"random": means})
        write_result(f"m{seed}", {"A": 0.3 + seed / 100}, seed=seed, method="m3d")
    assert not any(row.best for row in report().blocks[0].rows)
