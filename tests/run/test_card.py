"""The README.md of a run folder: what the set is, how to use it and to make it again; no path of a machine."""

import os
import re

import pytest
import torch

import dcond

WORDS = ["debug=tiny", "pool=convnet", "pool.networks.ConvNet.width=8", "model.width=8"]


def run(tmp_path, *overrides, **more):
    run = dcond.condense(
        method="dm", ipc=1, seed=3, overrides=[*WORDS, *overrides], folder=tmp_path, **more
    )
    return run, (tmp_path / "README.md").read_text()


@pytest.fixture(autouse=True)
def _outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("DCOND_OUTPUTS", str(tmp_path / "outputs"))


def test_a_card_states_the_accuracies_and_the_settings_and_no_path(tmp_path):
    done, card = run(tmp_path, "method.lr=0.25", "model.weights=null")
    network = done.result.evaluation.networks["ConvNet"]
    assert f"| ConvNet | {100 * network.mean:.1f} ± {100 * network.ci95:.1f} |" in card
    assert "# digits, condensed by dm to 1 image(s) per class" in card
    assert "    method.lr=0.25\n" in card
    assert re.search(r"dcond condense method=dm dataset=digits .*ipc=1 seed=3\n", card)
    assert str(tmp_path) not in card
    assert os.path.expanduser("~") not in card


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_plain_code_of_the_card_gives_what_dcond_gives(factor, tmp_path, monkeypatch):
    done, card = run(tmp_path, f"method.factor={factor}", "init=mix", "evaluate=false")
    assert "Not evaluated" in card
    monkeypatch.chdir(tmp_path)
    with_dcond, plain = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
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
