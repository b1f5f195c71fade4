"""``dcond evaluate`` on files from elsewhere, as typed."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import dcond

QUICK = ("dataset=digits", "pool=convnet", "pool.networks.ConvNet.width=8", "evaluation.repeats=2", "hydra.run.dir=e")


@pytest.fixture
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of every digit, class-major, in [0, 1]."""
    data = load_digits()
    rows = np.concatenate([np.flatnonzero(data.target == label)[:2] for label in range(10)])
    return torch.tensor(data.images[rows, None] / 16, dtype=torch.float32), torch.tensor(data.target[rows])


@pytest.fixture
def evaluate(run_cli, folder):
    """Evaluate and return how it ended with the result."""

    def run(*words, epochs=2):
        done = run_cli("evaluate", *QUICK, f"evaluation.epochs={epochs}", *words)
        file = folder / "e" / "result.json"
        return done, json.loads(file.read_text()) if file.is_file() else None

    return run


def test_a_file_from_elsewhere_and_its_options_as_typed(digits, evaluate, folder):
    images, labels = digits
    torch.save({"data": [[(images - 0.3) / 0.38, labels]], "accs_all_exps": {"a": [np.float64(1)]}}, "res_DM.pt")
    options = ("synthetic.mean=[0.3]", "synthetic.std=[0.38]")
    done, result = evaluate("synthetic=res_DM.pt", *options, "synthetic.normalised=true")
    assert done.code == 0, done.err
    assert (result["status"], result["method"], result["dataset"]) == ("done", "res_DM", "digits")
    assert (result["ipc"], result["images_stored"], result["factor"]) == (2, 20, 1)
    assert result["baselines"]["random"] is not None
    unknown = dict.fromkeys(("learned_lr", "seed", "config_sha256", "choices", "config"))
    read = {"path": "res_DM.pt", "layout": "DC, DSA, DM", "read_as": "normalised"}
    assert result["source"] == read | {"content": result["source"]["content"]} | unknown
    assert result["normalisation"] == "mean=[0.3] std=[0.38]"
    assert result["choices"] == {"dataset": "digits", "pool": "convnet", "evaluation": "quick"}
    assert result["config"].keys() == {*result["choices"], "seed", "synthetic"}
    assert result["config"]["evaluation"]["epochs"] == 2
    assert result["config"]["synthetic"] == {"normalised": True, "mean": [0.3], "std": [0.38]}
    assert "res_DM.pt: read as DC, DSA, DM, normalised by mean 0.3 and std 0.38" in done.err
    assert "perhaps they are not stored as read" not in done.err


def test_what_cannot_be_known_stops_before_anything_is_trained(digits, evaluate):
    torch.save(list(digits), "data.pt")
    done, result = evaluate("synthetic=data.pt")
    assert done.line.startswith("data.pt (IDC, NCFM) does not hold its multi-formation factor; pass synthetic.factor=2")
    assert (result["status"], result["evaluation"]) == ("failed", None)


def test_a_wrong_normalisation_is_told_with_its_cure(digits, evaluate):
    images, labels = digits
    torch.save([(images - 0.3) / 0.38, labels], "data.pt")
    done, _ = evaluate("synthetic=data.pt", "synthetic.factor=1", "synthetic.normalised=false")
    assert done.code == 0, done.err
    assert "perhaps they are not stored as read: pass synthetic.normalised=true" in done.err


def test_accuracy_near_chance_is_told_with_its_cure(digits, evaluate):
    """Labels of other classes: what wrong whitening comes to, at a size that is sure."""
    images, labels = digits
    torch.save([images, (labels + 1) % 10], "data.pt")
    done, result = evaluate("synthetic=data.pt", "synthetic.factor=1", "evaluation.lr=0.05", epochs=60)
    assert result["evaluation"]["average"] < 0.14
    assert (
        "is near chance (10.0 %), as with images of another normalisation: pass synthetic.normalised=true" in done.err
    )


def test_a_whitened_set(digits, evaluate):
    images, labels = digits
    np.savez("x.npz", images=images, labels=labels)
    done, result = evaluate("synthetic=x.npz", "synthetic.zca=true")
    assert done.code == 0, done.err
    assert result["normalisation"] == "zca"
    assert "ZCA-whitened as digits's training images" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("synthetic=x.npz", "synthetic.normalised=maybe"),
            "synthetic.normalised='maybe' must be true or false or null.",
        ),
        (("synthetic=x.npz", "synthetic.factr=2"), "Could not override 'synthetic.factr'."),
        (
            ("synthetic=x.npz", "synthetic.factor=0"),
            "synthetic.factor=0 is out of range; allowed: whole numbers from 1.",
        ),
        (
            ("synthetic=run.txt",),
            "no artefact at run.txt; give a synthetic.safetensors or the run folder that holds one.",
        ),
    ],
)
def test_wrong_words(words, message, digits, evaluate):
    np.savez("x.npz", images=digits[0], labels=digits[1])
    assert evaluate(*words)[0].line.startswith(message)


