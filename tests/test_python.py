"""``dcond.condense`` and ``dcond.evaluate`` equal the commands, and change nothing around them."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import dcond
from dcond.cli import main as cli
from dcond.cli.compose import python_run
from dcond.run.result import RunResult

SOURCE = str(Path(dcond.__file__).parents[1])
QUICK = (
    "debug=tiny",
    "pool=convnet",
    "pool.networks.ConvNet.width=8",
    "evaluation.epochs=1",
    "evaluation.repeats=1",
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def plain():
    """A run as by default."""
    return condense()


def condense(**more):
    return dcond.condense(
        method="dm", overrides=[*QUICK, "method.batch_real=8"], progress=False, **more
    )


def test_the_set_and_its_accuracies_are_those_of_the_command(folder):
    command = ["condense", "method=dm", *QUICK, "method.batch_real=8", "hydra.run.dir=run"]
    assert cli.main(command) == 0
    run = condense()
    saved = dcond.load("run")
    assert torch.equal(run.synthetic.images, saved.images)
    assert torch.equal(run.synthetic.labels, saved.labels)
    result = json.loads((folder / "run" / "result.json").read_text())
    ours = json.loads(json.dumps(run.result.as_dict()))
    for key in ("status", "config_sha256", "config", "choices", "dataset", "images_stored"):
        assert ours[key] == result[key], key
    for name, network in result["evaluation"]["networks"].items():
        assert ours["evaluation"]["networks"][name]["accuracies"] == network["accuracies"]


def test_without_a_folder_nothing_is_written(folder):
    run = condense()
    assert list(folder.iterdir()) == []
    assert run.folder is None
    assert "dm on digits, 1 image(s) per class" in str(run)
    assert run._repr_html_().startswith("<pre")
    assert len(run.synthetic.dataset()) == 10


def test_a_folder_gets_the_files_of_a_run_and_is_not_overwritten(folder):
    condense(folder="run")
    names = {path.name for path in (folder / "run").iterdir()}
    assert names >= {
        *(".hydra", "checkpoint.pt", "grid.png", "metrics.jsonl", "result.json"),
        *("synthetic.safetensors", "condense.log"),
    }
    assert "INFO dcond.run" in (folder / "run" / "condense.log").read_text()
    assert dcond.load("run").ipc == 1
    with pytest.raises(dcond.DcondError, match="holds a finished run"):
        condense(folder="run")


def test_a_failed_run_says_so_in_its_folder(folder):
    with pytest.raises(dcond.DcondError, match=r"^method\.lr=-1 is out of range"):
        dcond.condense(method="dm", overrides=["method.lr=-1"], folder="run")
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["status"] == "failed"


def test_a_failed_run_prints_nothing_in_a_program_without_logging(folder, monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])
    with pytest.raises(dcond.DcondError):
        dcond.condense(method="dm", overrides=["method.lr=-1"], folder="run")
    assert capsys.readouterr() == ("", "")
    assert "method.lr=-1 is out of range" in (folder / "run" / "condense.log").read_text()


def test_the_log_of_a_folder_changes_nothing_that_a_program_sees(folder, caplog, monkeypatch):
    logger = logging.getLogger("dcond")
    before = logger.level, logger.propagate, list(logger.handlers)
    with caplog.at_level(logging.WARNING):
        condense(folder="run")
    assert not [record for record in caplog.records if record.levelno < logging.WARNING]
    with caplog.at_level(logging.INFO):
        condense(folder="other")
    assert "condensed set: " in caplog.text
    assert (logger.level, logger.propagate, logger.handlers) == before
    own = Mock(level=logging.NOTSET)
    monkeypatch.setattr(logger, "handlers", [own])
    below = logging.getLogger("dcond.run")
    with caplog.at_level(logging.WARNING):
        condense(folder="again")
        own.handle.assert_not_called()
        with caplog.at_level(logging.INFO, logger=below.name):
            condense(folder="and again")
    own.handle.assert_called()


def test_a_set_in_memory_and_its_artefact_have_the_same_accuracies():
    run = condense(folder="run")
    options = {"overrides": QUICK[1:], "progress": False}
    memory, file = (dcond.evaluate(each, **options) for each in (run.synthetic, "run"))
    first, second = (each.result.evaluation.networks["ConvNet"] for each in (memory, file))
    assert first.accuracies == second.accuracies
    assert memory.result.dataset == "digits"  # from the metadata
    assert memory.result.config_sha256 == file.result.config_sha256
    both = dcond.evaluate(run.synthetic, against="run", **options)
    assert both.result.comparison.average.mean == 0


def test_nothing_around_a_call_is_changed():
    def state():
        handlers = [
            signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        ]
        generators = torch.random.get_rng_state().tolist(), random.getstate()
        around = dict(os.environ), Path.cwd(), [*sys.argv], [*sys.path], [*logging.root.handlers]
        return handlers, generators, around, [*warnings.filters], torch.get_num_threads()

    before = state()
    condense()
    assert state() == before
    assert not GlobalHydra.instance().is_initialized()


@contextmanager
def default(setting, value, before):
    setting(value)
    try:
        yield
    finally:
        setting(before)


@pytest.mark.parametrize(
    "around",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: default(torch.set_default_dtype, torch.float64, torch.float32),
        lambda: torch.device("meta"),  # as "cuda" would
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: default(torch.set_float32_matmul_precision, "medium", "highest"),
    ],
    ids=["no_grad", "inference_mode", "float64", "device", "autocast", "precision"],
)
def test_what_a_program_has_set_of_torch_changes_no_image(around, plain):
    def state():
        grad = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        precision = torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")
        return *grad, *precision, torch.get_default_dtype(), torch.get_default_device()

    with around():
        before = state()
        run = condense()
        assert state() == before
    assert torch.equal(run.synthetic.images, plain.synthetic.images)
    ours, theirs = (each.result.evaluation.networks["ConvNet"].accuracies for each in (run, plain))
    assert ours == theirs
    with around():
        dcond.evaluate(run.synthetic, dataset="digits", overrides=[*QUICK[1:]], progress=False)


def test_held_out_accuracies_do_not_depend_on_the_test_set(folder):
    rng = np.random.default_rng(0)
    train = {"train_images": rng.integers(0, 256, (90, 8, 8), np.uint8)}
    train["train_labels"] = np.arange(90) % 3
    runs = []
    for name in ("one", "other"):
        test = {"test_images": rng.integers(0, 256, (30, 8, 8), np.uint8)}
        test["test_labels"] = rng.integers(0, 3, 30)
        np.savez(folder / f"{name}.npz", **train, **test)
        overrides = [*QUICK, "method.batch_real=8", "test_on=held_out", f"dataset.path={name}.npz"]
        runs.append(dcond.condense(method="dm", dataset="npz", overrides=overrides, progress=False))
    one, other = runs
    assert torch.equal(one.synthetic.images, other.synthetic.images)
    assert one.result.evaluation.networks["ConvNet"].accuracies == (
        other.result.evaluation.networks["ConvNet"].accuracies
    )


def test_too_little_memory_is_one_line_without_a_folder_too(monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr("dcond.methods.dm.DM.step", fail)
    with pytest.raises(
        dcond.DcondError, match=r"^out of memory \(.*a smaller engine\.chunk, method\.batch_real"
    ):
        condense()


def test_a_program_may_use_hydra_itself(folder):
    (folder / "conf").mkdir()
    (folder / "conf" / "mine.yaml").write_text("value: 3\n")
    with initialize_config_dir(version_base="1.3", config_dir=str(folder / "conf")):
        condense()
        assert compose("mine").value == 3


def test_calls_from_threads_do_not_mix():
    results = {}

    def work(seed):
        results[seed] = condense(seed=seed).synthetic.images

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(results[0], condense(seed=0).synthetic.images)
    assert not torch.equal(results[0], results[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "dmm"}, "Did you mean 'dm'?"),
        ({"overrides": ["method.lrr=1"]}, "Did you mean method.lr?"),
        ({"overrides": ["ipc=0"]}, "ipc=0 is out of range; allowed: whole numbers from 1."),
        ({"overrides": ["resume=run"]}, "dcond condense resume=RUN_FOLDER"),
        ({"overrides": ["threads=2"]}, "threads= belongs to the command"),
        ({"overrides": ["hydra.run.dir=run"]}, "hydra.run.dir= belongs to the command"),
        ({"overrides": ["hydra/launcher=joblib"]}, "hydra/launcher= belongs to the command"),
        ({"overrides": ["+sweep=joblib"]}, "sweep= belongs to the command"),
    ],
)
def test_errors_are_one_line(arguments, message):
    with pytest.raises(dcond.DcondError) as error:
        dcond.condense(**{"method": "dm"} | arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_importing_dcond_imports_neither_torch_nor_hydra():
    code = (
        "import sys, dcond; assert not {'torch', 'hydra'} & sys.modules.keys(); "
        "dcond.load; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": SOURCE})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: condense(folder="a_file"), "cannot write a_file: File exists"),
        (lambda: dcond.condense(overrides="debug=tiny"), "must be a list of strings"),
        (lambda: dcond.condense(overrides=[1]), r"must be a list of strings .* not \[1\]"),
        (lambda: dcond.evaluate("s", overrides="debug=tiny"), "must be a list of strings"),
        (
            lambda: dcond.evaluate(None),
            "cannot evaluate a value of type NoneType; give a SyntheticSet",
        ),
        (lambda: dcond.evaluate(object(), "digits"), "cannot evaluate a value of type object"),
        (lambda: dcond.evaluate("s", against=3), "cannot evaluate a value of type int"),
        (lambda: dcond.evaluate("s", overrides=["against=t"]), "against= is not allowed here"),
        (lambda: dcond.evaluate("s", overrides=["synthetic=t"]), "synthetic= is not allowed"),
        (lambda: dcond.load(None), "cannot load a value of type NoneType"),
        (lambda: dcond.merge(["a", "b"]), "merge takes a list of SyntheticSets"),
    ],
)
def test_wrong_arguments_are_explained_in_one_line(call, message, folder):
    (folder / "a_file").touch()
    with pytest.raises(dcond.DcondError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["a_file"]


@pytest.mark.parametrize(("method", "used"), [("random", False), ("dm", True)])
def test_an_engine_that_is_not_used_is_said(method, used, caplog):
    small = [*QUICK, "engine=exact", "max_steps=1"]
    dcond.condense(method=method, overrides=small, progress=False)
    told = f"engine=exact is not used: method={method} has no engine"
    assert (told in caplog.messages) == (not used)


def test_the_normalisation_is_recorded_without_an_evaluation():
    arguments = [
        *QUICK,
        "dataset.stats=zca",
        "evaluate=false",
        "max_steps=1",
        "method.batch_real=8",
    ]
    run = dcond.condense(method="dm", overrides=arguments, progress=False)
    assert run.result.normalisation == "zca"


@pytest.mark.parametrize(("init", "told"), [("noise", True), ("real", False)])
def test_first_images_that_are_not_used_are_said(init, told, caplog):
    dcond.condense(method="random", overrides=[*QUICK, f"init={init}"], progress=False)
    said = f"init={init} is not used: method=random chooses its own images"
    assert (said in caplog.messages) == told


@pytest.mark.parametrize(("batch", "told"), [(5000, True), (20, False)])
def test_batches_that_repeat_images_are_said(batch, told, caplog):
    caplog.set_level("INFO")
    small = [*QUICK, f"method.batch_real={batch}", "max_steps=1", "evaluate=false"]
    dcond.condense(method="dm", overrides=small, progress=False)
    said = f"fewer than method.batch_real={batch}: its batches repeat some"
    assert any(message.endswith(said) for message in caplog.messages) == told


def test_a_path_in_overrides_needs_no_quotes(folder):
    with pytest.raises(dcond.DcondError, match="a=b, c"):
        dcond.condense(dataset="npz", overrides=["dataset.path=a=b, c", "debug=tiny"])


def test_the_home_folder_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    condense(folder="~/r")
    assert dcond.load("~/r").ipc == 1
    dcond.evaluate("~/r", overrides=QUICK[1:], folder=Path("~/e"), progress=False)
    assert sorted(path.name for path in folder.iterdir()) == ["e", "r"]


def test_a_set_in_memory_is_checked_and_converted():
    memory = condense().synthetic
    options = {"overrides": [*QUICK[1:], "baselines=false"], "progress": False}

    def networks(given):
        return dcond.evaluate(given, **options).result.evaluation.networks["ConvNet"].accuracies

    other = replace(memory, images=memory.images.double(), labels=memory.labels.int())
    assert networks(other) == networks(memory)
    soft = torch.nn.functional.one_hot(memory.labels).double()
    assert len(networks(replace(memory, labels=soft))) == 1
    for change, message in (
        ({"labels": memory.labels + 1}, "a set in memory: labels must be in 0..9."),
        ({"images": memory.images / 0}, "a set in memory: images must be finite floats"),
    ):
        for given in (
            {"synthetic": replace(memory, **change)},
            {"synthetic": memory, "against": replace(memory, **change)},
        ):
            wrong = [*given][-1]
            with pytest.raises(dcond.DcondError, match=f"{wrong}, {message}"):
                dcond.evaluate(**given, **options)


def test_the_current_gpu_is_put_back(monkeypatch):
    current = [1]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    with python_run("condense", RunResult(), None, OmegaConf.create(), []):
        torch.cuda.set_device(0)  # as device=cuda:0 does
    assert current == [1, 0, 1]


def test_an_added_setting_that_nothing_reads_is_refused(folder, capsys):
    with pytest.raises(
        dcond.DcondError, match=r"^gbm is not a setting\. Did you mean method\.gbm\?"
    ):
        dcond.condense(method="hmdc", overrides=["+gbm=false"])
    assert cli.main(["experts", "+cuont=5"]) == 1
    assert "cuont is not a setting" in capsys.readouterr().err
    assert cli.main(["experts", "+baselines=false"]) == 1
    assert "baselines is not a setting" in capsys.readouterr().err


def test_a_protocol_of_the_users_own(folder):
    (folder / "own" / "evaluation").mkdir(parents=True)
    (folder / "own" / "evaluation" / "mine.yaml").write_text(
        "defaults:\n  - quick\n  - _self_\nname: mine\nepochs: 1\nrepeats: 1\n"
    )
    own = [f"hydra.searchpath=[file://{folder / 'own'}]", "evaluation=mine"]
    run = dcond.condense(
        method="random", overrides=[*own, "pool=convnet", "baselines=false"], progress=False
    )
    assert run.result.evaluation.protocol == "mine"


def test_an_interrupted_call_is_recorded_as_such(folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dcond.methods.dm.DM.step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        condense(folder="run")
    result = json.loads((folder / "run" / "result.json").read_text())
    assert (result["status"], result["error"]) == ("interrupted", "interrupted")


def test_a_folder_that_cannot_be_written_is_one_line(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dcond.run.context.lock_folder", refuse)
    with pytest.raises(dcond.DcondError, match="Permission denied"):
        condense(folder="run")


def test_files_of_another_program_stay(folder):
    (folder / "result.json").write_text('{"accuracy": 0.5}')
    with pytest.raises(dcond.DcondError, match="is not a result of dcond"):
        condense(folder=".")
    assert (folder / "result.json").read_text() == '{"accuracy": 0.5}'


@pytest.mark.parametrize(
    "name", ["checkpoint.pt", "metrics.jsonl", "grid.png", ".hydra/hydra.yaml"]
)
def test_a_folder_of_another_program_is_refused(name, folder):
    """A user's own training, or her own Hydra application, whose folder is passed."""
    (folder / "run" / ".hydra").mkdir(parents=True)
    (folder / "run" / name).write_text("theirs")
    if not name.startswith("."):
        (folder / "run" / ".hydra").rmdir()
    with pytest.raises(dcond.DcondError, match="but no run of dcond; choose another folder"):
        condense(folder="run")
    assert (folder / "run" / name).read_text() == "theirs"
    assert sum(path.is_file() for path in (folder / "run").rglob("*")) == 1
