"""Invalid overrides: one line on stderr, exit 1, no partial files."""

import errno
import re

import pytest
import torch

from dcond.cli.compose import python_overrides
from dcond.errors import ConfigError

# The arguments, and the expected line; an ellipsis stands for any text.
CASES = [
    # Options of config groups.
    ("method=dmm", "method='dmm' is unknown; allowed: datm, ... Did you mean 'dm'?"),
    ("+dataset=0", "dataset='0' is unknown; allowed: ..."),
    ("+model@second=convnett", "model='convnett' is unknown; allowed: ... Did you mean 'convnet'?"),
    ("pool@learners=0", "pool='0' is unknown; allowed: ..."),
    ("--config-dir=. dataset=0", "Config group override must be a string or a list. ..."),
    ("protocol=a", "protocol is not an option of dcond condense; allowed: augment, ... tuned."),
    ("-m method=dm,m3dd", "method='m3dd' is unknown; allowed: ... Did you mean 'm3d'?"),
    (
        "teacher=null",
        "teacher='null' is unknown; allowed: convnet, rded. For none, omit it or write ~teacher.",
    ),
    (
        "init=[real,mix]",
        "init=[real,mix] is a list, but init takes one name; for a sweep write init=A,B and add -m.",
    ),
    ("+model@second=[mlp]", "+model@second=[mlp] is a list, but model@second takes one name; ..."),
    ("--config-dir=. dataset=[a,b]", "dataset=[a,b] is a list, but ..."),
    ("-m pool=[cpu,tiny],convnet", "pool=[cpu,tiny],convnet is a list, but pool takes ..."),
    (
        "experiment=degm",
        "experiment='degm' is unknown; allowed: ... Did you mean degm/dc, degm/m, degm/md or ...",
    ),
    ("experiment=zzz", "experiment='zzz' is unknown; allowed: cpu/table, ..."),
    ("~init", "~init removes a required setting; omit it, or write init=VALUE."),
    ("~method=dm", "~method=dm removes a required setting; omit it, or write method=VALUE."),
    ("scores=null", "scores=None replaces all score settings; write scores.NAME=true."),
    ("scores=3", "scores=3 replaces all score settings; write scores.NAME=true."),
    ("~threads", "~threads removes a required setting; omit it, or write threads=VALUE."),
    ("--config-dir=x", "Additional config directory ... not found."),
    # Unknown keys.
    (
        "methd.lr=1",
        "methd.lr is not a setting. Did you mean method.lr? "
        "All settings: dcond condense ... --cfg job",
    ),
    (
        "method.lrr=1",
        "method.lrr is not a setting of method=dm. Did you mean method.lr? "
        "All settings: dcond condense ... method=dm ... --cfg job --package method",
    ),
    (
        "-m method=dm,m3d method.kernel=linear",
        "method.kernel is not a setting of each of method=dm,m3d.",
    ),
    (
        "method._targe_=x",
        "method._targe_ is not a setting of method=dm. Did you mean method.targets? All ...",
    ),
    ("method.lr.x=1", "method.lr.x is not a setting of method=dm. method.lr has no sub-keys. ..."),
    ("teacher.x=1", "teacher.x is not a setting. teacher has no sub-keys. All settings: ..."),
    (
        "pool.networks.Convnet.width=3",
        "pool.networks.Convnet.width is not a setting of pool=convnet. "
        "Did you mean pool.networks.ConvNet.width? ...",
    ),
    (
        "pool.networks.Foo=convnet",
        "... To add a network: +model@pool.networks.Foo=NAME. All settings: ...",
    ),
    ("hydra.x=1", "hydra.x is not a setting."),
    (
        "hydra.job.chdir=true",
        "hydra.job.chdir=true is not supported, since relative paths would start at the run folder; "
        "omit it.",
    ),
    ("method=hmdc gbm=false", "gbm is not a setting. Did you mean method.gbm? All settings: ..."),
    ("lr=2", "lr is not a setting. Did you mean method.lr, evaluation.lr, model.lr or ..."),
    ("newkey=1", "newkey is not a setting. All settings: dcond condense ... --cfg job"),
    # Added keys that nothing reads.
    ("method=hmdc ++gbm=false", "gbm is not a setting. Did you mean method.gbm?"),
    ("+method.lrr=1", "method.lrr is unknown; dcond.methods.dm.DM takes ... Did you mean 'lr'?"),
    ("+newkey.x=1", "newkey is not a setting. Nothing reads it."),
    (
        "+scores.ior=true",
        "scores.ior is not a setting; allowed: scores.full, scores.unaugmented.",
    ),
    # Syntax.
    (
        "ipc=1,10",
        "ipc=1,10 has several values; add -m for a sweep, or write KEY=[A,B] for a list.",
    ),
    ("init=real,mix", "init=real,mix has several values; add -m for a sweep."),
    ("foo", "'foo' is not an override; write KEY=VALUE without spaces."),
    ("++=3", "'++=3' is not an override; write KEY=VALUE without spaces."),
    ("ipc=[1", "'ipc=[1' is not a valid override; write KEY=VALUE, in quotes where ..."),
    ("üñï=1", "'üñï=1' is not a valid override; ..."),
    # Values.
    ("~method.lr", "method.lr is missing; dcond.methods.dm.DM needs it."),
    ("ipc=0", "ipc=0 is out of range; allowed: whole numbers from 1."),
    ("ipc=1.5", "ipc=1.5 must be a whole number."),
    ("ipc=null", "ipc=null must be a whole number."),
    ("ipc=125", "ipc=125 needs 125 images per class; class '0' of digits has 124. ..."),
    ("seed=abc", "seed='abc' must be a whole number."),
    ("max_seconds=soon", "max_seconds='soon' must be a number or null."),
    ("device=gpu", "device='gpu' is unknown; allowed: auto, cpu, cuda, cuda:N, mps."),
    ("evaluate=maybe", "evaluate='maybe' must be true or false."),
    ("loop=3", "loop=3 ..."),
    ("loop.record_every=0", "loop.record_every=0 is out of range; ..."),
    ("method.lr=abc", "method.lr='abc' must be a number."),
    ("method.lr=-1", "method.lr=-1 is out of range; allowed: numbers above 0."),
    ("method.lr=${nothing}", "Interpolation key 'nothing' not found."),
    ("method.network=3", "method.network=3 must be a part, ..."),
    ("model.depth=abc", "model.depth='abc' must be a whole number or null."),
    ("pool.networks=null", "pool.networks=null must be names and values, in braces."),
    ("pool.networks.ConvNet=3", "pool.networks.ConvNet=3 is not a network; ..."),
    ("dataset=npz", "dataset=npz needs dataset.path; ..."),
]


