"""The condensed sets of the gallery are read, have their cards, and can be evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest

import dcond
from dcond.data import write_prepared
from dcond.data.prepared import check_prepared

GALLERY = Path(__file__).parents[2] / "docs/gallery"
SETS = sorted(file.parent for file in GALLERY.glob("*/synthetic.safetensors"))


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
def test_a_set_is_whole_and_its_card_shows_the_accuracy_of_its_result(folder):
    synthetic = dcond.load(folder)
    assert len(synthetic.images) == synthetic.ipc * len(synthetic.class_names)
    assert (folder / "grid.png").stat().st_size > 1000
    network = json.loads((folder / "result.json").read_text())["evaluation"]["networks"]["ConvNet"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| ConvNet | {100 * network['mean']:.1f} ± {100 * network['ci95']:.1f}" in card
    listed = (GALLERY / "index.md").read_text(encoding="utf-8")
    assert f"{100 * network['mean']:.1f} ± {100 * network['ci95']:.1f}" in listed


def test_a_set_is_evaluated_as_it_lies_there(tmp_path):
    names = dcond.load(SETS[0]).class_names
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(10), 4)
    made = {
        f"{split}_{kind}": value
        for split in ("train", "test")
        for kind, value in (
            ("images", rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)),
            ("labels", labels),
        )
    }
    write_prepared(tmp_path / "made.npz", check_prepared(made | {"class_names": np.array(names)}))
    found = dcond.evaluate(
        SETS[0],
        dataset="npz",
        overrides=[
            f"dataset.path={tmp_path / 'made.npz'}",
            "pool=tiny",
            "evaluation=quick",
            "evaluation.epochs=1",
            "evaluation.repeats=1",
            "baselines=false",
        ],
        progress=False,
    )
    assert len(found.result.evaluation.networks) > 0
