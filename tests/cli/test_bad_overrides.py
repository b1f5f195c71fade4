"""Words that cannot be: one line on stderr, exit 1, nothing half-written."""

import errno
import re

import pytest
import torch

# The words, and the line they earn; an ellipsis stands for anything.
CASES = [
    ("method=dmm", "method='dmm' is unknown; allowed: dc, ... Did you mean 'dm'?"),
    ("dataset=digit", "dataset='digit' is unknown; allowed: ... Did you mean 'digits'?"),
    ("model=convnett", "model='convnett' is unknown; allowed: ... Did you mean 'convnet'?"),
    ("pool=tinny", "pool='tinny' is unknown; allowed: ... Did you mean 'tiny'?"),
    ("+dataset=0", "dataset='0' is unknown; allowed: ..."),
    ("+model@second=convnett", "model='convnett' is unknown; allowed: ... Did you mean 'convnet'?"),
    ("pool@learners=0", "pool='0' is unknown; allowed: ..."),
    (
        "--config-dir=. dataset=0",
        "a part is chosen by a name: 'Config group override must be a string or a list. ...",
    ),
    ("protocol=default", "protocol is no choice of dcond condense; there are: augment, ... tuned."),
    ("-m method=dm,m3dd", "method='m3dd' is unknown; allowed: ... Did you mean 'm3d'?"),
    ("init=null", "init='null' is unknown; allowed: ..."),
    (
        "teacher=null",
        "teacher='null' is unknown; allowed: convnet. For none, leave the word out, or write ~teacher.",
    ),
    (
        "tuned=null",
        "tuned='null' is unknown; allowed: ... For none, leave the word out, or write ~tuned.",
    ),
    (
        "experiment=null",
        "experiment='null' is unknown; allowed: ... For none, leave the word out, or write ~experiment.",
    ),
    (
        "experiment=cpu",
        "experiment='cpu' is unknown; allowed: cpu/table, dc, ... Did you mean cpu/table?",
    ),
    (
        "experiment=degm",
        "experiment='degm' is unknown; allowed: ... Did you mean degm/dc, degm/m, degm/md or degm/mda?",
    ),
    (
        "experiment=idc/mnist1",
        "experiment='idc/mnist1' is unknown; allowed: ... Did you mean 'idc/mnist'?",
    ),
    ("~init", "~init leaves nothing to use; leave the word out, or give init another value."),
    (
        "~method=dm",
        "~method=dm leaves nothing to use; leave the word out, or give method another value.",
    ),
    (
        "~threads",
        "~threads leaves nothing to use; leave the word out, or give threads another value.",
    ),
    ("experiment=zzz", "experiment='zzz' is unknown; allowed: cpu/table, ..., m3d."),
    (
        "methd.lr=1",
        "methd.lr is no setting here. Did you mean method.lr? All there are: dcond condense ... --cfg job",
    ),
    (
        "method.lrr=1",
        "method.lrr is no setting of method=dm. Did you mean method.lr? "
        "All there are: dcond condense ... method=dm ... --cfg job --package method",
    ),
    ("method.lr.x=1", "method.lr.x is no setting; nothing stands below method.lr."),
    (
        "teacher.x=1",
        "teacher.x is no setting; nothing stands below teacher as long as no teacher=NAME is chosen.",
    ),
    (
        "experiment=dm loop.x=1",
        "loop.x is no setting of loop. All there are: ... --package loop",
    ),
    (
        "pool.networks.Convnet.width=3",
        "pool.networks.Convnet.width is no setting of pool.networks. Did you mean pool.networks.ConvNet.width? ...",
    ),
    (
        "pool.networks.Foo=convnet",
        "pool.networks.Foo is no setting of pool.networks. To add a network: +model@pool.networks.Foo=NAME. All ...",
    ),
    ("hydra.x=1", "hydra.x is no setting; to add it all the same, write +hydra.x=1."),
    ("+method.lrr=1", "method.lrr is unknown; dcond.methods.dm.DM takes ... Did you mean 'lr'?"),
    ("method=hmdc gbm=false", "gbm is no setting here; method.gbm is: method.gbm=false."),
    ("method=hmdc +gbm=false", "gbm is no setting here; method.gbm is: method.gbm=false."),
    ("method=hmdc ++gbm=false", "gbm is no setting here; method.gbm is: method.gbm=false."),
    ("lr=2", "lr is no setting here; method.lr, evaluation.lr, model.lr, ... are: method.lr=2."),
    ("newkey=1", "newkey is no setting here. All there are: dcond condense ... --cfg job"),
    ("+newkey=1", "newkey is no setting here; nothing reads it; leave the word out."),
    (
        "+scores.ior=true",
        "scores.ior is no setting here; there are: scores.full, scores.unaugmented.",
    ),
    ("+checkpoint.every=3", "checkpoint.every is no setting here; there are: checkpoint.every_s."),
    ("+newkey.x=1", "newkey is no setting here; ..."),
    ("~method.lr", "method.lr is missing; dcond.methods.dm.DM needs it."),
    (
        "method=dm,m3d",
        "method=dm,m3d names several values; add -m to run one after another, or write KEY=[A,B] ...",
    ),
    (
        "ipc=1,10",
        "ipc=1,10 names several values; add -m to run one after another, or write KEY=[A,B] for a list.",
    ),
    (
        "foo",
        "'foo' is no setting; write KEY=VALUE without spaces, in quotes where the value holds a comma, ...",
    ),
    (
        "ipc=[1",
        "'ipc=[1' is no setting; write KEY=VALUE without spaces, in quotes where the value holds a comma, ...",
    ),
    ("=3", "'=3' names no setting; write KEY=VALUE without a space."),
    ("+=", "'+=' names no setting; write KEY=VALUE without a space."),
    ("--config-dir=. ++=3", "'++=3' names no setting; write KEY=VALUE without a space."),
    ("ipc=0", "ipc=0 is out of range; allowed: whole numbers from 1."),
    ("ipc=-1", "ipc=-1 is out of range; ..."),
    ("ipc=1.5", "ipc=1.5 is out of range; ..."),
    ("ipc=null", "ipc=null is out of range; ..."),
    ("ipc=nan", "ipc=nan is out of range; ..."),
    ("ipc=[1]", "ipc=[1] is out of range; ..."),
    (
        "ipc=125",
        "ipc=125 needs 125 images per class; class '0' of digits has 124. Use a smaller ipc, or init=noise.",
    ),
    ("seed=-1", "seed=-1 is out of range; allowed: whole numbers from 0."),
    ("seed=abc", "seed='abc' is out of range; ..."),
    ("threads=0", "threads=0 is out of range; ..."),
    ("max_steps=-1", "max_steps=-1 is out of range; ..."),
    ("max_seconds=0", "max_seconds=0 is out of range; it must be a number greater than 0."),
    ("max_seconds=soon", "max_seconds='soon' is out of range; ..."),
    ("device=gpu", "device='gpu' is unknown; allowed: auto, cpu, cuda, cuda:N, mps."),
    ("evaluate=maybe", "evaluate='maybe' is unknown; allowed: true, false."),
    ("paths.outputs=0", "paths.outputs=0 is out of range; it must be the name of a folder."),
    ("loop=3", "loop=3 leaves nothing to use; leave the word out, or choose another."),
    ("loop.record_every=0", "loop.record_every=0 is out of range; allowed: 1 or more."),
    ("method.lr=abc", "method.lr='abc' must be a number."),
    ("method.lr=null", "method.lr=null must be a number."),
    ("method.lr=-1", "...lr=-1 must be greater than 0 ..."),
    ("method.lr=${nothing}", "Interpolation key 'nothing' not found ..."),
    ("method.steps=1.5", "method.steps=1.5 must be a whole number."),
    ("method.network=3", "method.network=3 must be a part, with a _target_ and its settings."),
    ("augment.flip=3", "method.augment.flip=3 must be true or false."),
    ("model.depth=abc", "method.network.depth='abc' must be a whole number or null."),
    ("evaluation.epochs=0", "evaluation.epochs=0 is out of range; ..."),
    ("evaluation.lr_milestones=3", "evaluation.lr_milestones=3 must be a list, in brackets."),
    ("pool.networks=null", "pool.networks=null must be names and values, in braces."),
    ("pool.networks.ConvNet=3", "pool.networks.ConvNet=3 is not a network; ..."),
    ("dataset=npz", "dataset=npz needs dataset.path; add it to the command, as dataset.path=..."),
    ("dataset.test_count=abc", "dataset.test_count='abc' must be a whole number."),
    ("--config-dir=x", "Additional config directory ... not found."),
]


