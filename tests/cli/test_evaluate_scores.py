"""``dcond evaluate``: scores, two sets compared, searched rates, teachers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dcond.training.teacher import Teacher


def test_two_sets_on_the_same_networks(two_files, evaluate):
    done, result = evaluate(
        "synthetic=good.npz", "against=bad.npz", "evaluation.lr=0.05", epochs=40
    )
    assert done.code == 0, done.err
    comparison = result["comparison"]
    assert (comparison["against"], result["method"]) == ("bad", "good")
    ours = result["evaluation"]["networks"]["ConvNet"]["accuracies"]
    theirs = comparison["evaluation"]["networks"]["ConvNet"]["accuracies"]
    differences = comparison["networks"]["ConvNet"]["differences"]
    assert differences == pytest.approx([a - b for a, b in zip(ours, theirs, strict=True)])
    assert comparison["average"]["mean"] > 0.3
    assert "difference" in done.out
    assert "good" in done.out


def test_a_set_against_itself_differs_by_nothing(two_files, evaluate):
    _, result = evaluate("synthetic=good.npz", "against=good.npz", "baselines=false")
    assert result["comparison"]["average"]["differences"] == [0, 0]
    assert result["scores"] is None


def test_against_null_is_against_none(two_files, evaluate):
    done, result = evaluate("synthetic=good.npz", "against=null", "baselines=false")
    assert done.code == 0, done.err
    assert result["comparison"] is None


@pytest.mark.parametrize(
    "arguments", [("synthetic=null",), ("synthetic=",), ("synthetic=null", "dataset=digits"), ()]
)
def test_nothing_to_evaluate(arguments, run_cli, results):
    line = run_cli("evaluate", *arguments).line
    assert line == "no set to evaluate; give one: dcond evaluate FILE_OR_RUN_FOLDER."
    assert results() == []


def test_the_other_set_has_options_of_its_own(digits, two_files, evaluate):
    torch.save(list(digits), "data.pt")
    done, _ = evaluate("synthetic=good.npz", "against=data.pt")
    assert done.err.endswith(
        "pass against.factor=2 (as most of these sets have), another one, or 1 if images are not packed.\n"
    )
    done, result = evaluate(
        "synthetic=good.npz", "against=data.pt", "against.factor=1", "baselines=false"
    )
    assert done.code == 0, done.err
    assert result["comparison"]["average"]["mean"] == pytest.approx(0, abs=1e-6)


def test_scores_of_all_kinds(two_files, evaluate, folder):
    arguments = ("synthetic=good.npz", "scores.full=true", "scores.unaugmented=true")
    done, result = evaluate(*arguments)
    assert done.code == 0, done.err
    scores = result["scores"]
    assert all(scores[name] is not None for name in ("ior", "hlr", "lrs", "ars"))
    assert scores["hlr"] == pytest.approx(
        result["baselines"]["full"]["average"] - result["evaluation"]["average"]
    )
    assert set(result["score_inputs"]) == {"condensed_unaugmented", "random_unaugmented"}
    assert scores["networks"].keys() == {"ConvNet"}
    assert "LRS" in done.out
    (kept,) = (folder / "outputs" / "cache").iterdir()
    assert kept.name.startswith("full_digits_ConvNet_")
    (folder / "e" / "result.json").unlink()
    done, again = evaluate(*arguments)
    assert again["baselines"]["full"] == result["baselines"]["full"]
    assert "cached result of" in done.err


def test_soft_labels_are_scored_by_hard_ones_where_the_score_is_of_these(digits, evaluate):
    images, labels = digits
    torch.save(images, "images_best.pt")
    torch.save(torch.nn.functional.one_hot(labels, 10) * 5.0, "labels_best.pt")
    options = ("synthetic.normalised=false", "synthetic.logits=true", "scores.full=true")
    done, result = evaluate("synthetic=images_best.pt", *options)
    assert done.code == 0, done.err
    hard = result["score_inputs"]["hard_labels"]["average"]
    assert result["scores"]["hlr"] == pytest.approx(result["baselines"]["full"]["average"] - hard)


def test_the_full_data_are_normalised_as_the_set(digits, evaluate):
    images, labels = digits
    torch.save({"data": [[(images - 0.3) / 0.38, labels]], "accs_all_exps": {}}, "res_DM.pt")
    arguments = ("synthetic=res_DM.pt", "scores.full=true", "baselines=false")
    _, own = evaluate(*arguments, "synthetic.mean=[0.3]", "synthetic.std=[0.38]")
    Path("e/result.json").unlink()
    _, other = evaluate(*arguments, "synthetic.mean=[0.5]", "synthetic.std=[0.1]")
    full = [result["baselines"]["full"]["networks"] for result in (own, other)]
    assert full[0]["ConvNet"]["accuracies"] != full[1]["ConvNet"]["accuracies"]
    assert len(list(Path("outputs/cache").iterdir())) == 2


TEACHER = (
    "teacher=convnet",
    "teacher.network.width=8",
    "teacher.epochs=1",
    "teacher.network.depth=1",
)


def test_a_teacher_labels_all_that_is_compared_and_scores_are_of_hard_labels(
    two_files, evaluate, folder
):
    arguments = (
        "synthetic=good.npz",
        *TEACHER,
        "teacher.temperature=3",
        "scores.full=true",
        "against=bad.npz",
    )
    done, result = evaluate(*arguments)
    assert done.code == 0, done.err
    told = result["evaluation"]["teacher"]
    assert (told["network"], told["temperature"], told["epochs"]) == ("ConvNet", 3, 1)
    assert (
        result["baselines"]["random"]["teacher"]
        == result["comparison"]["evaluation"]["teacher"]
        == told
    )
    assert (
        result["baselines"]["full"]["teacher"]
        is result["score_inputs"]["hard_labels"]["teacher"]
        is None
    )
    hard = result["score_inputs"]["hard_labels"]["average"]
    assert result["scores"]["hlr"] == pytest.approx(result["baselines"]["full"]["average"] - hard)
    assert (result["choices"]["teacher"], result["config"]["teacher"]["temperature"]) == (
        "convnet",
        3,
    )
    caption = " ".join(done.out.split())
    assert (
        f"labels by a teacher (ConvNet, {100 * told['accuracy']:.1f} %) at temperature 3" in caption
    )
    assert len(list((folder / "outputs" / "cache").glob("teacher_digits_ConvNet_*.pt"))) == 1
    plain, _ = evaluate("synthetic=good.npz", "baselines=false", "hydra.run.dir=e2")
    assert plain.code == 0, plain.err
    assert "teacher" not in json.loads(Path("e2/result.json").read_text())["choices"]


def test_stored_soft_labels_give_way_to_a_teacher(digits, evaluate):
    images, labels = digits
    np.savez("soft.npz", images=images, labels=torch.nn.functional.one_hot(labels, 10).float())
    done, _ = evaluate("synthetic=soft.npz", *TEACHER, "baselines=false")
    assert done.code == 0, done.err
    assert "the teacher's labels replace the stored soft labels" in done.err


def test_a_teacher_is_asked_for_once_however_often_a_run_is_evaluated(
    condense, results, monkeypatch
):
    """It is known by a hash of every real image, which takes a pass over the data."""
    asked, learnt = [], Teacher.load_or_train
    monkeypatch.setattr(
        Teacher, "load_or_train", lambda self, *given: asked.append(1) or learnt(self, *given)
    )
    done = condense(
        *TEACHER, "loop.evaluate_every=1", "max_steps=5", "evaluation.epochs=1", "baselines=false"
    )
    assert done.code == 0, done.err
    assert "step 4: average test accuracy" in done.err
    assert len(asked) == 1  # on the way, and at the end


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("teacher=convent",),
            "teacher='convent' is unknown; allowed: convnet. Did you mean 'convnet'?",
        ),
        (
            ("teacher=convnet", "teacher.temperature=0"),
            "teacher.temperature=0 is out of range; allowed: numbers above 0.",
        ),
        (
            ("teacher=convnet", "teacher.temperature=warm"),
            "teacher.temperature='warm' must be a number.",
        ),
        (
            ("teacher=convnet", "model@teacher.network=mlp", "teacher.network.width=3"),
            "teacher.network.width is not a setting of teacher=convnet.",
        ),
    ],
)
def test_wrong_teacher_settings(arguments, message, two_files, evaluate):
    assert evaluate("synthetic=good.npz", *arguments)[0].line.startswith(message)


def test_a_teacher_that_cannot_take_the_images_is_refused_before_any_step(condense, folder):
    line = condense("teacher=convnet", "teacher.network.depth=9").line
    assert line.startswith("ConvNet: depth=9 is too large for 8x8 images")
    assert not [*folder.rglob("checkpoint.pt"), *folder.rglob("synthetic.safetensors")]


def test_searched_rates_are_recorded(two_files, evaluate):
    done, result = evaluate(
        "synthetic=good.npz", "evaluation.lr=search", "evaluation.search_rates=[0.01,0.1]"
    )
    assert done.code == 0, done.err
    for part in (result["evaluation"], result["baselines"]["random"]):
        network = part["networks"]["ConvNet"]
        assert network["lr_search"].keys() == {"0.01", "0.1"}
        assert network["lr"] in (0.01, 0.1)


def test_best_over_epochs_is_a_separate_figure(two_files, evaluate):
    _, result = evaluate("synthetic=good.npz", "evaluation.best_every=1", "baselines=false")
    network = result["evaluation"]["networks"]["ConvNet"]
    assert all(
        best >= last
        for best, last in zip(
            network["best_over_epochs_on_test"], network["accuracies"], strict=True
        )
    )


def test_no_ars_without_augmentation(two_files, evaluate):
    done, result = evaluate("synthetic=good.npz", "scores.unaugmented=true", "evaluation=dc300")
    assert result["scores"]["ars"] is None
    assert "no ARS: protocol dc300 with epochs=2 has no augmentation" in done.err


def test_wrong_switches(two_files, evaluate):
    assert evaluate("synthetic=good.npz", "scores.full=yes please")[0].line == (
        "scores.full='yes please' must be true or false."
    )


def test_no_ars_without_random_images(two_files, evaluate):
    done, _ = evaluate("synthetic=good.npz", "scores.unaugmented=true", "baselines=false")
    assert "no ARS: it needs random images (baselines=true)" in done.err


def test_options_of_a_second_set_need_one(two_files, evaluate):
    assert evaluate("synthetic=good.npz", "against.factor=2")[0].line == (
        "against.factor=2 needs against=PATH; add it, or remove this."
    )