def test_a_file_does_not_name_its_data_set(digits, run_cli):
    torch.save(list(digits), "data.pt")
    line = run_cli("evaluate", "synthetic=data.pt").line
    assert line == "data.pt does not name the data set it was made from; say dataset=NAME."


def test_several_files_in_a_sweep(digits, run_cli, folder, results):
    for name in ("a", "b"):
        np.savez(f"{name}.npz", images=digits[0], labels=digits[1])
    words = [word for word in QUICK if not word.startswith("hydra")]
    done = run_cli("evaluate", "-m", "synthetic=a.npz,b.npz", "baselines=false", "evaluation.epochs=1", *words)
    assert done.code == 0, done.err
    assert [result["method"] for result in results()] == ["a", "b"]


# --- scores, comparison, searched rates -----------------------------------------------------------------------------


@pytest.fixture
def two_files(digits):
    """A set, and the same images with labels of other classes."""
    images, labels = digits
    np.savez("good.npz", images=images, labels=labels)
    np.savez("bad.npz", images=images, labels=(labels + 1) % 10)


def test_two_sets_on_the_same_networks(two_files, evaluate):
    done, result = evaluate("synthetic=good.npz", "against=bad.npz", "evaluation.lr=0.05", epochs=40)
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


@pytest.mark.parametrize("words", [("synthetic=null",), ("synthetic=",), ("synthetic=null", "dataset=digits"), ()])
def test_nothing_to_evaluate(words, run_cli, results):
    line = run_cli("evaluate", *words).line
    assert line == "say what to evaluate: dcond evaluate synthetic=FILE (or the run folder that holds it)."
    assert results() == []


def test_the_other_set_has_options_of_its_own(digits, two_files, evaluate):
    torch.save(list(digits), "data.pt")
    done, _ = evaluate("synthetic=good.npz", "against=data.pt")
    assert done.err.endswith(
        "pass against.factor=2 (as most of these sets have), another one, or 1 where an image is an image.\n"
    )
    done, result = evaluate("synthetic=good.npz", "against=data.pt", "against.factor=1", "baselines=false")
    assert done.code == 0, done.err
    assert result["comparison"]["average"]["mean"] == pytest.approx(0, abs=1e-6)


def test_scores_of_all_kinds(two_files, evaluate, folder):
    words = ("synthetic=good.npz", "scores.full=true", "scores.unaugmented=true")
    done, result = evaluate(*words)
    assert done.code == 0, done.err
    scores = result["scores"]
    assert all(scores[name] is not None for name in ("ior", "hlr", "lrs", "ars"))
    assert scores["hlr"] == pytest.approx(result["baselines"]["full"]["average"] - result["evaluation"]["average"])
    assert set(result["score_inputs"]) == {"condensed_unaugmented", "random_unaugmented"}
    assert scores["networks"].keys() == {"ConvNet"}
    assert "LRS" in done.out
    (kept,) = (folder / "outputs" / "cache").iterdir()
    assert kept.name.startswith("full_digits_ConvNet_")
    (folder / "e" / "result.json").unlink()
    done, again = evaluate(*words)
    assert again["baselines"]["full"] == result["baselines"]["full"]
    assert "kept figure of" in done.err


def test_soft_labels_are_scored_by_hard_ones_where_the_score_is_of_these(digits, evaluate):
    images, labels = digits
    torch.save(images, "images_best.pt")
    torch.save(torch.nn.functional.one_hot(labels, 10) * 5.0, "labels_best.pt")
    options = ("synthetic.normalised=false", "synthetic.logits=true", "scores.full=true")
    done, result = evaluate("synthetic=images_best.pt", *options)
    assert done.code == 0, done.err
    hard = result["score_inputs"]["hard_labels"]["average"]
    assert result["scores"]["hlr"] == pytest.approx(result["baselines"]["full"]["average"] - hard)


TEACHER = ("teacher=convnet", "teacher.network.width=8", "teacher.epochs=1", "teacher.network.depth=1")


