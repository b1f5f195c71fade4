"""Rows of evaluated sets: those of other runs, and those from elsewhere."""

import pytest

from dcond.report.sheets import count, marks


def source(seed):
    return {"seed": seed, "config_sha256": f"set {seed}"}


def test_evaluations_of_several_seeds_sets_are_one_row(write_result, report):
    for seed, mean in enumerate((0.5, 0.6, 0.7)):
        write_result(f"e{seed}", {"A": mean}, source=source(seed))
    (block,) = report().blocks
    (row,) = block.rows
    assert row.accuracies["A"].values == (0.5, 0.6, 0.7)
    assert (row.name, count(row), marks(row), block.note) == ("dm", "3", "", "")


def test_repeated_evaluations_of_a_set_are_one_sample(write_result, report):
    """Evaluated by the run that made it, and twice more with other seeds."""
    write_result("run", {"A": 0.5}, config_sha256="set 0")
    write_result("e0", {"A": 0.6}, source=source(0), seed=5)
    write_result("e1", {"A": 0.7}, source=source(0), seed=6)
    write_result("other", {"A": 0.8}, seed=1)
    (row,) = report().blocks[0].rows
    assert row.accuracies["A"].values == pytest.approx((0.6, 0.8))
    assert (count(row), marks(row)) == ("2", "")


def test_a_set_counts_as_evaluated_whichever_run_did_it(write_result, report):
    """Sets are counted, not runs: some were made without an evaluation."""
    write_result("run0", config_sha256="set 0", pool=("A",))
    write_result(
        "run1", status="failed", error="disk full", config_sha256="set 1", seed=1, pool=("A",)
    )
    write_result("run2", config_sha256="set 2", seed=2, pool=("A",))
    for seed in (0, 1):
        write_result(f"e{seed}", {"A": 0.6}, source=source(seed))
    for attempt in "ab":
        write_result(
            f"e2{attempt}", status="failed", error="disk full", source=source(2), pool=("A",)
        )
    (row,) = report().blocks[0].rows
    assert (count(row), marks(row)) == ("2/3", "1 failed")


def test_costs_of_condensing_are_those_of_the_run_that_made_the_set(write_result, report):
    costs = {
        "condense_wall_s": 60.0,
        "step_s_median": 0.5,
        "evaluate_wall_s": 4.0,
        "peak_memory_bytes": 3e9,
    }
    write_result("run", {"A": 0.5}, config_sha256="set 0", cost=costs)
    write_result(
        "e0", {"A": 0.6}, source=source(0), cost={"evaluate_wall_s": 8.0, "peak_memory_bytes": 1e9}
    )
    (row,) = report().blocks[0].rows
    found = {name: row.cost(name).mean for name in costs}
    assert found == costs | {"evaluate_wall_s": 6.0}


def test_settings_of_the_run_that_made_a_set_split_rows(write_result, report):
    for seed, lr in enumerate((0.5, 0.5, 2.0)):
        write_result(f"e{seed}", {"A": 0.5}, source=source(seed), settings={"method.lr": lr})
    rows = report().blocks[0].rows
    assert [(row.name, count(row)) for row in rows] == [
        ("dm (method.lr=0.5)", "2/3"),
        ("dm (method.lr=2.0)", "1/3"),
    ]


def test_random_images_count_once_for_each_seed_of_the_evaluation(write_result, report):
    for seed in (0, 1, 2):
        write_result(f"e{seed}", {"A": 0.7}, source=source(seed), baselines={"random": {"A": 0.5}})
    write_result("again", {"A": 0.7}, source=source(0), seed=9, baselines={"random": {"A": 0.4}})
    (_, random) = report().blocks[0].rows
    assert sorted(random.accuracies["A"].values) == [0.4, 0.5]


def test_random_images_are_split_by_normalisation(write_result, report):
    """Random images and the full set are normalised like the set beside them."""
    drawn = {"random": {"A": 0.5}, "random_decoded": {"A": 0.6}, "full": {"A": 0.9}}
    for seed, how in enumerate((None, "zca", "mean=[0.3] std=[0.38]", None)):
        write_result(f"{seed}", {"A": 0.7}, seed=seed, normalisation=how, baselines=drawn, factor=2)
    (block,) = report().blocks
    counts = {row.name: row.accuracies["A"].n for row in block.rows}
    assert counts == {
        "dm": 4,
        "random real images": 2,
        "random real images (mean=[0.3] std=[0.38])": 1,
        "random real images (zca)": 1,
        "random, shrunken (factor 2)": 2,
        "random, shrunken (factor 2, mean=[0.3] std=[0.38])": 1,
        "random, shrunken (factor 2, zca)": 1,
        "whole real set": 2,
        "whole real set (mean=[0.3] std=[0.38])": 1,
        "whole real set (zca)": 1,
    }