@pytest.mark.parametrize(("words", "pattern"), CASES, ids=[case[0] for case in CASES])
def test_one_line_and_nothing_half_written(words, pattern, condense, half_written, results):
    line = condense(*words.split()).line
    assert re.fullmatch(".*".join(map(re.escape, pattern.split("..."))), line), line
    assert half_written() == []
    assert all(
        result["status"] == "failed" and line.startswith(result["error"]) for result in results()
    )


@pytest.mark.parametrize(
    "word", ["method=dm", "+method=dm", "model=mlp", "init=noise", "experiment=m3d"]
)
def test_what_condenses_is_no_choice_of_an_evaluation(word, run_cli):
    line = run_cli("evaluate", "nowhere", word).line
    group = word.lstrip("+").partition("=")[0]
    assert line == (
        f"{group} is no choice of dcond evaluate, since the set is made already; "
        "there are: dataset, evaluation, pool, sweep, teacher."
    )


def test_no_sweeper_that_chooses_settings_serves_an_evaluation(run_cli):
    line = run_cli("evaluate", "-m", "nowhere", "dataset=digits", "sweep=optuna").line
    assert line.startswith("sweep='optuna' is unknown; allowed: joblib, ray, ")


def test_the_command_that_shows_all_settings_shows_them(run_cli):
    line = run_cli("condense", "method=m3d", "method.lrr=1").line
    assert line.startswith("method.lrr is no setting of method=m3d. Did you mean method.lr?")
    done = run_cli(*line.partition("All there are: dcond ")[2].split())
    assert done.out.splitlines()[:2] == ["# @package method", "_target_: dcond.methods.m3d.M3D"]
    line = run_cli("condense", "method.lrr=1").line
    assert line.startswith("method.lrr is no setting of method=hmdc. Did you mean method.lr?")