def test_a_teacher_labels_all_that_is_compared_and_scores_are_of_hard_labels(two_files, evaluate, folder):
    words = ("synthetic=good.npz", *TEACHER, "teacher.temperature=3", "scores.full=true", "against=bad.npz")
    done, result = evaluate(*words)
    assert done.code == 0, done.err
    told = result["evaluation"]["teacher"]
    assert (told["network"], told["temperature"], told["epochs"]) == ("ConvNet", 3, 1)
    assert result["baselines"]["random"]["teacher"] == result["comparison"]["evaluation"]["teacher"] == told
    assert result["baselines"]["full"]["teacher"] is result["score_inputs"]["hard_labels"]["teacher"] is None
    hard = result["score_inputs"]["hard_labels"]["average"]
    assert result["scores"]["hlr"] == pytest.approx(result["baselines"]["full"]["average"] - hard)
    assert (result["choices"]["teacher"], result["config"]["teacher"]["temperature"]) == ("convnet", 3)
    caption = " ".join(done.out.split())
    assert f"labels by a teacher (ConvNet, {100 * told['accuracy']:.1f} %) at temperature 3" in caption
    assert len(list((folder / "outputs" / "cache").glob("teacher_digits_ConvNet_*.pt"))) == 1
    plain, _ = evaluate("synthetic=good.npz", "baselines=false", "hydra.run.dir=e2")
    assert plain.code == 0, plain.err
    assert "teacher" not in json.loads(Path("e2/result.json").read_text())["choices"]


def test_stored_soft_labels_give_way_to_a_teacher(digits, evaluate):
    images, labels = digits
    np.savez("soft.npz", images=images, labels=torch.nn.functional.one_hot(labels, 10).float())
    done, _ = evaluate("synthetic=soft.npz", *TEACHER, "baselines=false")
    assert done.code == 0, done.err
    assert "the teacher's labels take the place of the soft labels that are stored" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("teacher=convent",), "teacher='convent' is unknown; allowed: convnet. Did you mean 'convnet'?"),
        (("teacher=convnet", "teacher.temperature=0"), "teacher.temperature=0 is out of range; greater than 0."),
        (("teacher=convnet", "teacher.temperature=warm"), "evaluation.teacher.temperature='warm' must be a number."),
        (("teacher=convnet", "model@teacher.network=mlp", "teacher.network.width=3"), "Could not override"),
    ],
)
def test_wrong_words_about_a_teacher(words, message, two_files, evaluate):
    assert evaluate("synthetic=good.npz", *words)[0].line.startswith(message)


def test_rates_are_searched_and_told(two_files, evaluate):
    done, result = evaluate("synthetic=good.npz", "evaluation.lr=search", "evaluation.search_rates=[0.01,0.1]")
    assert done.code == 0, done.err
    for part in (result["evaluation"], result["baselines"]["random"]):
        network = part["networks"]["ConvNet"]
        assert network["lr_search"].keys() == {"0.01", "0.1"}
        assert network["lr"] in (0.01, 0.1)


def test_looks_at_the_test_set_are_kept_apart(two_files, evaluate):
    _, result = evaluate("synthetic=good.npz", "evaluation.best_every=1", "baselines=false")
    network = result["evaluation"]["networks"]["ConvNet"]
    assert all(
        best >= last for best, last in zip(network["best_over_epochs_on_test"], network["accuracies"], strict=True)
    )


def test_no_ars_without_augmentation(two_files, evaluate):
    done, result = evaluate("synthetic=good.npz", "scores.unaugmented=true", "evaluation=dc300")
    assert result["scores"]["ars"] is None
    assert "no ARS: protocol dc300 has no augmentation to leave out" in done.err


def test_wrong_switches(two_files, evaluate):
    assert evaluate("synthetic=good.npz", "scores.full=yes please")[0].line == (
        "scores.full='yes please' is unknown; allowed: true, false."
    )


def test_a_set_is_known_by_its_content_wherever_it_lies(digits, run_cli, results, monkeypatch, folder):
    """Two sets typed alike in two folders, and a copy of the first: two rows, of one evaluation each."""
    images, labels = digits
    for name, whose in {"a": images, "b": images.flip(3), "copy": images}.items():
        (folder / name).mkdir()
        monkeypatch.chdir(folder / name)
        torch.save([whose, labels], "data.pt")
        words = (*QUICK, "evaluation.epochs=1", "baselines=false", "synthetic=data.pt", "synthetic.factor=1")
        assert run_cli("evaluate", *words).code == 0
    monkeypatch.chdir(folder)
    a, b, copy = results()
    assert a["source"]["content"] == copy["source"]["content"] != b["source"]["content"]
    assert a["config_sha256"] == copy["config_sha256"] != b["config_sha256"]
    done = run_cli("report", ".", "--format", "csv")
    rows = [line for line in csv.DictReader(io.StringIO(done.out)) if line["network"] == "ConvNet"]
    contents = sorted(result["source"]["content"][:8] for result in (a, b))
    assert sorted(row["settings"] for row in rows) == [f"synthetic=data.pt ({content})" for content in contents]
    assert [row["n"] for row in rows] == ["1", "1"]


