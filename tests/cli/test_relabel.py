"""``dcond relabel``: the new set, what it is compared with, and refusals."""

import errno
import json
import logging
import shutil

import numpy as np
import pytest
import torch

import dcond
from dcond import artefact
from dcond.cli.main import main
from dcond.data import Digits
from dcond.run.result import RunResult
from dcond.types import SyntheticSet

SHORT = ["teacher=convnet", "teacher.epochs=1", "teacher.network.width=4", "threads=1"]


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setenv("DCOND_OUTPUTS", str(tmp_path / "outputs"))
    real = Digits(name="digits").load()
    rows = torch.cat([own[:1] for own in real.class_rows])
    metadata = {"dataset": "digits", "method": "chosen"}
    synthetic = SyntheticSet.from_images(real.pixels(rows), real, metadata=metadata)
    return artefact.save(synthetic, tmp_path / "synthetic.safetensors")


def test_the_new_set_has_the_teachers_logits(saved, capsys):
    assert main(["relabel", str(saved), *SHORT, "--no-evaluate"]) == 0
    assert "10 images with soft labels -> " in capsys.readouterr().out
    hard, soft = dcond.load(saved), dcond.load(saved.with_name("relabelled"))
    assert torch.equal(soft.images, hard.images)
    assert soft.logits
    assert soft.labels.shape == (10, 10)
    assert json.loads(soft.metadata["labelled_by"])["network"] == "ConvNet"
    assert soft.metadata["method"] == "chosen relabelled"
    assert main(["relabel", str(saved), *SHORT]) == 1
    new = saved.with_name("relabelled")
    assert capsys.readouterr().err.endswith(
        "holds a set, which is not overwritten; remove it, choose another --out, or evaluate it: "
        f"dcond evaluate {new} against={saved} hydra.run.dir={new}.\n"
    )
    assert main(["relabel", str(saved), *SHORT, f"--out={saved}"]) == 1
    assert "Choose another folder." in capsys.readouterr().err
    twice = saved.with_name("twice")
    relabelled = str(saved.with_name("relabelled"))
    assert main(["relabel", relabelled, *SHORT, "--no-evaluate", f"--out={twice}"]) == 0
    assert dcond.load(twice).metadata["method"] == "chosen relabelled"


def test_hard_and_soft_labels_are_compared_and_random_images_have_the_same_labels(
    saved, capsys, monkeypatch, run_cli
):
    labelled = []
    from dcond.evaluation.protocol import EvaluationProtocol

    plain = EvaluationProtocol.evaluate

    def evaluate(self, sets, *args, **options):
        labelled.append(sets(0).logits)
        return plain(self, sets, *args, **options)

    monkeypatch.setattr(EvaluationProtocol, "evaluate", evaluate)
    arguments = ["evaluation.epochs=1", "evaluation.repeats=1", "pool=convnet", "seed=1"]
    arguments += ["pool.networks.ConvNet.width=4"]
    assert main(["relabel", str(saved), *SHORT, *arguments]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "chosen relabelled" in shown
    assert "random images have soft labels of the networks that labelled the set" in shown
    assert labelled == [True, False, True]  # the new set, the old one, random images

    folder = saved.with_name("relabelled")  # that of an evaluation
    result = RunResult.read(folder)
    assert (result.status, result.method, result.seed) == ("done", "chosen relabelled", 1)
    assert result.comparison.against == "chosen"
    assert result.baselines.random.labels == "as chosen relabelled"
    assert result.source.config["label_teacher"]["network"]["width"] == 4

    labelled.clear()
    assert run_cli("evaluate", folder, *arguments, "threads=1").code == 0
    assert labelled == [True, True]  # the set, random images: the teacher is cached

    shutil.rmtree(saved.parent / "outputs" / "cache")
    done = run_cli("evaluate", folder, *arguments, "threads=1", f"hydra.run.dir={folder}/again")
    assert done.code == 0, done.err
    assert (
        "random images get hard labels although the set has soft ones: its teacher is not in"
        in (" ".join(done.err.split()))
    )
    assert RunResult.read(folder / "again").baselines.random.labels == "hard"
    assert not list((saved.parent / "outputs" / "cache").glob("teacher*"))


def test_a_teacher_is_needed(saved, capsys):
    assert main(["relabel", str(saved)]) == 1
    assert "no teacher to label the set; add teacher=convnet" in capsys.readouterr().err
    assert not saved.with_name("relabelled").exists()


@pytest.mark.parametrize("word", ["against=other", "+synthetic=other", "against.path=other"])
def test_other_sets_are_refused_before_anything_is_written(saved, word, capsys):
    assert main(["relabel", str(saved), *SHORT, word]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "RUN is the set, and the new set is compared with it; omit it." in line
    assert not saved.with_name("relabelled").exists()


@pytest.mark.parametrize("word", ["hydra.run.dir=out", "hydra.verbose=true", "+sweep=joblib"])
def test_settings_of_other_commands_are_refused_before_anything_is_trained(
    word, saved, capsys, monkeypatch
):
    monkeypatch.setattr("dcond.training.teacher.Teacher.load_or_train", None)
    assert main(["relabel", str(saved), *SHORT, word]) == 1
    assert capsys.readouterr().err == (
        f"dcond: {word} has no effect on dcond relabel; omit it, and use --out=FOLDER for the "
        "folder of the new set.\n"
    )


def test_images_of_another_size_are_refused_before_anything_is_trained(saved, capsys, tmp_path):
    real = Digits(name="digits").load()
    images = real.train.images.permute(0, 2, 3, 1).repeat(1, 2, 2, 1).numpy()[:100]
    labels = real.train.labels.numpy()[:100]
    larger = {"train_images": images, "train_labels": labels}
    larger |= {"test_images": images, "test_labels": labels, "class_names": list("0123456789")}
    np.savez(tmp_path / "larger.npz", **larger)
    data = ["dataset=npz", f"dataset.path={tmp_path / 'larger.npz'}"]
    assert main(["relabel", str(saved), *data, *SHORT, "--no-evaluate"]) == 1
    assert "the synthetic set has height=8, data set 'npz' has 16" in capsys.readouterr().err
    assert not saved.with_name("relabelled").exists()
    assert not (tmp_path / "outputs" / "cache").exists()


def test_a_folder_of_a_finished_run_is_left_alone(saved, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    result = RunResult.start()
    result.status = "done"
    result.write(folder)
    assert main(["relabel", str(saved), *SHORT, f"--out={folder}"]) == 1
    assert "holds a finished run, which is never overwritten" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["result.json"]


def test_an_error_of_the_evaluation_is_one_line(saved, capsys, monkeypatch):
    from dcond.run.evaluation import Evaluator

    def fail(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Evaluator, "evaluate", fail)
    # as in a process of its own: there pytest's handlers are not in place
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert main(["relabel", str(saved), *SHORT]) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "No space left on device. Free some space" in error.splitlines()[-1]
