"""Random images beside a set with soft labels: labelled by what labelled the set, where it is found."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from dcond.cli.compose import composed
from dcond.cli.instantiate import build
from dcond.cli.labels import add_teacher, find_label
from dcond.cli.run_config import result_affecting_config, to_jsonable
from dcond.data import Digits
from dcond.run.result import set_settings
from dcond.types import SyntheticSet
from dcond.whitening import fit_whitening

OVERRIDES = (
    *("method=datm", "dataset=digits", "model.width=4", "model.depth=1", "method.student_steps=1"),
    *("method.experts.count=1", "method.experts.epochs=2", "method.expert_epochs=1"),
    *("method.first_max_epoch=1", "method.max_start_epoch=1"),
)


@pytest.fixture
def real():
    return Digits(name="digits").load()


@pytest.fixture
def evaluated(folder):
    with composed("evaluate", ["dataset=digits", "synthetic.path=unused"]) as (cfg, _):
        return cfg


def one_per_class(real, *, soft=False, **metadata):
    rows = torch.cat([own[:1] for own in real.class_rows])
    labels = torch.eye(10) if soft else None
    return SyntheticSet.from_images(
        real.pixels(rows), real, labels=labels, logits=soft, metadata=metadata
    )


def made_by_datm(real, **changes):
    """Return DATM, whose experts are cached, and a set with the metadata of its runs."""
    with composed("condense", OVERRIDES) as (cfg, _):
        config = to_jsonable(result_affecting_config(cfg)) | changes
        method = build(cfg.method, "method=datm")
    config.pop("dataset")
    method.experts.load_or_train(real)
    return method, one_per_class(real, soft=True, made_with=json.dumps({"config": config}))


def test_the_experts_of_datm_label_random_images_as_in_its_run(real, evaluated):
    method, synthetic = made_by_datm(real)
    images = one_per_class(real)
    found = find_label(synthetic, real, evaluated)(images)
    assert found.logits
    assert torch.equal(found.labels, method.labelled(real, images).labels)


def test_experts_are_found_by_the_normalisation_of_the_set(real, evaluated):
    whitened = replace(real, mean=(0.0,), std=(1.0,), whitening=fit_whitening(real.train.images))
    method, synthetic = made_by_datm(whitened)
    images = one_per_class(whitened)
    found = find_label(synthetic, real, evaluated)(images)
    assert torch.equal(found.labels, method.labelled(whitened, images).labels)


def test_experts_are_found_by_the_settings_of_the_data_in_their_run(real, evaluated):
    """The command of the evaluation need not repeat them."""
    with composed("condense", [*OVERRIDES, "dataset.flip=true"]) as (cfg, _):
        config = set_settings(to_jsonable(result_affecting_config(cfg)))
        method = build(cfg.method, "method=datm")
    method.experts.load_or_train(real)
    synthetic = one_per_class(real, soft=True, made_with=json.dumps({"config": config}))
    assert find_label(synthetic, real, evaluated) is not None


def test_experts_that_are_not_cached_are_not_trained(real, evaluated, folder, caplog):
    _, synthetic = made_by_datm(real)
    shutil.rmtree(folder / "outputs")
    assert find_label(synthetic, real, evaluated) is None
    assert caplog.messages[-1] == (
        "random images get hard labels although the set has soft ones: its experts are not in outputs/cache"
    )
    assert not (folder / "outputs").exists()


def test_a_file_that_does_not_say_what_labelled_it_or_names_other_code(real, evaluated, caplog):
    for metadata, reason in (
        ({}, "its file does not say what labelled it"),
        ({"made_with": "{}"}, "its file does not say what labelled it"),
        (
            add_teacher({}, {"_target_": "os.mkdir", "path": "harm"}),
            "its file names code that is not dcond's: os.mkdir",
        ),
        (
            {
                "made_with": json.dumps(
                    {"config": {"method": "${oc.create:'{_target_: os.mkdir}'}"}}
                )
            },
            "its file names code that is not dcond's: ${oc.create:'{_target_: os.mkdir}'}",
        ),
        (
            add_teacher({}, {"_target_": "dcond.training.experts.Experts", "epochs": 0}),
            "label_teacher.epochs=0 is out of range; allowed: whole numbers from 1.",
        ),
    ):
        assert find_label(one_per_class(real, soft=True, **metadata), real, evaluated) is None
        assert caplog.messages[-1].endswith(f"although the set has soft ones: {reason}")


def test_hard_labels_need_none(real, evaluated, caplog):
    assert find_label(one_per_class(real), real, evaluated) is None
    assert not caplog.messages


def test_under_torchrun_all_processes_must_have_the_networks_cached(
    real, evaluated, folder, caplog, monkeypatch
):
    """Another machine may not have the files: all processes must label alike."""

    class Two:
        def largest(self, missing):
            return [max(missing, 1.0)]  # not found by the other

    _, synthetic = made_by_datm(real)
    monkeypatch.setattr("dcond.cli.labels.current", Two)
    assert find_label(synthetic, real, evaluated) is None
    assert caplog.messages[-1].endswith("its experts are not in outputs/cache")