def test_a_repeated_sweep_leaves_alone_what_has_all_that_is_asked_for(two_files, run_cli, digits):
    words = ("evaluate", "-m", *QUICK[:-1], "evaluation.epochs=1", "hydra.sweep.dir=s", "synthetic=good.npz")
    assert run_cli(*words, "against=bad.npz").code == 0
    for fewer in ((), ("baselines=false",), ("against=bad.npz",)):
        done = run_cli(*words, *fewer)
        assert (done.code, "s/0 is finished, left as it is" in done.err) == (0, True)
    for more, what in (
        (("against=good.npz",), "this against"),
        (("scores.full=true", "scores.unaugmented=true"), "scores.full, scores.unaugmented"),
    ):
        done = run_cli(*words, *more)
        last = f"s/0 holds a finished run of these settings without {what}, never overwritten; choose another folder.\n"
        assert (done.code, done.err.endswith(last)) == (1, True), done.err
    np.savez("good.npz", images=digits[0].flip(3), labels=digits[1])
    assert "s/0 holds a finished run of other settings" in run_cli(*words).err


# --- dcond's own, and back again ------------------------------------------------------------------------------------


def test_evaluations_of_several_seeds_stand_with_the_runs_that_made_them(condense, run_cli, results):
    """One row of two samples, the set of seed 1 evaluated twice."""
    assert condense("-m", "seed=0,1", "method.lr=0.5", "baselines=false", "hydra.sweep.dir=runs").code == 0
    words = ("dataset=digits", "evaluation=quick", "evaluation.epochs=2", "evaluation.repeats=2", "baselines=false")
    pool = ("pool=convnet", "pool.networks.ConvNet.width=8")
    done = run_cli("evaluate", *words, *pool, "synthetic=runs/1", "seed=7", "hydra.run.dir=scored")
    assert done.code == 0, done.err
    made, scored = results()[1:]
    assert scored["source"]["config_sha256"] == made["config_sha256"]
    assert (scored["seed"], scored["source"]["seed"]) == (7, 1)
    assert scored["source"]["config"]["method"] == made["config"]["method"]
    assert scored["source"]["choices"].keys() == made["choices"].keys() - {"dataset", "pool", "evaluation"}
    report = csv.DictReader(io.StringIO(run_cli("report", ".", "--format", "csv").out))
    (line,) = [line for line in report if line["network"] == "ConvNet"]
    assert (line["method"], line["settings"], line["n"], line["seeds"]) == ("dm", "", "2", "0 1")


def test_a_set_made_to_choose_settings_keeps_its_held_out_accuracy_apart(condense, run_cli, results):
    """Its run tested it on held-out images, `dcond evaluate` on the test set."""
    words = ("test_on=held_out", "evaluation.repeats=1", "hydra.run.dir=run")
    assert condense(*words).code == 0
    pool = ("pool=convnet", "pool.networks.ConvNet.width=8")
    again = ("evaluation=quick", "evaluation.epochs=2", "evaluation.repeats=1", "hydra.run.dir=scored")
    assert run_cli("evaluate", "synthetic=run", *pool, *again).code == 0
    assert [result["evaluation"]["tested_on"] for result in results()] == ["held_out", "test"]
    report = csv.DictReader(io.StringIO(run_cli("report", ".", "--format", "csv").out))
    found = [(line["tested_on"], line["method"], line["n"]) for line in report if line["network"] == "ConvNet"]
    assert [result["normalisation"] for result in results()] == [None, None]
    rows = ("dm", "random real images")
    assert found == [(tested_on, row, "1") for tested_on in ("test", "held_out") for row in rows]
    assert "tested on held-out images" in run_cli("report", "run").out


@pytest.mark.parametrize("kind", ["npz", "pt", "png"])
def test_what_dcond_exports_it_scores_as_the_artefact_itself(kind, finished, run_cli, evaluate):
    """npz to the last bit; pt has gone through its normalisation, png through 8 bits."""
    out = {"npz": "x.npz", "pt": "x.pt", "png": "x"}[kind]
    assert run_cli("export", finished, "--to", kind, "--out", out).code == 0
    _, whole = evaluate(f"synthetic={finished}", "baselines=false", epochs=3)
    done, got = evaluate(f"synthetic={out}", "baselines=false", "hydra.run.dir=e2", epochs=3)
    if kind == "pt":
        assert "pass synthetic.normalised=true" in done.line
        artefact = dcond.load(finished)
        words = [f"synthetic.{key}={list(getattr(artefact, key))}".replace(" ", "") for key in ("mean", "std")]
        done, _ = evaluate(f"synthetic={out}", "baselines=false", "hydra.run.dir=e2", *words, epochs=3)
    assert done.code == 0, done.err
    got = json.loads(Path("e2/result.json").read_text())
    both = [result["evaluation"]["networks"]["ConvNet"]["accuracies"] for result in (whole, got)]
    assert both[0] == pytest.approx(both[1], abs=0 if kind == "npz" else 0.02)
