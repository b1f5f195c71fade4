"""Going on with a run, and never writing over one that is done."""

import shlex
import signal
from pathlib import Path
from unittest.mock import Mock

import pytest

from dcond import artefact
from dcond.evaluation import EvaluationProtocol
from dcond.run.signals import Interrupted


def content(run):
    """Every file of a run with its bytes."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file()
    }


def test_a_stopped_run_says_so_and_goes_on_to_the_same_images(stopped, condense, results, folder):
    assert results()[0]["status"] == "interrupted"
    assert results()[0]["cost"]["steps"] == 2
    overrides = (stopped / ".hydra" / "overrides.yaml").read_bytes()
    assert condense("evaluate=false", f"resume={stopped}").code == 0
    assert results()[0]["status"] == "done"
    assert (stopped / ".hydra" / "overrides.yaml").read_bytes() == overrides
    assert condense("evaluate=false", "hydra.run.dir=whole").code == 0
    whole, resumed = (artefact_images(run) for run in (folder / "whole", stopped))
    assert whole == resumed


def last_line(text):
    return text.splitlines()[-1]


def test_the_last_line_of_a_stopped_run_says_how_to_resume(condense, signalled, run_cli, results):
    with signalled():
        line = last_line(condense("evaluate=false", "hydra.run.dir=a run").err)
    assert line.startswith(
        "interrupted by SIGTERM; a checkpoint is saved. Resume with: dcond condense "
    )
    assert run_cli(*shlex.split(line.partition("dcond ")[2])).code == 0
    assert [result["status"] for result in results()] == ["done"]


def test_no_resuming_is_suggested_without_a_checkpoint(
    condense, finished, run_cli, quick, monkeypatch
):
    """Before the first checkpoint, though one of an earlier run lies there; without steps; in an
    evaluation.
    """
    stop = Mock(side_effect=Interrupted(signal.SIGINT))
    monkeypatch.setattr("dcond.evaluation.EvaluationProtocol.evaluate", stop)
    assert last_line(run_cli("evaluate", str(finished), *quick).err) == "interrupted by SIGINT"
    assert last_line(run_cli("condense", "method=random", *quick).err) == "interrupted by SIGINT"
    (finished / "result.json").unlink()
    monkeypatch.setattr("dcond.data.Digits.load", stop)
    assert last_line(condense("hydra.run.dir=run").err) == "interrupted by SIGINT"
    assert stop.call_count == 3


@pytest.fixture
def trainings(monkeypatch) -> list[int]:
    """One entry per training of a network; a signal interrupts the second."""
    evaluate, found = EvaluationProtocol.evaluate, []

    def second_is_interrupted(self, *args, **kwargs):
        found.append(1)
        if len(found) == 2:
            raise Interrupted(signal.SIGINT)
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr("dcond.evaluation.EvaluationProtocol.evaluate", second_is_interrupted)
    return found


@pytest.mark.parametrize("command", ["evaluate", "condense"])
def test_an_evaluation_goes_on_from_its_finished_networks(
    command, finished, quick, run_cli, results, trainings
):
    """Here that of a set, and of a selection, which has no checkpoint."""
    arguments = {"evaluate": [str(finished)], "condense": ["method=random"]}[command]
    arguments = [command, *arguments, *quick, "evaluation.epochs=1", "hydra.run.dir=a run"]
    assert last_line(run_cli(*arguments).err) == (
        "interrupted by SIGINT; finished networks are kept. Go on with the same command and "
        "'hydra.run.dir=a run'."
    )
    done = run_cli(*arguments)
    assert done.code == 0, done.err
    assert "accuracies (condensed), ConvNet: cached result of a run" in done.err
    assert len(trainings) == 3  # the set once, its baseline twice
    assert not Path("a run/unfinished_evaluation").exists()
    assert results()[-1]["status"] == "done"


def test_a_resumed_run_trains_the_networks_that_are_missing(condense, run_cli, results, trainings):
    condense("hydra.run.dir=run")
    (stopped,) = results()
    assert stopped["status"] == "interrupted"
    done = run_cli("condense", "resume=run")
    assert done.code == 0, done.err
    assert "accuracies (condensed), " in done.err
    assert (results()[0]["status"], len(trainings)) == (
        "done",
        1 + 2 * len(results()[0]["evaluation"]["networks"]),
    )


def test_resuming_is_suggested_until_the_evaluation_is_done(condense, monkeypatch):
    monkeypatch.setattr(
        "dcond.evaluation.EvaluationProtocol.evaluate", Mock(side_effect=Interrupted(signal.SIGINT))
    )
    assert last_line(condense("hydra.run.dir=run").err).endswith(
        "Resume with: dcond condense resume=run"
    )


def test_a_sweep_suggests_only_how_to_continue_the_sweep(condense, signalled):
    with signalled():
        lines = condense("-m", "evaluate=false", "hydra.sweep.dir=s").err.splitlines()
    assert lines[-2:] == [
        "interrupted by SIGTERM",
        "dcond: the sweep was stopped. The same command with hydra.sweep.dir=s keeps finished jobs and "
        "runs the rest.",
    ]


def artefact_images(run):
    return artefact.load(run).images.numpy().tobytes()


def test_resume_needs_no_other_word(stopped, run_cli, results):
    """Method, data set and sizes come from the checkpoint, not from the defaults."""
    assert run_cli("condense", f"resume={stopped}").code == 0
    assert (results()[0]["method"], results()[0]["ipc"]) == ("dm", 1)
    assert results()[0]["evaluation"] is None


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("ipc=2", "was started with ipc=1, the command line has ipc=2;"),
        ("method=m3d", "was started with method=dm, the command line has method=m3d;"),
        ("method.lr=3", "was started with method.lr=1.0, the command line has method.lr=3;"),
        (
            "loop.checkpoint_every_s=1",
            "was started with loop.checkpoint_every_s=60, the command line has loop.checkpoint_every_s=1;",
        ),
        (
            "+model@pool.networks.LeNet=lenet",
            "was started with model@pool.networks.LeNet=null, "
            "the command line has model@pool.networks.LeNet=lenet;",
        ),
        ("max_steps=2", "was started with max_steps=3, the command line has max_steps=2;"),
        ("pool=tiny", "was started with pool=convnet, the command line has pool=tiny;"),
    ],
)
def test_a_changed_word_is_named(word, said, stopped, run_cli):
    before = content(stopped)
    line = run_cli("condense", "method=dm", f"resume={stopped}", word).line
    assert line == f"{stopped} {said} omit it to resume, or start a new run."
    after = content(stopped)
    assert after.pop("condense.log") == before.pop("condense.log")
    assert after == before


def test_equal_overrides_are_accepted(stopped, run_cli):
    arguments = (
        "method='dm'",
        "method.lr=${oc.decode:'1.0'}",
        "loop.checkpoint_every_s=60.0",
    )
    done = run_cli("condense", f"resume={stopped}", *arguments)
    assert done.code == 0, done.err


def test_a_run_that_starts_over_has_its_own_hydra_files(stopped, condense):
    assert condense("evaluate=false", f"hydra.run.dir={stopped}", "method.lr=0.3").code == 0
    assert "lr: 0.3" in (stopped / ".hydra" / "config.yaml").read_text()
    assert "method.lr=0.3" in (stopped / ".hydra" / "overrides.yaml").read_text()


def test_nothing_to_resume(run_cli, folder):
    line = run_cli("condense", "resume=nowhere").line
    assert line == "nothing to resume: nowhere is not a folder; give that of an unfinished run."
    assert list(folder.iterdir()) == []
    (folder / "empty").mkdir()
    line = run_cli("condense", "resume=empty").line
    assert (
        line
        == "nothing to resume: empty/checkpoint.pt does not exist; give the folder that has it."
    )
    line = run_cli("condense", "resume=", "method=dm").line  # an unset variable of a shell
    assert line == "resume= names no folder; give the folder of an unfinished run, or omit it."
    assert run_cli("condense", "++resume=nowhere").line.startswith("nothing to resume: nowhere is")
    assert [*folder.rglob("*")] == [
        folder / "empty"
    ]  # no log either, which a report would take for a run


def test_a_damaged_checkpoint(stopped, run_cli):
    file = stopped / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-200])
    line = run_cli("condense", f"resume={stopped}").line
    assert line.startswith(f"{file} is damaged or not a dcond checkpoint (")
    assert line.endswith("Start the run again.")


def test_resume_cannot_be_swept(stopped, run_cli):
    done = run_cli("condense", "-m", f"resume={stopped}", "seed=0,1")
    assert done.code == 1
    assert "resume=RUN_FOLDER continues a single run; omit -m." in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("hydra.run.dir=run", "ipc=2"),
        ("resume=run",),
        ("-m", "hydra.sweep.dir=.", "hydra.sweep.subdir=run", "seed=0"),
    ],
)
def test_a_finished_run_is_never_overwritten(arguments, finished, condense):
    before = content(finished)
    done = condense(*arguments)
    assert done.code == 1
    what = (
        " of these settings without evaluation, never" if "-m" in arguments else ", which is never"
    )
    message = f"{finished} holds a finished run{what} overwritten; choose another folder."
    assert message in done.err
    assert content(finished) == before


def test_evaluate_does_not_write_over_a_run_either(finished, run_cli):
    before = content(finished)
    line = run_cli("evaluate", f"synthetic={finished}", f"hydra.run.dir={finished}").line
    assert "holds a finished run, which is never overwritten" in line
    after = content(finished)
    after.pop("evaluate.log", None)
    assert after == before


def test_a_failed_run_may_be_started_again_in_its_folder(condense, folder, results):
    assert condense("hydra.run.dir=run", "ipc=0").code == 1
    assert condense("hydra.run.dir=run", "evaluate=false").code == 0
    assert results()[0]["status"] == "done"


def test_a_run_that_starts_over_says_so(stopped, condense):
    done = condense("evaluate=false", f"hydra.run.dir={stopped}")
    assert done.code == 0, done.err
    line = f"which starts over; resume={stopped} would have continued it"
    assert f"{stopped} held a stopped run, {line}" in done.err


@pytest.mark.parametrize("name", ["checkpoint.pt", "metrics.jsonl", "synthetic.safetensors"])
def test_files_of_another_program_are_not_overwritten(name, condense, folder):
    (folder / "theirs").mkdir()
    (folder / "theirs" / name).write_text("theirs")
    line = condense("evaluate=false", "hydra.run.dir=theirs").line
    assert line.endswith(f"theirs holds {name}, but no run of dcond; choose another folder.")
    assert (folder / "theirs" / name).read_text() == "theirs"


@pytest.mark.parametrize("command", ["condense", "evaluate"])
def test_a_folder_of_another_program_that_uses_hydra_is_refused(command, run_cli, folder):
    hydra = folder / "theirs" / ".hydra"
    hydra.mkdir(parents=True)
    text = "hydra:\n  job:\n    config_name: train\n"
    (hydra / "hydra.yaml").write_text(text)
    arguments = ["synthetic=x", "dataset=digits"] if command == "evaluate" else []
    line = run_cli(command, *arguments, "hydra.run.dir=theirs").line
    assert line.endswith("theirs holds .hydra, but no run of dcond; choose another folder.")
    assert (hydra / "hydra.yaml").read_text() == text
    assert [path.name for path in hydra.iterdir()] == ["hydra.yaml"]
