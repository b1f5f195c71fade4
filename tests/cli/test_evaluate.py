"""``dcond evaluate`` on files from elsewhere, as typed."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
import torch

import dcond
from dcond import artefact
from dcond.cli.overrides import expand_path_arguments


def test_a_file_from_elsewhere_and_its_options_as_typed(quick, digits, evaluate, folder):
    images, labels = digits
    torch.save(
        {"data": [[(images - 0.3) / 0.38, labels]], "accs_all_exps": {"a": [np.float64(1)]}},
        "res_DM.pt",
    )
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


def test_a_set_may_be_in_the_folder_of_configurations(finished, quick, run_cli, folder):
    name = finished.name
    done = run_cli(
        "evaluate", "--config-dir", name, name, *quick, "baselines=false", "evaluation.epochs=1"
    )
    assert done.code == 0, done.err


def test_a_path_alone_is_the_set_to_evaluate(finished, quick, run_cli, results, folder):
    """As ``dcond export`` and ``dcond report`` take it; folders that flags name are no sets."""
    (folder / "own").mkdir()
    finished.rename(folder / "it's, mine")
    arguments = (
        "--config-dir",
        "own",
        *quick[1:],
        "evaluation.epochs=1",
        "evaluation.repeats=1",
        "hydra.run.dir=e",
    )
    done = run_cli("evaluate", *arguments, folder / "it's, mine")
    assert done.code == 0, done.err
    assert results()[0]["source"]["path"] == str(folder / "it's, mine")
    assert expand_path_arguments(["synthetic.pt", "synthetic.factor=2"]) == [
        "synthetic.path='synthetic.pt'",
        "synthetic.factor=2",
    ]
    assert expand_path_arguments(["synthetic=a.pt", "b.pt"]) == ["synthetic.path=a.pt", "b.pt"]
    assert (
        run_cli("evaluate", "-m", "nowhere", *quick)
        .err.splitlines()[0]
        .startswith("dcond: no artefact at nowhere; ")
    )


def test_what_cannot_be_known_stops_before_anything_is_trained(digits, evaluate):
    torch.save(list(digits), "data.pt")
    done, result = evaluate("synthetic=data.pt")
    assert done.line.startswith(
        "data.pt (IDC, NCFM) does not hold its multi-formation factor; pass synthetic.factor=2"
    )
    assert (result["status"], result["evaluation"]) == ("failed", None)


def test_a_wrong_normalisation_is_a_warning_with_the_option(digits, evaluate):
    images, labels = digits
    torch.save([(images - 0.3) / 0.38, labels], "data.pt")
    done, _ = evaluate("synthetic=data.pt", "synthetic.factor=1", "synthetic.normalised=false")
    assert done.code == 0, done.err
    assert "they may be stored in another form: pass synthetic.normalised=true" in done.err


def test_accuracy_near_chance_is_a_warning_with_the_option(digits, evaluate):
    """Labels of other classes: what wrong whitening comes to, at a size that is sure."""
    images, labels = digits
    torch.save([images, (labels + 1) % 10], "data.pt")
    done, result = evaluate(
        "synthetic=data.pt", "synthetic.factor=1", "evaluation.lr=0.05", epochs=60
    )
    assert result["evaluation"]["average"] < 0.14
    assert (
        "is near chance (10.0 %); the images may have another normalisation: "
        "pass synthetic.normalised=true" in done.err
    )


def test_a_whitened_set(digits, evaluate):
    images, labels = digits
    np.savez("x.npz", images=images, labels=labels)
    done, result = evaluate("synthetic=x.npz", "synthetic.zca=true")
    assert done.code == 0, done.err
    assert result["normalisation"] == "zca"
    assert "ZCA-whitened like the training images of digits" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("synthetic=x.npz", "synthetic.normalised=maybe"),
            "synthetic.normalised='maybe' must be true or false or null.",
        ),
        (
            ("synthetic=x.npz", "synthetic.factr=2"),
            "synthetic.factr is not a setting. Did you mean synthetic.factor?",
        ),
        (
            ("synthetic=x.npz", "synthetic.factor=0"),
            "synthetic.factor=0 is out of range; allowed: whole numbers from 1, null.",
        ),
        (
            ("synthetic=run.txt",),
            "no artefact at run.txt; give a synthetic.safetensors or the run folder that holds one.",
        ),
    ],
)
def test_wrong_arguments(arguments, message, digits, evaluate):
    np.savez("x.npz", images=digits[0], labels=digits[1])
    assert evaluate(*arguments)[0].line.startswith(message)


def test_a_file_does_not_name_its_data_set(digits, run_cli):
    torch.save(list(digits), "data.pt")
    line = run_cli("evaluate", "synthetic=data.pt").line
    assert line == "data.pt does not name the data set it was made from; add dataset=NAME."


def test_several_files_in_a_sweep(quick, digits, run_cli, folder, results):
    for name in ("a", "b"):
        np.savez(f"{name}.npz", images=digits[0], labels=digits[1])
    done = run_cli(
        "evaluate", "-m", "synthetic=a.npz,b.npz", "baselines=false", "evaluation.epochs=1", *quick
    )
    assert done.code == 0, done.err
    assert [result["method"] for result in results()] == ["a", "b"]


def test_a_set_is_known_by_its_content_wherever_it_lies(
    quick, digits, run_cli, results, monkeypatch, folder
):
    """Two sets typed alike in two folders, and a copy of the first: two rows, of one evaluation
    each.
    """
    images, labels = digits
    for name, whose in {"a": images, "b": images.flip(3), "copy": images}.items():
        (folder / name).mkdir()
        monkeypatch.chdir(folder / name)
        torch.save([whose, labels], "data.pt")
        arguments = (
            *quick,
            "evaluation.epochs=1",
            "baselines=false",
            "synthetic=data.pt",
            "synthetic.factor=1",
            "hydra.run.dir=e",
        )
        assert run_cli("evaluate", *arguments).code == 0
    monkeypatch.chdir(folder)
    a, b, copy = results()
    assert a["source"]["content"] == copy["source"]["content"] != b["source"]["content"]
    assert a["config_sha256"] == copy["config_sha256"] != b["config_sha256"]
    done = run_cli("report", ".", "--format", "csv")
    rows = [line for line in csv.DictReader(io.StringIO(done.out)) if line["network"] == "ConvNet"]
    contents = sorted(result["source"]["content"][:8] for result in (a, b))
    assert sorted(row["settings"] for row in rows) == [
        f"synthetic=data.pt ({content})" for content in contents
    ]
    assert [row["n"] for row in rows] == ["1", "1"]


def test_sets_that_differ_in_their_learned_rate_are_two_sets(
    quick, digits, run_cli, results, folder
):
    """The rate decides how networks are trained, so a report must not take one for the other."""
    for name, rate in (("a", 0.01), ("b", 0.1)):
        (folder / name).mkdir()
        for file, content in (("images_best", digits[0]), ("labels_best", digits[1])):
            torch.save(content, f"{name}/{file}.pt")
        torch.save(torch.tensor(rate), f"{name}/lr_best.pt")
        arguments = ("evaluation.epochs=1", "baselines=false", "synthetic.normalised=false")
        done = run_cli("evaluate", *quick, *arguments, f"synthetic={name}/images_best.pt")
        assert done.code == 0, done.err
    a, b = results()
    assert a["source"]["content"] != b["source"]["content"]
    assert a["config_sha256"] != b["config_sha256"]


def test_a_repeated_sweep_skips_complete_jobs(quick, two_files, run_cli, digits):
    arguments = (
        "evaluate",
        "-m",
        *quick,
        "evaluation.epochs=1",
        "hydra.sweep.dir=s",
        "synthetic=good.npz",
    )
    assert run_cli(*arguments, "against=bad.npz").code == 0
    for fewer in ((), ("baselines=false",), ("against=bad.npz",)):
        done = run_cli(*arguments, *fewer)
        assert (done.code, "s/0 is finished and was skipped" in done.err) == (0, True)
    for more, what in (
        (("against=good.npz",), "this against"),
        (("scores.full=true", "scores.unaugmented=true"), "scores.full, scores.unaugmented"),
    ):
        done = run_cli(*arguments, *more)
        message = (
            f"holds a finished run of these settings without {what}, never overwritten; choose"
        )
        assert (done.code, message in done.err) == (1, True), done.err
    np.savez("good.npz", images=digits[0].flip(3), labels=digits[1])
    assert "s/0 holds a finished run of other settings" in run_cli(*arguments).err


def test_a_repeated_sweep_with_a_teacher_skips_complete_jobs(quick, two_files, run_cli):
    teacher = ("teacher=convnet", "teacher.epochs=1", "baselines=false", "evaluation.epochs=1")
    arguments = ("evaluate", "-m", *quick, *teacher, "hydra.sweep.dir=s", "synthetic=good.npz")
    assert run_cli(*arguments).code == 0
    done = run_cli(*arguments)
    assert (done.code, "s/0 is finished and was skipped" in done.err) == (0, True), done.err


# --- dcond's own, and back again
# ------------------------------------------------------------------------------------


def test_evaluations_of_several_seeds_stand_with_the_runs_that_made_them(
    quick, condense, run_cli, results
):
    """One row of two samples, the set of seed 1 evaluated twice."""
    assert (
        condense("-m", "seed=0,1", "method.lr=0.5", "baselines=false", "hydra.sweep.dir=runs").code
        == 0
    )
    arguments = (
        "dataset=digits",
        "evaluation=quick",
        "evaluation.epochs=2",
        "evaluation.repeats=2",
        "baselines=false",
    )
    pool = ("pool=convnet", "pool.networks.ConvNet.width=8")
    done = run_cli(
        "evaluate", *arguments, *pool, "synthetic=runs/1", "seed=7", "hydra.run.dir=scored"
    )
    assert done.code == 0, done.err
    made, scored = results()[1:]
    assert scored["source"]["config_sha256"] == made["config_sha256"]
    assert (scored["seed"], scored["source"]["seed"]) == (7, 1)
    assert scored["source"]["config"]["method"] == made["config"]["method"]
    assert scored["source"]["choices"].keys() == made["choices"].keys() - {
        "dataset",
        "pool",
        "evaluation",
    }
    report = csv.DictReader(io.StringIO(run_cli("report", ".", "--format", "csv").out))
    (line,) = [line for line in report if line["network"] == "ConvNet"]
    assert (line["method"], line["settings"], line["n"], line["seeds"]) == ("dm", "", "2", "0 1")


def test_different_test_images_are_a_warning(quick, condense, run_cli):
    """The set may have been made from them: here of 540 test digits nearly 400 were training images
    then.
    """
    assert condense("evaluate=false", "dataset.split_seed=1", "hydra.run.dir=run").code == 0
    arguments = ("evaluate", "run", *quick, "evaluation.epochs=1", "baselines=false")
    other, same = (
        run_cli(*arguments, f"hydra.run.dir=e{seed}", f"dataset.split_seed={seed}")
        for seed in (0, 1)
    )
    told = "the test images differ from those of the run that made this set"
    assert (told in other.err, told in same.err) == (True, False)
    assert (other.code, same.code) == (0, 0)


def test_a_set_made_to_choose_settings_keeps_its_held_out_accuracy_apart(
    quick, condense, run_cli, results
):
    """Its run tested it on held-out images, `dcond evaluate` on the test set."""
    arguments = ("test_on=held_out", "evaluation.repeats=1", "hydra.run.dir=run")
    assert condense(*arguments).code == 0
    pool = ("pool=convnet", "pool.networks.ConvNet.width=8")
    again = (
        "evaluation=quick",
        "evaluation.epochs=2",
        "evaluation.repeats=1",
        "hydra.run.dir=scored",
    )
    assert run_cli("evaluate", "synthetic=run", *pool, *again).code == 0
    assert [result["evaluation"]["tested_on"] for result in results()] == ["held_out", "test"]
    report = csv.DictReader(io.StringIO(run_cli("report", ".", "--format", "csv").out))
    found = [
        (line["tested_on"], line["method"], line["n"])
        for line in report
        if line["network"] == "ConvNet"
    ]
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
    assert done.code == 0, done.err
    both = [result["evaluation"]["networks"]["ConvNet"]["accuracies"] for result in (whole, got)]
    assert both[0] == pytest.approx(both[1], abs=0 if kind == "npz" else 0.02)


def test_what_a_set_was_made_for_is_logged_if_it_is_evaluated_otherwise(finished, run_cli, quick):
    synthetic = dcond.load(finished)
    made_for = {"evaluation": "mtt1000 with epochs=3"}
    learned = replace(synthetic, learned_lr=0.03, metadata=synthetic.metadata | made_for)
    artefact.save(learned, finished / "synthetic.safetensors")
    arguments = ("evaluate", finished, *quick, "evaluation.epochs=1", "baselines=false")
    err = run_cli(*arguments).err
    assert "the set was made for evaluation=mtt1000; this is quick" in err
    assert "its learned rate 0.03 is used with evaluation.lr=learned only" in err
    err = run_cli(*arguments, "evaluation.lr=learned", "evaluation.name=mtt1000").err
    assert "was made for" not in err
    assert "learned rate" not in err
    artefact.save(replace(synthetic, learned_lr=None), finished / "synthetic.safetensors")
    err = run_cli(*arguments, "evaluation.lr=learned").err
    assert "the set has no learned rate: each network trains at its own; evaluation.lr=RATE" in err