@pytest.mark.parametrize(("arguments", "pattern"), CASES, ids=[case[0] for case in CASES])
def test_one_line_and_no_partial_files(arguments, pattern, condense, half_written, results):
    line = condense(*arguments.split()).line
    assert re.fullmatch(".*".join(map(re.escape, pattern.split("..."))), line), line
    assert half_written() == []
    assert all(
        result["status"] == "failed" and line.startswith(result["error"]) for result in results()
    )


@pytest.mark.parametrize("override", ["+method=dm", "model=mlp", "experiment=m3d/cifar10"])
def test_groups_that_only_condense_uses_are_refused_by_evaluate(override, run_cli):
    group = override.lstrip("+").partition("=")[0]
    assert run_cli("evaluate", "nowhere", override).line == (
        f"{group} is not an option of dcond evaluate; "
        "allowed: dataset, evaluation, pool, sweep, teacher."
    )


def test_evaluate_offers_no_sweeper_that_chooses_settings(run_cli):
    line = run_cli("evaluate", "-m", "nowhere", "dataset=digits", "sweep=optuna").line
    assert line.startswith("sweep='optuna' is unknown; allowed: joblib, ray, ")


def test_suggested_command_shows_all_settings(run_cli):
    line = run_cli("condense", "method=m3d", "method.lrr=1").line
    assert line.startswith("method.lrr is not a setting of method=m3d. Did you mean method.lr?")
    done = run_cli(*line.partition("All settings: dcond ")[2].split())
    assert done.out.splitlines()[:2] == ["# @package method", "_target_: dcond.methods.m3d.M3D"]
    line = run_cli("condense", "method.lrr=1").line
    assert line.startswith("method.lrr is not a setting. Did you mean method.lr?")
    line = run_cli("condense", "method.lrr=1", "--config-dir", ".", "--info").line
    assert line.endswith("dcond condense --config-dir . --cfg job --package method")