def test_random_images_with_soft_labels_are_a_row_of_their_own(write_result, report):
    """Of one seed they are the images of the other runs, and their accuracy is another."""
    for method, labels, mean in (("dm", None, 0.4), ("x", "hard", 0.4), ("datm", "as datm", 0.6)):
        drawn = {"random": {"A": mean}, "full": {"A": 0.9}}
        write_result(method, {"A": 0.7}, method=method, random_labels=labels, baselines=drawn)
    (block,) = report().blocks
    found = {row.name: row.accuracies["A"].values for row in block.rows if row.baseline}
    assert found == {
        "random real images": (0.4,),
        "random real images (labels as datm)": (0.6,),
        "whole real set": (0.9,),
    }


def test_a_null_teacher_is_not_a_setting(write_result, report):
    write_result("old", {"A": 0.5})
    write_result("new", {"A": 0.5}, seed=1, settings={"teacher": None})
    write_result("taught", {"A": 0.5}, seed=2, settings={"teacher.temperature": 4.0})
    assert [block.note for block in report().blocks] == ["", "teacher.temperature=4.0"]


def elsewhere(path, content=None):
    """Return the source of a set whose file does not record how it was made."""
    return {"path": path, "seed": None, "config_sha256": None} | (
        {} if content is None else {"content": content}
    )


@pytest.mark.parametrize("seeds", [[(0,), (1,)], [(0, 1, 2), (0, 1, 2)]])
@pytest.mark.parametrize("contents", [("aaaaaaaaaaaa", "bbbbbbbbbbbb"), (None, None)])
def test_external_sets_have_rows_of_their_own_for_any_seeds(contents, seeds, write_result, report):
    for name, content, of in zip("AB", contents, seeds, strict=True):
        for seed in of:
            run = {
                "source": elsewhere(f"idc/{name}/data.pt", content),
                "seed": seed,
                "method": "data",
            }
            write_result(f"{name}{seed}", {"A": 0.5}, **run)
    found = report()
    (block,) = found.blocks
    rows = [
        (f"data (synthetic={name}/data.pt)", len(of)) for name, of in zip("AB", seeds, strict=True)
    ]
    assert [(row.name, len(row.runs)) for row in block.rows] == rows
    assert found.merged == ()


def test_external_sets_are_identified_by_content_not_by_path(write_result, report):
    """Two sets with the same path, and a copy of one of them."""
    places = (
        ("data.pt", "aaaaaaaaaaaa"),
        ("data.pt", "bbbbbbbbbbbb"),
        ("copy/data.pt", "aaaaaaaaaaaa"),
    )
    for seed, (path, content) in enumerate(places):
        write_result(
            f"{seed}", {"A": 0.5}, source=elsewhere(path, content), seed=seed, method="data"
        )
    (block,) = report().blocks
    assert [(row.note, len(row.runs)) for row in block.rows] == [
        ("synthetic=data.pt (aaaaaaaa)", 2),
        ("synthetic=data.pt (bbbbbbbb)", 1),
    ]


def test_several_sets_of_one_file_are_labelled_by_index(write_result, report):
    for number, content in enumerate(("aaaaaaaaaaaa", "bbbbbbbbbbbb")):
        settings = {"synthetic.index": number}
        run = {"source": elsewhere("dm/res.pt", content), "settings": settings, "method": "res"}
        write_result(f"{number}", {"A": 0.5}, **run)
        notes = {0: [""], 1: ["synthetic=dm/res.pt[0]", "synthetic=dm/res.pt[1]"]}
        assert [row.note for row in report().blocks[0].rows] == notes[number]