@pytest.mark.parametrize(
    "words",
    [
        ("+tag=x", "hydra.run.dir=${tag}"),
        ("++ipc=1",),
        ("+model@learners.networks.X=convnet",),
        ("+hydra.x=1",),
        ("~teacher", "~tuned", "~experiment", "~sweep"),
    ],
)
def test_words_that_add_what_is_read_or_leave_out_what_may_be_are_taken(words, condense):
    done = condense("evaluate=false", "max_steps=0", *words)
    assert done.code == 0, done.err


def test_a_device_that_is_absent(condense, half_written, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (
        condense("device=cuda").line
        == "device='cuda' is not available here; use device=auto or device=cpu."
    )
    assert half_written() == []


def test_a_diverged_run_keeps_its_last_good_checkpoint(condense, folder, results):
    done = condense("method.lr=1e38", "method.pixel_box=free", "hydra.run.dir=run")
    assert done.code == 1
    line = done.err.splitlines()[-1]
    assert line.startswith("dcond: ")
    assert "not finite" in line
    assert "1e+38" in line
    assert results()[0]["status"] == "failed"
    assert (folder / "run" / "checkpoint.pt").is_file()
    assert not (folder / "run" / "synthetic.safetensors").exists()


@pytest.mark.parametrize(
    "where", ["paths.outputs=file", "hydra.run.dir=file", "hydra.run.dir=file/x"]
)
def test_a_file_where_a_folder_should_be(where, condense, folder, half_written):
    (folder / "file").write_text("precious")
    line = condense(where).line
    assert line.startswith("cannot write file")
    assert line.endswith("Free some space or choose another folder with paths.outputs=FOLDER.")
    assert (folder / "file").read_text() == "precious"
    assert half_written() == []


def test_a_folder_that_takes_nothing(condense, half_written):
    line = condense("paths.outputs=/proc/nowhere").line
    assert line.startswith("cannot write /proc/nowhere: No such file or directory.")
    assert half_written() == []


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device", "x")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "hydra.core.utils._save_config",
            "cannot write x: No space left on device. Free some space",
        ),
        (
            "dcond.run.recorder.Recorder.scalars",
            "cannot write in RUN: No space left on device. Free some space",
        ),
        ("torch.save", "cannot write RUN/checkpoint.pt at step 0: "),
        ("dcond.artefact.save_file", "cannot write RUN/synthetic.safetensors: "),
        ("dcond.run.recorder.save_png", "cannot write in RUN: No space left on device."),
    ],
)
def test_a_full_disk(what, message, condense, folder, monkeypatch, results):
    monkeypatch.setattr(what, full)
    done = condense("evaluate=false", "hydra.run.dir=run")
    assert done.code == 1
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1].removeprefix("dcond: ")
    assert last.startswith(message.replace("RUN", str(folder / "run"))), last
    assert "No space left on device" in last
    assert all(result["status"] == "failed" for result in results())
    assert not [path for path in folder.rglob(".*") if path.is_file()]


