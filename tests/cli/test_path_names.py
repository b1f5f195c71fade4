"""Paths of any name on the command line, without quotes beyond the shell's."""

from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from dcond.cli.compose import composed
from dcond.cli.overrides import expand_path_arguments
from dcond.cli.path_values import quote_path, quote_paths, unquote_path
from helpers.results_of import statuses

EVALUATION = ("evaluation.epochs=1", "evaluation.repeats=1", "baselines=false")
NAMES = ["üñï a=b, #1 100% [x] {y} @z", 'it\'s "so" (p) & ~q; $r \\s']


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1))
def test_a_quoted_path_is_the_path_itself(path):
    quoted = quote_path(path)
    assert quote_path(quoted) == quoted
    override = OverridesParser.create().parse_override(f"dataset.path={quoted}")
    if quoted != path:  # the user did not quote it
        assert override.value() == path
        assert unquote_path(quoted) == path
        assert not override.is_sweep_override()


@pytest.mark.parametrize(
    ("argument", "single", "sweep"),
    [
        ("dataset.path=a,b", "dataset.path='a,b'", "dataset.path='a','b'"),
        ("synthetic=a,'b,c'", r"synthetic='a,\'b,c\''", "synthetic='a','b,c'"),
        ("+x.path=a", "+x.path='a'", "+x.path='a'"),
        ("resume=null", "resume=null", "resume=null"),
        ("against=null,a", "against='null,a'", "against=null,'a'"),
        ("paths.data='a b'", "paths.data='a b'", "paths.data='a b'"),
        ("synthetic={path: a}", "synthetic={path: a}", "synthetic={path: a}"),
        ("hydra.sweep.dir=a,b", "hydra.sweep.dir='a,b'", "hydra.sweep.dir='a,b'"),
        ("dataset.path=choice(a,b)", "dataset.path='choice(a,b)'", "dataset.path=choice(a,b)"),
        ("method.lr=a,b", "method.lr=a,b", "method.lr=a,b"),
        ("path=a", "path=a", "path=a"),
    ],
)
def test_path_settings_are_quoted_and_commas_separate_values_of_a_sweep(argument, single, sweep):
    assert quote_paths([argument]) == [single]
    assert quote_paths(["-m", argument]) == ["-m", sweep]


@pytest.mark.parametrize(
    "key",
    [
        *("paths.outputs", "paths.data", "+resume", "hydra.run.dir", "hydra.sweep.dir"),
        *("pool.networks.ConvNet.weights", "method.experts.folder", "dataset.path"),
        "method.cache",
    ],
)
def test_the_home_folder_is_expanded(key, monkeypatch):
    monkeypatch.setenv("HOME", "/me")
    for path in ("~/a b", "'~/a b'"):
        assert quote_paths([f"{key}={path}"]) == [f"{key}='/me/a b'"]
        assert quote_paths(["-m", f"{key}={path}"]) == ["-m", f"{key}='/me/a b'"]
    assert quote_paths([f"{key}=./~/a", f"{key}=null"]) == [f"{key}='./~/a'", f"{key}=null"]


@pytest.mark.parametrize(
    ("value", "outputs", "data"),
    [("~/a b", "/me/a b", "/me/a b"), ("", "outputs", "data"), ("a/${x}", "a/${x}", "a/${x}")],
)
def test_folders_of_the_environment(value, outputs, data, monkeypatch):
    monkeypatch.setenv("HOME", "/me")
    for name in ("DCOND_OUTPUTS", "DCOND_DATA"):
        monkeypatch.setenv(name, value)
    with composed("data", ["dataset=digits"]) as (cfg, _):
        assert (cfg.paths.outputs, cfg.paths.data) == (outputs, data)


def test_a_run_below_the_home_folder_is_resumed(stopped, run_cli, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    done = run_cli("condense", f"resume=~/{stopped.name}")
    assert (done.code, (stopped / "synthetic.safetensors").is_file()) == (0, True), done.err
    assert not (folder / "~").exists()


@pytest.mark.parametrize("path", ["a=b", "~x", "plain"])
def test_an_existing_path_that_looks_like_an_override_is_the_set(path, folder):
    for name in ("a=b", "seed=1", "~x"):
        (folder / name).mkdir()
    others = ["seed=1", "c=d", "~teacher"]
    argv = [*others, path, "--config-dir", "own"]
    expected = [*others, f"synthetic.path='{path}'", "--config-dir", "own"]
    assert expand_path_arguments(argv) == expected


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    """The content of a data set of two classes."""
    rng = np.random.default_rng(0)
    return {
        f"{split}_{kind}": rng.integers(0, 256, (8, 8, 8), np.uint8)
        if kind == "images"
        else np.arange(8) % 2
        for split in ("train", "test")
        for kind in ("images", "labels")
    }


@pytest.mark.parametrize("name", NAMES)
def test_condense_evaluate_export_and_report(name, images, condense, run_cli, folder, quick):
    place = folder / name
    place.mkdir()
    np.savez(place / "set.npz", **images)
    data = ("dataset=npz", f"dataset.path={name}/set.npz")
    run = f"{name}/run"
    done = condense(*data, "evaluate=false", "max_steps=1", f"hydra.run.dir={run}")
    assert done.code == 0, done.err
    (Path(run) / "result.json").unlink()
    (Path(run) / "synthetic.safetensors").unlink()
    done = run_cli("condense", f"resume={run}")
    assert done.code == 0, done.err
    for argument in (run, f"synthetic={run}"):
        data = f"dataset.path={name}/set.npz"
        done = run_cli("evaluate", argument, data, *quick[1:], *EVALUATION)
        assert done.code == 0, done.err
    assert run_cli("export", run, "--to", "npz", "--out", f"{name}/out.npz").code == 0
    assert run_cli("data", "info", "npz", f"dataset.path={name}/set.npz").code == 0
    done = run_cli("report", name, "--format", "csv", "--out", f"{name}/report")
    assert done.code == 0, done.err
    assert (place / "report" / "index.html").is_file()


def test_a_sweep_over_paths_with_commas(images, condense, folder):
    for name in ("a,b.npz", "c=d.npz"):
        np.savez(folder / name, **images)
    paths = "dataset.path='a,b.npz',c=d.npz"
    options = ("evaluate=false", "max_steps=1", "hydra.sweep.dir=s, [1]")
    done = condense("-m", "dataset=npz", paths, *options)
    assert done.code == 0, done.err
    assert statuses(folder / "s, [1]") == {"0": "done", "1": "done"}


def test_the_home_folder_of_no_user_is_one_line(run_cli):
    line = run_cli("condense", "dataset=npz", "dataset.path=~nobody-of-this-name/x.npz").line
    assert "~nobody-of-this-name/x.npz" in line


def test_an_export_of_a_run_below_the_home_folder_lies_there(
    finished, run_cli, folder, monkeypatch
):
    monkeypatch.setenv("HOME", str(folder))
    assert run_cli("export", "~/" + str(finished.relative_to(folder)), "--to", "npz").code == 0
    assert (finished / "export_npz.npz").is_file()
    assert not (folder / "~").exists()