@pytest.mark.parametrize(
    "overrides",
    [
        ("+tag=x", "hydra.run.dir=${tag}"),
        ("++ipc=1",),
        ("+model@learners.networks.X=convnet",),
        ("+hydra.x=1",),
        ("~teacher", "~tuned", "~experiment", "~sweep"),
    ],
)
def test_additions_that_are_read_and_allowed_deletions(overrides, condense):
    done = condense("evaluate=false", "max_steps=0", *overrides)
    assert done.code == 0, done.err


def test_overrides_of_a_python_call():
    assert python_overrides(None, method="dm", seed=None) == ["method=dm"]
    assert python_overrides(("ipc=1",)) == ["ipc=1"]
    for wrong in ({"ipc=1"}, {"ipc=1": 2}, "ipc=1", 3, [1], iter(["ipc=1"])):
        with pytest.raises(ConfigError, match=r"^overrides must be a list of strings such as"):
            python_overrides(wrong)


def test_unavailable_device(condense, half_written, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (
        condense("device=cuda").line
        == "device='cuda' is not available here; use device=auto or device=cpu."
    )
    assert half_written() == []


def test_diverged_run_keeps_its_last_checkpoint(condense, folder, results):
    done = condense("method.lr=1e38", "method.pixel_box=free", "hydra.run.dir=run")
    assert done.code == 1
    line = done.err.splitlines()[-1]
    assert line.startswith("dcond: ")
    assert "not finite" in line
    assert "1e+38" in line
    assert results()[0]["status"] == "failed"
    assert (folder / "run" / "checkpoint.pt").is_file()
    assert not (folder / "run" / "synthetic.safetensors").exists()


def test_a_folder_of_results_that_has_no_name_is_refused(run_cli):
    line = run_cli(
        "evaluate", "x", "dataset=digits", "paths.outputs=null", "hydra.run.dir=run"
    ).line
    assert line == "paths.outputs=null must be the name of a folder."


@pytest.mark.parametrize("where", ["paths.outputs=file", "hydra.run.dir=file/x"])
def test_a_file_where_a_folder_should_be(where, condense, folder, half_written):
    (folder / "file").write_text("precious")
    line = condense(where).line
    assert line.startswith("cannot write file")
    setting = where.partition("=")[0]
    assert line.endswith(f"Free some space or choose another folder with {setting}=FOLDER.")
    assert (folder / "file").read_text() == "precious"
    assert half_written() == []


def test_folder_that_cannot_be_created(condense, half_written):
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
        ("dcond.run.condensation.save_png", "cannot write in RUN: No space left on device."),
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


def test_images_become_unreadable(condense, monkeypatch, folder, results):
    def gone(*_, **__):
        raise OSError(errno.EIO, "Input/output error", "images/1.png")

    monkeypatch.setattr("dcond.types.RealData.normalised", gone)
    last = condense("evaluate=false", "hydra.run.dir=run").err.splitlines()[-1]
    assert last.startswith("dcond: cannot read or write images/1.png: Input/output error.")
    assert [result["status"] for result in results()] == ["failed"]


def test_result_cannot_be_written(condense, monkeypatch, folder):
    monkeypatch.setattr("dcond.run.result.RunResult.write", full)
    done = condense("evaluate=false", "hydra.run.dir=run")
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last == f"dcond: cannot write {folder / 'run' / 'result.json'}: No space left on device."
    assert "-> run" in done.out  # what was found is shown all the same


def test_a_disk_that_fills_up_after_a_checkpoint(condense, folder, monkeypatch):
    monkeypatch.setattr("dcond.evaluation.EvaluationProtocol.evaluate", full)
    assert condense("hydra.run.dir=run").err.splitlines()[-1] == (
        f"dcond: cannot write in {folder / 'run'}: No space left on device. Free some space or "
        "choose another folder. A checkpoint is saved. Resume with: dcond condense resume=run"
    )


@pytest.mark.slow
@pytest.mark.parametrize("limit", [64, 4096, 16384])
def test_file_size_limit_as_full_disk(limit, run_process, folder):
    import resource

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    arguments = ("debug=tiny", "method=dm", "pool=convnet", "evaluate=false", "hydra.run.dir=run")
    done = run_process("condense", *arguments, preexec_fn=limited)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("dcond: cannot write ")
    assert not (folder / "run" / "synthetic.safetensors").exists()


def test_missing_weights_are_reported_before_any_computation(run_cli, half_written, results):
    arguments = (
        "method=hmdc",
        "pool@learners=hmdc_pair",
        "learners.networks.ViTTiny.checkpoint=none.pth",
    )
    line = run_cli("condense", *arguments, "dataset=npz", "dataset.path=neither.npz").line
    assert line.startswith(
        "ViT-Tiny: the pretrained weights of 'vit_tiny_patch16_224.augreg_in21k_ft_in1k' cannot"
    )
    assert "give their file as checkpoint, set pretrained=false, or choose a pool" in line
    assert half_written() == []
    assert [result["status"] for result in results()] == ["failed"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("model.weights=none.pt",),
        (
            "method.network={_target_: dcond.models.MLP, name: M}",
            "init=kmeans",
            "model.weights=none.pt",
        ),
        ("evaluate=true", "pool.networks.ConvNet.weights=none.pt"),
        ("loop.evaluate_every=1", "teacher=convnet", "teacher.network.weights=none.pt"),
    ],
)
def test_weight_files_are_read_before_any_data(arguments, run_cli):
    arguments = ("method=dm", "pool=convnet", "evaluate=false", *arguments)
    line = run_cli("condense", *arguments, "dataset=npz", "dataset.path=neither.npz").line
    assert "weights=none.pt cannot be read" in line


