"""The program: help, usage, flags, sweeps, completion."""

import os
import re
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

import dcond
from dcond.cli.main import COMMANDS
from dcond.paths import conf_dir
from dcond.run.loop import Run

SOURCE = str(Path(dcond.__file__).parents[1])


def run_code(code, *arguments):
    """Run Python code; return its result and the CPU seconds, which do not depend on the load."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": SOURCE},
    )
    return done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in ("condense", "evaluate", "export", "merge"))],
)
def test_help_is_fast_and_imports_no_torch(arguments):
    code = (
        "import sys; sys.argv[0] = 'dcond'; from dcond.cli.main import main\n"
        "try:\n    code = main(sys.argv[1:])\nexcept SystemExit as end:\n    code = end.code\n"
        "sys.exit(code or ('torch was imported' if 'torch' in sys.modules else 0))"
    )
    done, took = run_code(code, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"dcond {arguments[0] if len(arguments) > 1 else 'COMMAND'}" in done.stdout
    _, reference = run_code("import hydra, rich.console, logging.config")
    assert took < 4 * reference  # relative, since machines differ in speed


def help_lines(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+): (.+)$", text, re.MULTILINE))


@pytest.mark.parametrize("command", ["condense", "evaluate"])
def test_help_shows_the_options_and_settings_of_the_command(command, run_cli):
    text = run_cli(command, "--help").out
    shown = help_lines(text.partition("Choices")[2])
    settings = dict(
        word.split("=") for word in text.partition("all settings\n")[2].partition("\n\n")[0].split()
    )
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        cfg = compose(command)
        for group in shown.keys() - {
            "sweep",
            "experiment",
            "tuned",
            "debug",
        }:  # not every sweep is installed
            names = shown[group].split(", ")
            hidden = {"rded"} if (command, group) == ("evaluate", "teacher") else set()
            assert set(names) | hidden == {x.stem for x in (conf_dir() / group).glob("*.yaml")}
            compose(command, [f"{group}={names[-1]}"])  # tests/cli/test_configs.py takes them all
    assert {key: yaml.safe_load(value) for key, value in settings.items()} == {
        key: cfg[key] for key in settings
    }
    assert {"seed", "device", "threads", "baselines"} <= settings.keys()


def test_help_of_evaluate_shows_no_group_of_condense(run_cli):
    shown = help_lines(run_cli("evaluate", "--help").out)
    assert set(shown) - {"dcond evaluate"} == {"dataset", "evaluation", "pool", "sweep", "teacher"}
    assert "optuna" not in shown["sweep"]


def test_help_shows_families_of_options(run_cli):
    shown = help_lines(run_cli("condense", "--help").out)
    assert re.fullmatch(
        r"cpu/\.\.\., .*m3d\b.*; dcond list experiments shows all \d+", shown["experiment"]
    )
    assert {"method", "init", "experiment", "tuned"} <= shown.keys()
    assert not {"paths", "protocol"} & shown.keys()


def test_help_shows_options_in_folders_of_the_user(run_cli, folder):
    (folder / "own" / "method").mkdir(parents=True)
    (folder / "own" / "method" / "mine.yaml").write_text("# Mine.\ndefaults:\n  - dm\n")
    shown = help_lines(run_cli("condense", "--config-dir", "own", "--help").out)
    assert {"mine", "dm"} <= set(shown["method"].split(", "))


def test_usage_names_every_command(run_cli):
    done = run_cli("--help")
    assert done.code == 0
    assert all(
        f"\n  {name} " in done.out
        for name in ("condense", "evaluate", "data", "report", "list", "merge", "export")
    )
    assert run_cli("-h").out == done.out


def test_version(run_cli):
    assert run_cli("--version").out == f"dcond {dcond.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: dcond COMMAND"),
        (["condens"], "dcond: unknown command 'condens'. Did you mean 'condense'?\n"),
        (["--config-dir", "x", "condense"], "options go after the command"),
        (["data"], "usage: dcond data"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, message, run_cli):
    done = run_cli(*arguments)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("condense --ipc 10", "--ipc is not a flag; write ipc=VALUE."),
        ("condense --max-steps=3", "--max-steps is not a flag; write max_steps=VALUE."),
        ("evaluate nowhere --pool.x 3", "--pool.x is not a flag; write pool.x=VALUE."),
        (
            "condense --mutlirun ipc=1,2",
            "--mutlirun is not a flag. Did you mean '--multirun'? See dcond condense --help.",
        ),
        (
            "condense -x",
            "-x is not a flag. Settings are written KEY=VALUE. See dcond condense --help.",
        ),
        ("condense --cfg", "--cfg needs a value: job, hydra, all."),
        ("condense --cfg=jobs", "--cfg needs a value: job, hydra, all."),
        ("condense --config-dir", "--config-dir needs a value."),
        ("condense -m seed=0,1 --cfg job", "--multirun and --cfg exclude each other; omit one."),
        (
            "condense -sc install=csh",
            "--shell-completion needs install=SHELL or uninstall=SHELL: bash, fish, zsh.",
        ),
        (
            "condense --resolve",
            "--resolve needs --cfg, such as --cfg job; add it, or omit --resolve.",
        ),
        (
            "condense -p method",
            "--package needs --cfg, such as --cfg job; add it, or omit --package.",
        ),
        (
            "condense --config-path mine.yaml",
            "--config-path=mine.yaml is not a folder; give that of a configuration.",
        ),
        (
            "condense --experimental-rerun config.pickle",
            "--experimental-rerun is not a flag. Settings are written KEY=VALUE. See dcond condense "
            "--help.",
        ),
    ],
)
def test_wrong_flags_are_one_line(arguments, line, run_cli, folder):
    done = run_cli(*arguments.split())
    assert (done.code, done.out, done.err) == (2, "", f"dcond: {line}\n")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--cfg job -p ipc ipc=3", "3\n"),
        ("ipc=3 -c job --resolve --package ipc", "3\n"),
        ("--info defaults ipc=3", "Defaults List"),
        ("--version", "Hydra 1."),
        ("--hydra-help", "== Flags =="),
        ("-h", "dcond condense: make"),
    ],
)
def test_flags_of_hydra_may_stand_anywhere(arguments, expected, run_cli):
    done = run_cli("condense", *arguments.split())
    assert done.code == 0
    assert expected in done.out


def test_files_and_output_of_a_finished_run(condense, folder, results):
    done = condense("tensorboard=true", "hydra.run.dir=run")
    assert done.code == 0
    names = {path.name for path in (folder / "run").iterdir()}
    documented = {
        ".hydra",
        "condense.log",
        "metrics.jsonl",
        "checkpoint.pt",
        "synthetic.safetensors",
        "grid.png",
        "README.md",
    }
    assert documented | {"result.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    (result,) = results()
    assert result["status"] == "done"
    assert set(result["evaluation"]["networks"]) == {"ConvNet"}
    assert result["cost"]["start_wall_s"] > 0
    assert result["cost"]["condense_wall_s"] > 0
    # As seen from the current folder.
    assert done.out.splitlines()[-2:] == ["-> run", "tensorboard --logdir run"]
    assert "average test accuracy" in done.out
    assert done.err.startswith("dm on digits, ipc 1: 10 images, seed 0, cpu -> ")


@pytest.mark.parametrize("written", ["true", "false"])
def test_the_tensorboard_command_is_shown_where_there_are_event_files(condense, written):
    done = condense(f"tensorboard={written}", "hydra.run.dir=my run", "evaluate=false")
    assert done.code == 0
    shown = ["tensorboard --logdir 'my run'"] if written == "true" else []
    assert done.out.splitlines() == ["-> my run", *shown]


def test_default_folder_and_environment(condense, folder, monkeypatch):
    monkeypatch.setenv("DCOND_OUTPUTS", "elsewhere")
    assert condense("evaluate=false").code == 0
    (run,) = (folder / "elsewhere" / "condense" / "dm_digits_ipc1").iterdir()
    assert (run / "synthetic.safetensors").is_file()


def test_cfg_job_prints_and_runs_nothing(condense, folder):
    done = condense("method.lr=0.25", "--cfg", "job")
    assert done.code == 0
    assert "  lr: 0.25\n" in done.out
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "changed"), [((), False), (("engine.precision=float32",), True)]
)
def test_float32_applies_to_gpu_convolutions_while_condensing(
    arguments, changed, condense, monkeypatch
):
    convolutions, seen = torch.backends.cudnn.conv, []
    before = convolutions.fp32_precision
    monkeypatch.setattr(
        Run, "condense", lambda run, moment: seen.append(convolutions.fp32_precision)
    )
    assert condense("evaluate=false", *arguments).code == 0
    assert seen == ["ieee" if changed else before]
    assert convolutions.fp32_precision == before != "ieee"


@pytest.mark.parametrize("flag_first", [True, False])
def test_sweep_continues_after_a_failed_job(flag_first, condense, folder, results):
    arguments = (
        ["-m", "evaluate=false", "ipc=0,1"] if flag_first else ["evaluate=false", "-m", "ipc=0,1"]
    )
    done = condense(*arguments)
    assert done.code == 1
    failed, fine = results()
    assert (failed["status"], fine["status"]) == ("failed", "done")
    assert failed["error"].startswith("ipc=0 is out of range")
    assert failed["ipc"] is None
    assert fine["ipc"] == 1
    assert done.err.startswith("dcond: ipc=0 is out of range")
    assert "Traceback" not in done.err
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1"]
    assert "ipc=0 is out of range" in (sweep / "0" / "condense.log").read_text()


def test_every_failed_job_of_a_sweep_is_reported(condense, results):
    done = condense("-m", "evaluate=false", "ipc=0,-1", "hydra.sweeper.max_batch_size=1")
    assert done.code == 1
    assert "dcond: ipc=0 is out" in done.err
    assert "dcond: ipc=-1 is out" in done.err
    assert [result["status"] for result in results()] == ["failed", "failed"]


def test_method_in_a_folder_of_the_user(condense, folder, results):
    own = folder / "own" / "method"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# Mine.\ndefaults:\n  - dm\n\nlr: 0.5\n")
    assert condense("--config-dir", "own", "method=mine", "evaluate=false").code == 0
    (result,) = results()
    assert result["method"] == "mine"
    (card,) = folder.glob("outputs/condense/*/*/README.md")
    (line,) = (line for line in card.read_text().splitlines() if "dcond condense" in line)
    assert {"--config-dir=...", "method=mine"} <= set(line.split())


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("dcond ", set(COMMANDS)),
        ("dcond e", {"evaluate", "experts", "export"}),
        (
            "dcond list ",
            {
                "methods",
                "datasets",
                "models",
                "pools",
                "experiments",
                "inits",
                "augments",
                "engines",
                "evaluations",
            }
            | {"teachers", "sweeps"},
        ),
        ("dcond data ", {"prepare", "info"}),
        ("dcond data info fa", {"fashion_mnist"}),
        ("dcond export ", set()),
        ("dcond condense meth", {"method=", "method."}),
        ("dcond condense pool=cr", {"pool=cross_arch"}),
        ("dcond condense method=dm method.batch", {"method.batch_real="}),
        ("dcond condense hydra/job_log", {"hydra/job_logging="}),
        ("/opt/condense-env/bin/dcond condense pool=cr", {"pool=cross_arch"}),
        ("dcond evaluate evaluation=q", {"evaluation=quick"}),
        ("dcond nothing ", set()),
    ],
)
def test_completion(line, found, run_cli, monkeypatch):
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    done = run_cli("-sc", "query=bash")
    assert done.code == 0, done.err
    assert set(done.out.split()) == found


def test_completion_installs_for_dcond(run_cli):
    done = run_cli("-sc", "install=bash")
    assert done.code == 0
    assert "COMP_LINE" in done.out
    assert "dcond" in done.out


def test_full_error_shows_the_traceback(run_cli, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(dcond.errors.ConfigError, match="method='dmm'"):
        run_cli("condense", "method=dmm")


def test_full_error_can_be_switched_off(run_cli, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    assert run_cli("condense", "method=dmm").line.startswith("method='dmm' is unknown")


def test_closed_pipe_is_not_an_error():
    code = f"{sys.executable} -m dcond list datasets | head -n 0"
    done = subprocess.run(
        ["sh", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": SOURCE}
    )
    assert done.stderr == ""


def closed_pipe():
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


@pytest.mark.parametrize(
    ("stdout", "warning", "sweep"),
    [
        (closed_pipe, "", False),
        (partial(open, "/dev/full", "w"), "printed: [Errno 28] No space left on device", True),
        (partial(open, "out.txt", "w", encoding="ascii"), "printed: 'ascii' codec can't ", False),
    ],
    ids=["no reader", "full", "ascii"],
)
def test_run_succeeds_when_its_tables_cannot_be_printed(
    stdout, warning, sweep, condense, results, monkeypatch
):
    with stdout() as file:
        monkeypatch.setattr(sys, "stdout", file)
        done = condense(
            *(("-m", "ipc=1,2") if sweep else ()), "evaluation.repeats=2", "evaluation.epochs=1"
        )
    assert done.code == 0
    assert [result["status"] for result in results()] == ["done"] * (1 + sweep)
    assert all(result["evaluation"] and result["error"] is None for result in results())
    assert warning in done.err
    assert ("could not be printed" in done.err) == bool(warning)
    assert (
        sweep or "Traceback" not in done.err
    )  # logging prints one for the messages of Hydra about jobs


@pytest.mark.parametrize("arguments", [("list", "methods"), ("report", ".", "--format", "csv")])
def test_output_that_cannot_be_printed_is_one_line(arguments, write_result, run_cli, monkeypatch):
    write_result("run", {"A": 0.5}, method="m–d")
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        line = run_cli(*arguments).line
    assert line.startswith("the output could not be written: No space left on device; free some")
    if arguments[0] == "report":
        with open("out.csv", "w", encoding="latin-1") as latin:
            monkeypatch.setattr(sys, "stdout", latin)
            line = run_cli(*arguments).line
        assert line.startswith(
            "a text cannot be written in this encoding: 'latin-1' codec can't encode"
        )
        assert line.endswith("; set PYTHONIOENCODING=utf-8:replace.")


def test_an_error_of_a_device_without_a_name_keeps_its_cause(run_cli, monkeypatch):
    def broken(arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("dcond.cli.list.main", broken)
    with pytest.raises(OSError, match="Input/output error"):
        run_cli("list", "methods")


def test_ctrl_c_is_one_line(monkeypatch, run_cli):
    def stop(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("dcond.cli.list.main", stop)
    done = run_cli("list", "methods")
    assert (done.code, done.err) == (130, "dcond: interrupted\n")


ENDING = """
import atexit, os, signal, sys
from dcond.cli.main import command
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv = ["dcond", "--version"]
command()
"""


def test_ctrl_c_during_shutdown_is_ignored():
    done = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