def test_images_that_cannot_be_read_any_more(condense, monkeypatch, folder, results):
    def gone(*_, **__):
        raise OSError(errno.EIO, "Input/output error", "images/1.png")

    monkeypatch.setattr("dcond.types.RealData.normalised", gone)
    last = condense("evaluate=false", "hydra.run.dir=run").err.splitlines()[-1]
    assert last.startswith(
        "dcond: cannot read or write images/1.png: Input/output error. See that it is there"
    )
    assert [result["status"] for result in results()] == ["failed"]


def test_a_result_that_cannot_be_written(condense, monkeypatch, folder):
    monkeypatch.setattr("dcond.run.result.write", full)
    done = condense("evaluate=false", "hydra.run.dir=run")
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last == f"dcond: cannot write {folder / 'run' / 'result.json'}: No space left on device."


@pytest.mark.slow
@pytest.mark.parametrize("limit", [64, 4096, 16384])
def test_a_file_size_limit_stands_for_a_full_disk(limit, run_process, folder):
    import resource

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = ("debug=tiny", "method=dm", "pool=convnet", "evaluate=false", "hydra.run.dir=run")
    done = run_process("condense", *words, preexec_fn=limited)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("dcond: cannot write ")
    assert not (folder / "run" / "synthetic.safetensors").exists()


def test_weights_that_cannot_be_had_are_told_before_anything_is_computed(
    run_cli, half_written, results
):
    words = (
        "method=hmdc",
        "pool@learners=hmdc_pair",
        "learners.networks.ViTTiny.checkpoint=none.pth",
    )
    line = run_cli("condense", *words, "dataset=npz", "dataset.path=neither.npz").line
    assert line.startswith(
        "ViT-Tiny: the pretrained weights of 'vit_tiny_patch16_224.augreg_in21k_ft_in1k' could not"
    )
    assert line.endswith("name their file in checkpoint, or set pretrained=false.")
    assert half_written() == []
    assert [result["status"] for result in results()] == ["failed"]


@pytest.mark.parametrize(
    "words",
    [
        ("model.weights=none.pt",),
        ("method=herding", "model.weights=none.pt"),
        (
            "method.network={_target_: dcond.models.MLP, name: M}",
            "init=kmeans",
            "model.weights=none.pt",
        ),
        ("evaluate=true", "pool.networks.ConvNet.weights=none.pt"),
        ("loop.evaluate_every=1", "pool.networks.ConvNet.weights=none.pt"),
        ("loop.evaluate_every=1", "teacher=convnet", "teacher.network.weights=none.pt"),
    ],
)
def test_files_of_weights_are_read_before_any_data_is(words, run_cli):
    words = ("method=dm", "pool=convnet", "evaluate=false", *words)
    line = run_cli("condense", *words, "dataset=npz", "dataset.path=neither.npz").line
    assert "weights=none.pt cannot be read" in line


def test_memory_for_a_teacher_is_looked_at_where_the_pool_is_trained_on_the_way(
    condense, monkeypatch, results
):
    monkeypatch.setattr("dcond.evaluation.full_data.free_bytes", lambda device: 1)
    words = ("evaluate=false", "teacher=convnet", "scores.full=true")
    assert condense(*words).code == 0
    assert (
        condense(*words, "loop.evaluate_every=1")
        .err.splitlines()[-1]
        .startswith("dcond: teacher=... trains on all")
    )


@pytest.mark.parametrize("own", [False, True], ids=["noise", "own noise"])
def test_more_images_than_there_are_real_ones(own, condense, results, folder):
    """From noise a class may hold more images than the data set has; then no random baseline exists."""
    (folder / "own" / "init").mkdir(parents=True)
    (folder / "own" / "init" / "dust.yaml").write_text(
        "# Mine.\n_target_: dcond.init.Noise\nspace: pixel\n"
    )
    done = condense(*(("--config-dir=own", "init=dust") if own else ("init=noise",)), "ipc=130")
    assert done.code == 0
    assert (
        "no random baselines: some class of digits has fewer than ipc=130 real images" in done.err
    )
    assert results()[0]["baselines"] == {"random": None, "random_decoded": None, "full": None}
    assert results()[0]["images_stored"] == 1300