def test_more_synthetic_than_real_images(condense, results, folder):
    """With init=noise a class may have more images than real ones: no random baseline."""
    (folder / "own" / "init").mkdir(parents=True)
    (folder / "own" / "init" / "dust.yaml").write_text(
        "# Mine.\n_target_: dcond.init.Noise\nspace: pixel\n"
    )
    done = condense("--config-dir=own", "init=dust", "ipc=130")
    assert done.code == 0
    assert "no random baselines: class '0' of digits has 124 real images, the set 130" in done.err
    assert results()[0]["baselines"] == {"random": None, "random_decoded": None, "full": None}
    assert results()[0]["images_stored"] == 1300


def own_file(folder, name, text):
    file = folder / "own" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return ("--config-dir", "own")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_step: 1", "max_step, which a configuration file has, is not a setting."),
        ("ipcs: 10", "ipcs, which a configuration file has, is not a setting."),
        ("on: true", "True, which a configuration file has, is not a setting."),
        ("scores: {fulll: true}", "scores.fulll is not a setting; allowed: scores.full, "),
    ],
)
def test_a_typo_in_a_file_of_the_user(text, message, condense, folder, half_written):
    arguments = own_file(folder, "experiment/mine.yaml", f"# @package _global_\n{text}\n")
    line = condense(*arguments, "experiment=mine").line
    assert line.startswith(message), line
    assert half_written() == []


def test_a_file_of_the_user_may_name_values_for_others(condense, folder):
    text = "# @package _global_\nmine: 0.5\nmethod: {lr: '${mine}'}\n"
    arguments = own_file(folder, "experiment/mine.yaml", text)
    done = condense(*arguments, "experiment=mine", "evaluate=false")
    assert done.code == 0, done.err


def test_a_file_of_the_user_with_a_packaged_name_is_not_ignored(condense, folder):
    arguments = own_file(folder, "model/convnet.yaml", "_target_: dcond.models.MLP\nname: Mine\n")
    assert condense(*arguments, "model=convnet").line == (
        f"{folder}/own/model/convnet.yaml is not read, since dcond has a model of this name; "
        "rename it and choose it by its new name."
    )


def test_a_configuration_without_choices_is_refused(condense, finished, run_cli):
    arguments = ("--config-path", str(finished / ".hydra"), "--config-name", "config")
    line = run_cli("condense", *arguments, "hydra.run.dir=again").line
    assert line.startswith("the configuration does not choose a method and a data set, "), line