def test_external_sets_merged_by_group_by_are_reported(names, write_result, report):
    for name in "AB":
        for seed in (0, 1):
            run = {
                "source": elsewhere(f"{name}/data.pt", name * 12),
                "seed": seed,
                "method": "data",
            }
            write_result(f"{name}{seed}", {"A": 0.5}, **run)
    assert report("method").merged == ("synthetic",)
    assert names(report("synthetic").blocks[0]) == [
        "data (synthetic=A/data.pt)",
        "data (synthetic=B/data.pt)",
    ]


def test_a_set_with_a_recorded_seed_only_counts_by_it(write_result, report):
    """Sets with a seed and no configuration: each seed is one sample, however often evaluated."""
    for seed, draws in ((0, 5), (0, 6), (1, 5)):
        known = elsewhere(f"mine/{seed}.safetensors", str(seed) * 12) | {"seed": seed}
        write_result(f"{seed}{draws}", {"A": draws / 10}, source=known, seed=draws, method="mine")
    (row,) = report().blocks[0].rows
    assert (row.name, row.accuracies["A"].values) == ("mine", (0.55, 0.5))


def test_held_out_accuracies_are_blocks_of_their_own(names, write_result, report):
    for seed, (held_out, test) in enumerate([(0.9, 0.5), (0.8, 0.6)]):
        drawn = {"random": {"A": held_out - 0.1}}
        settings = {"test_on": "held_out"}
        run = {"settings": settings, "seed": seed, "config_sha256": f"set {seed}"}
        write_result(f"run{seed}", {"A": held_out}, baselines=drawn, tested_on="held_out", **run)
        e = {"source": source(seed), "settings": settings, "baselines": {"random": {"A": 0.1}}}
        write_result(f"e{seed}", {"A": test}, tested_on="test", seed=seed, **e)
    test, held_out = report().blocks
    assert test.title == "digits, protocol quick, ipc 1"
    assert held_out.title == "digits, protocol quick, tested on held-out images, ipc 1"
    for block, ours, random in ((test, (0.5, 0.6), (0.1, 0.1)), (held_out, (0.9, 0.8), (0.8, 0.7))):
        assert names(block) == ["dm", "random real images"]
        assert [row.accuracies["A"].values for row in block.rows] == [ours, pytest.approx(random)]
    assert test.family != held_out.family


def test_a_set_made_without_the_held_out_images_is_marked(write_result, report):
    for seed, test_on in enumerate(("held_out", "test")):
        write_result(
            f"e{seed}",
            {"A": 0.5},
            source=source(seed),
            settings={"test_on": test_on},
            tested_on="test",
        )
    write_result("run", {"A": 0.5}, seed=2, settings={"test_on": "test"}, tested_on="test")
    (block,) = report().blocks
    assert [(row.name, len(row.runs)) for row in block.rows] == [
        ("dm", 2),
        ("dm (source.test_on=held_out)", 1),
    ]


def test_a_set_condensed_twice_with_other_evaluations_is_one_sample(write_result, report):
    """Runs that differ in their pool only made the same set."""
    write_result("a", {"A": 0.5}, config_sha256="one")
    write_result("b", {"B": 0.5}, config_sha256="two", settings={"pool": "convnet"})
    write_result("c", {"A": 0.6}, source={"seed": 0, "config_sha256": "two"})
    block = next(block for block in report().blocks if block.networks == ("A",))
    assert [(count(row), row.accuracies["A"].values) for row in block.rows] == [("1", (0.55,))]


def test_classes_by_number_and_by_name_are_one_block(write_result, report):
    for seed, classes in enumerate(([3, 5], ["cat", "dog"])):
        write_result(
            f"r{seed}",
            {"A": 0.5},
            seed=seed,
            dataset="cifar10-cat-dog",
            settings={"dataset.classes": classes},
        )
    (block,) = report().blocks
    assert [count(row) for row in block.rows] == ["2"]


def test_a_whitened_set_that_another_run_evaluated_is_one_set(write_result, report):
    whitened = {"normalisation": "zca"}
    write_result("run", config_sha256="set 0", pool=("A",), **whitened)
    write_result("e0", {"A": 0.6}, source=source(0), **whitened)
    (row,) = report().blocks[0].rows
    assert (count(row), marks(row)) == ("1", "")


