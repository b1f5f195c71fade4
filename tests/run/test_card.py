"""The README.md of a run folder: what the set is, how to use it and to make it again; no path of a machine."""

import os
import re

import pytest
import torch

import dcond
from dcond.run import card
from dcond.run.result import RunResult

OVERRIDES = ["debug=tiny", "pool=convnet", "pool.networks.ConvNet.width=8", "model.width=8"]


def run(tmp_path, *overrides, **more):
    run = dcond.condense(
        method="dm", ipc=1, seed=3, overrides=[*OVERRIDES, *overrides], folder=tmp_path, **more
    )
    return run, (tmp_path / "README.md").read_text()


@pytest.fixture(autouse=True)
def _outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("DCOND_OUTPUTS", str(tmp_path / "outputs"))


def test_a_card_states_the_accuracies_and_the_settings_and_no_path(tmp_path):
    done, text = run(tmp_path, "method.lr=0.25", "model.weights=null")
    network = done.result.evaluation.networks["ConvNet"]
    assert f"| ConvNet | {100 * network.mean:.1f} ± {100 * network.ci95:.1f} |" in text
    assert "# digits, condensed by dm to 1 image(s) per class" in text
    assert "    method.lr=0.25\n" in text
    assert re.search(r"dcond condense dataset=digits method=dm ipc=1 seed=3 .*method.lr=0.25", text)
    assert str(tmp_path) not in text
    assert os.path.expanduser("~") not in text


def test_settings_that_follow_from_others_are_on_the_card(tmp_path):
    overrides = ["ipc=2", "method.batch_real='${oc.decode:${ipc}0}'", "evaluate=false"]
    _, text = run(tmp_path, *overrides)
    assert "    method.batch_real=20\n" in text
    assert "${" not in text.partition("All settings")[2]


def test_the_command_of_a_card_has_no_variable_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RATE", "0.25")
    overrides = ["method.lr='${oc.decode:${oc.env:RATE}}'", "evaluate=false"]
    _, text = run(tmp_path, *overrides)
    (line,) = [line for line in text.splitlines() if line.startswith("    dcond condense ")]
    assert "method.lr=0.25" in line
    assert "${" not in line


def test_the_command_of_a_card_is_what_was_typed_without_paths(tmp_path):
    method = {"lr": 0.1, "cache": "/home/me/cache"}
    result = RunResult(method="dc", ipc=1, seed=0, config={"method": method})
    result.choices = {"method": "dc", "dataset": "npz"}
    typed = [
        "experiment=dc",
        "dataset.path='/home/me/x.npz'",
        "paths.data=/d",
        "+init={path: /home/me/y}",
        "threads=1",
        "method.cache='/home/me/cache'",
        "~tuned",
    ]
    text = card._reproduction(result, typed)
    assert (
        "\n    dcond condense ipc=1 seed=0 experiment=dc dataset.path=... +init=... "
        "method.cache=... '~tuned'\n" in text
    )
    assert "/home" not in text
    bare = card._reproduction(result, [])
    assert "\n    dcond condense method=dc dataset=npz ipc=1 seed=0\n" in bare


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_plain_code_of_the_card_gives_what_dcond_gives(factor, tmp_path, monkeypatch):
    done, text = run(tmp_path, f"method.factor={factor}", "init=mix", "evaluate=false")
    assert "Not evaluated" in text
    monkeypatch.chdir(tmp_path)
    with_dcond, plain = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for code in (with_dcond, plain):
        values = {}
        exec(code, values)
        images, labels = done.synthetic.dataset().tensors
        assert torch.allclose(values["images"], images, atol=1e-6)
        assert torch.equal(values["labels"], labels)


def test_another_readme_stays(tmp_path, caplog):
    (tmp_path / "README.md").write_text("mine")
    assert run(tmp_path, "evaluate=false")[1] == "mine"
    assert "README.md exists and is not overwritten" in caplog.text
