"""``dcond evaluate`` on files from elsewhere, as typed."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

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
    assert "res_DM.pt: read as DC, DSA, DM, normalised by mean 0.3 and std 0.38" in done.err
    assert "probably they are not stored as read" not in done.err


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
    assert "probably they are not stored as read: pass synthetic.normalised=true" in done.err


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
    done, _ = evaluate("synthetic=x.npz", "synthetic.zca=true")
    assert done.code == 0, done.err
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