def test_sets_condensed_from_data_read_otherwise_are_rows_of_their_own(write_result, report):
    """Their evaluations have one configuration; what made them differs in the data set's settings."""
    for seed, flip in ((0, True), (1, True), (0, False)):
        made = {"method": {"lr": 1.0, "steps": 10}, "dataset": {"flip": flip}}
        write_result(
            f"{seed}{flip}",
            {"A": 0.5},
            source=source(seed) | {"config": made},
            settings={"dataset.flip": True},
        )
    (block,) = report().blocks
    assert [(row.name, count(row)) for row in block.rows] == [
        ("dm", "2"),
        ("dm (source.dataset.flip=false)", "1/2"),
    ]


def test_a_score_is_averaged_over_the_evaluations_of_a_set_first(write_result, report):
    for name, seed, ior in (("a", 0, 0.2), ("b", 0, 0.4), ("c", 0, 0.3), ("d", 1, 0.1)):
        write_result(name, {"A": 0.5}, source=source(seed), seed=ord(name), scores={"ior": ior})
    (row,) = report().blocks[0].rows
    assert row.score("ior").values == pytest.approx((0.3, 0.1))


def test_random_images_labelled_by_different_networks_are_rows_of_their_own(
    names, write_result, report
):
    """Not where only the images are made otherwise."""
    for epochs, lr, mean in ((5, 1, 0.4), (20, 1, 0.6), (20, 2, 0.6)):
        write_result(
            f"e{epochs}{lr}",
            {"A": 0.7},
            method="datm",
            settings={"method.label_epoch": epochs, "method.lr": lr},
            random_labels="as datm",
            baselines={"random": {"A": mean}},
        )
    block = report().blocks[0]
    random = [(row.name, row.accuracies["A"].values) for row in block.rows if row.baseline]
    assert random == [
        ("random real images (labels as datm (method.label_epoch=20))", (0.6,)),
        ("random real images (labels as datm (method.label_epoch=5))", (0.4,)),
    ]


def test_what_bounds_memory_splits_no_row(write_result, report):
    """After an out-of-memory error a seed is repeated with a smaller batch."""
    for seed, batch in enumerate((1000, 500)):
        write_result(f"r{seed}", {"A": 0.5}, seed=seed, settings={"evaluation.test_batch": batch})
    (block,) = report().blocks
    assert [count(row) for row in block.rows] == ["2"]


def test_settings_of_the_data_that_made_a_set_are_no_settings_of_its_evaluation(
    write_result, report
):
    """Condensed from a folder and evaluated from a file: comparable with sets made from the file."""
    made = {"method": {"lr": 1.0, "steps": 10}, "dataset": {"background": "white"}}
    write_result(
        "folder", {"A": 0.5}, source=source(0) | {"config": made}, settings={"dataset.flip": True}
    )
    write_result("file", {"A": 0.5}, source=source(1), settings={"dataset.flip": True})
    (block,) = report().blocks
    assert block.note == ""
    assert [row.name for row in block.rows] == ["dm", "dm (source.dataset.background=white)"]


def test_equal_images_made_in_different_ways_are_two_sets(write_result, report):
    """Herding and k-means at ipc 1, say: their evaluations have one configuration and content."""
    for method in ("herding", "kmeans"):
        made = {"seed": 0, "config_sha256": method, "config": {}, "content": "a" * 12}
        made["config"] = {"method": {"_target_": method}}
        for copy in ("1", "2"):  # the same set evaluated twice counts once
            write_result(
                f"{method}{copy}", {"A": 0.5}, source=made, method=method, config_sha256="x"
            )
    found = report()
    assert [row.name for row in found.blocks[0].rows] == ["herding", "kmeans"]
    assert found.repeated == 2


def test_sets_made_in_python_with_unknown_settings_are_rows_of_their_own(write_result, report):
    for content in ("a" * 12, "b" * 12):
        made = {"seed": 0, "config": {}, "choices": {}, "content": content, "path": f"{content}/x"}
        write_result(content, {"A": 0.5}, source=made, method="m3d")
    assert len(report().blocks[0].rows) == 2


def test_merged_files_count_once_each(write_result, report):
    for name in "ABC":
        for seed in (0, 1):
            place = elsewhere(f"{name}/data.pt", name * 12)
            write_result(f"{name}{seed}", {"A": 0.5}, source=place, seed=seed, method="data")
    (row,) = report("method").blocks[0].rows
    assert row.accuracies["A"].n == 3
