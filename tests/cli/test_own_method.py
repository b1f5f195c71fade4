"""The worked examples of the documentation, run as the pages show them: the pages are where their
code is taken from.

And what a run folder may ask for: a checkpoint names the code of its run, and only the command line
    can vouch for it.
"""

import json
import os
import sys

import pytest
import torch
from omegaconf import OmegaConf

from dcond import artefact
from dcond.cli.instantiate import build
from dcond.cli.resume import load_resume_config
from dcond.errors import CheckpointError
from dcond.types import ImageSpec

OWN = ("--config-dir", "own", "method=class_mean")
SMALL = (*OWN, "method.steps=12", "method.batch_real=16", "evaluate=false", "tensorboard=false")


@pytest.fixture
def example(unpack, folder, monkeypatch):
    """Lay the example's two files into the current folder, where Python finds the first."""
    written = unpack("docs/adding_a_method.md")
    assert [path.relative_to(folder).as_posix() for path in written] == [
        "class_mean.py",
        "own/method/class_mean.yaml",
    ]
    monkeypatch.syspath_prepend(folder)
    return written


def losses(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["condense/loss"] for line in lines if "condense/loss" in line]


def test_the_example_is_sixty_lines(example):
    lines = example[0].read_text().splitlines()
    assert sum(1 for line in lines if line.strip()) <= 60


def test_the_example_condenses_and_its_loss_falls(example, run_cli, results, folder):
    done = run_cli("condense", *SMALL, "loop.record_every=1", "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert results()[0]["method"] == "class_mean"
    seen = losses(folder / "run")
    assert len(seen) == 12
    assert sum(seen[-3:]) < 0.5 * sum(seen[:3])


def test_the_example_goes_on_to_the_same_images_where_the_command_names_it(
    example, run_cli, signalled, folder
):
    assert run_cli("condense", *SMALL, "hydra.run.dir=whole").code == 0
    with signalled():
        run_cli("condense", *SMALL, "hydra.run.dir=broken")
    log = (folder / "broken" / "condense.log").read_text()
    assert "dcond condense resume=broken --config-dir DIR method=NAME" in log
    line = run_cli("condense", "resume=broken").line
    assert line == (
        "broken asks to run code that is not dcond's: class_mean.ClassMean. If you trust it, add the "
        "overrides that name it to resume=, such as --config-dir DIR method=class_mean."
    )
    assert run_cli("condense", *OWN, "resume=broken").code == 0
    whole, resumed = (artefact.load(folder / run).images for run in ("whole", "broken"))
    assert torch.equal(whole, resumed)


def test_the_network_of_the_networks_page(unpack, folder, monkeypatch):
    names = [path.relative_to(folder).as_posix() for path in unpack("docs/networks.md")]
    assert names == ["own/pool/mine.yaml", "linear.py", "own/model/linear.yaml"]
    monkeypatch.syspath_prepend(folder)
    recipe = build(OmegaConf.load("own/model/linear.yaml"), "model=linear")
    spec = ImageSpec(channels=3, height=8, width=6, classes=5, mean=(0.5,) * 3, std=(0.5,) * 3)
    network = recipe.build(spec, torch.Generator().manual_seed(0))
    images = torch.rand(4, 3, 8, 6)
    assert network(images).shape == (4, 5)
    assert torch.equal(network.head(network.embed(images)), network(images))
    (tap,) = network.features(images)
    assert (tap.semantic.shape, tap.spatial.shape) == ((4, 3), (4, 3, 8, 6))


def ask_for(node, key, run):
    """Write another part into a run's checkpoint, as a stranger could."""
    content = torch.load(run / "checkpoint.pt", weights_only=True)
    saved = OmegaConf.create(content["config"])
    OmegaConf.update(saved.config, key, node, merge=False)
    torch.save(content | {"config": OmegaConf.to_yaml(saved)}, run / "checkpoint.pt")


def test_a_run_folder_from_outside_runs_nothing(stopped, run_cli, folder):
    ask_for({"_target_": "os.mkdir", "path": "harm"}, "loop", stopped)
    line = run_cli("condense", "method=dm", f"resume={stopped}").line
    assert line.startswith("run asks to run code that is not dcond's: os.mkdir. ")
    assert not (folder / "harm").exists()


@pytest.mark.parametrize(
    ("key", "node"),
    [
        (
            "method.network",
            {"_target_": "dcond.paths.os.mkdir"},
        ),  # what a module of dcond imports is not dcond's
        (
            "method.network",
            {"_target_": "dcond.paths.write_atomically"},
        ),  # nor is all of dcond's a part of a run
        ("init.rule", [{"x": {"_target_": "${oc.env:HOME}"}}]),
        ("init.rule", "${oc.create:'{_target_: os.mkdir, path: harm}'}"),
        ("init.rule", "${ oc.decode:'{_target_: os.mkdir, path: harm}'}"),
    ],
)
def test_what_no_packaged_file_names_is_foreign(key, node, stopped):
    ask_for(node, key, stopped)
    with pytest.raises(CheckpointError, match="asks to run code that is not dcond's: "):
        load_resume_config(OmegaConf.create({}), {}, [], stopped)


@pytest.mark.parametrize("place", [".", "own"])
def test_modules_are_found_where_config_dir_is_given_and_only_then(
    place, unpack, run_cli, folder, monkeypatch
):
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", ".")])
    monkeypatch.delitem(sys.modules, "class_mean", raising=False)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    module, _ = unpack("docs/adding_a_method.md")
    module.rename(folder / place / module.name)
    before = list(sys.path)
    done = run_cli("condense", *SMALL, "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert (sys.path, os.environ["PYTHONPATH"]) == (before, "elsewhere")
    sys.modules.pop("class_mean")
    line = run_cli("condense", "method=dm", "method._target_=class_mean.ClassMean").line
    assert "class_mean.ClassMean cannot be imported (No module named 'class_mean'). Put its" in line
