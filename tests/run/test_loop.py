"""The loop: guard, checkpoints, resuming, what is called when."""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from dcond.errors import CheckpointError, ConfigError, DivergedError
from dcond.methods.base import SavedState
from dcond.run import checkpoint, progress
from dcond.run.loop import LoopSettings
from dcond.types import SyntheticSet


@dataclass
class OwnState(SavedState):
    best: object


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_takes_its_steps_and_saves_the_last_state(make_run, tmp_path):
    run = make_run()
    run.condense()
    run.recorder.flush()
    moment = checkpoint.load(tmp_path)
    assert run.step == moment.step == 20
    assert torch.equal(moment.images, run.synthetic.images)
    assert moment.config == "a: 1\n"
    assert moment.wall_s == run.wall_s > 0
    assert len(run.step_times) == 20
    assert min(run.step_times) <= run.step_s_median <= max(run.step_times)
    assert [record["step"] for record in records(tmp_path)] == [10, 20]
    assert records(tmp_path)[0].keys() == {"step", "condense/loss", "condense/wall_s"}
    assert records(tmp_path)[1]["condense/loss"] == pytest.approx(0.05)


def test_what_a_method_does_before_its_first_step_is_timed_apart(make_run, drift, monkeypatch):
    clock = iter([0, 7, *range(100, 200)])  # a step looks twice: it takes a second
    monkeypatch.setattr("dcond.run.loop.time.perf_counter", lambda: float(next(clock)))
    run = make_run(drift(steps=3))
    run.condense()
    assert (run.start_wall_s, run.wall_s) == (7, 3)


def test_the_last_step_is_recorded_whatever_the_interval(make_run, tmp_path, drift):
    run = make_run(drift(steps=7), loop=LoopSettings(record_every=3))
    run.condense()
    run.recorder.flush()
    assert [record["step"] for record in records(tmp_path)] == [3, 6, 7]


@pytest.mark.parametrize(("limit", "taken"), [(5, 5), (50, 20), (0, 0), (None, 20)])
def test_max_steps_stops_earlier_and_never_later(limit, taken, make_run):
    run = make_run(max_steps=limit)
    run.condense()
    assert run.step == run.method.taken == run.steps == taken


def test_max_seconds_stops_after_the_step_that_ends_later(make_run, drift, monkeypatch, tmp_path):
    clock = iter(range(1000))  # a step looks twice: it takes a second
    monkeypatch.setattr("dcond.run.loop.time.perf_counter", lambda: float(next(clock)))
    expected = []
    show = lambda *shown: expected.append(shown[3])  # noqa: E731
    monkeypatch.setattr(progress.ProgressDisplay, "update", show)
    run = make_run(drift(steps=20), max_seconds=2.5, show_progress=False)
    run.condense()
    assert run.step == 3
    assert expected == [3]  # by the end of the time, not of the 20 steps
    assert checkpoint.load(tmp_path).step == 3
    assert [record["step"] for record in records(tmp_path)] == [3]


def test_a_method_without_steps_leaves_no_checkpoint_and_no_time(make_run, tmp_path, drift):
    run = make_run(drift(steps=0))
    run.condense()
    assert not (tmp_path / "checkpoint.pt").exists()
    assert run.step_s_median is None


def test_a_state_that_cannot_be_read_again_is_refused_before_the_first_step(make_run, drift):
    run = make_run(drift())
    init = run.method.init

    def with_numpy(*arguments):
        init(*arguments)
        return OwnState(np.float64(1))  # saved by torch, refused when read

    run.method.init = with_numpy
    with pytest.raises(CheckpointError, match=r"^the state of Drift could be saved, but not read"):
        run.condense()
    assert run.step == 0
    assert not (run.folder / "checkpoint.pt").exists()  # a repeated sweep starts this job again


def test_a_run_can_be_resumed_from_step_0(make_run, tmp_path, drift):
    def fail(synthetic):
        raise RuntimeError("the method broke")

    run = make_run(drift(at={1: fail}))
    with pytest.raises(RuntimeError, match="the method broke"):
        run.condense()
    assert checkpoint.load(tmp_path).step == 0


def test_a_resumed_run_adds_up_what_it_cost_and_keeps_its_median(make_run, tmp_path, monkeypatch):
    clock = iter([0, 7, *range(100, 200)])
    monkeypatch.setattr("dcond.run.loop.time.perf_counter", lambda: float(next(clock)))
    run = make_run(max_steps=5, start_wall_s=2)  # 2 s for the first images
    run.condense()
    again = make_run(max_steps=5, start_wall_s=1)  # all steps are done
    again.condense(checkpoint.load(tmp_path))
    assert run.start_wall_s == 9
    assert again.start_wall_s == 9 + 1 + 1
    assert again.wall_s == run.wall_s == 5
    assert again.step_s_median == run.step_s_median == 1


def test_a_run_is_not_resumed_on_other_real_images(make_run, tmp_path, toy):
    make_run(max_steps=5).condense()
    moment = checkpoint.load(tmp_path)
    make_run().condense(replace(moment, data=None))  # of a version that did not save it
    other = make_run()
    other.real = replace(toy, train=replace(toy.train, images=255 - toy.train.images))
    with pytest.raises(
        CheckpointError,
        match=r"was started with other real images of toy; restore the data set, or start a new",
    ):
        other.condense(moment)


def test_layers_that_draw_for_themselves_draw_the_same_in_every_run_and_after_resuming(
    make_run, tmp_path, drift
):
    """As dropout does, which takes no generator; what else draws from PyTorch's global one sees
    nothing of it.
    """

    def noise(synthetic):
        with torch.no_grad():
            synthetic.images.add_(0.1 * torch.rand(synthetic.images.shape))

    def end(synthetic):
        noise(synthetic)
        raise KeyboardInterrupt

    def draws(steps=20, last=noise):
        return drift(at=dict.fromkeys(range(1, steps), noise) | {steps: last})

    whole, broken = make_run(draws()), make_run(draws(8, end), folder=tmp_path / "broken")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    whole.condense()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    with pytest.raises(KeyboardInterrupt):
        broken.condense()
    moment = checkpoint.load(tmp_path / "broken")
    resumed = make_run(
        drift(at=dict.fromkeys(range(1, 21), noise)),
        folder=tmp_path / "broken",
        after_step=moment.step,
    )
    resumed.condense(moment)
    assert torch.equal(resumed.synthetic.images, whole.synthetic.images)


def test_evaluation_while_condensing_follows_its_interval(make_run, drift):
    seen = []
    loop = LoopSettings(evaluate_every=4)
    make_run(
        drift(steps=12), loop=loop, evaluate=lambda synthetic, step: seen.append(step)
    ).condense()
    assert seen == [4, 8]
    make_run(drift(steps=12), evaluate=lambda synthetic, step: seen.append(step)).condense()
    assert seen == [4, 8]  # not asked


def test_an_evaluation_counts_towards_the_next_checkpoint(make_run, drift, monkeypatch, tmp_path):
    clock, saved = [0.0], []
    monkeypatch.setattr("dcond.run.loop.time.perf_counter", lambda: clock[0])
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint,
        "save",
        lambda content, folder: (saved.append(content.step), save(content, folder)),
    )

    def evaluate(synthetic, step):
        clock[0] += 100

    make_run(
        drift(steps=12),
        loop=LoopSettings(evaluate_every=4, checkpoint_every_s=60),
        evaluate=evaluate,
    ).condense()
    assert saved == [0, 4, 8, 12]


def test_an_interrupted_evaluation_is_repeated(make_run, tmp_path, drift):
    """Its step is kept after it: a checkpoint before it would lose its record for ever."""
    seen = []

    def cut(synthetic, step):
        seen.append(step)
        if len(seen) == 2:
            raise KeyboardInterrupt

    loop = LoopSettings(evaluate_every=4, checkpoint_every_s=0)
    with pytest.raises(KeyboardInterrupt):
        make_run(drift(steps=12), loop=loop, evaluate=cut).condense()
    moment = checkpoint.load(tmp_path)
    assert moment.step == 7
    make_run(drift(steps=12), loop=loop, evaluate=cut, after_step=7).condense(moment)
    assert seen == [4, 8, 8]


def test_pictures_are_taken_first_last_and_in_between(make_run, drift):
    class Album:
        def __init__(self):
            self.steps = []

        def image(self, name, grid, step):
            assert grid.shape[0] == 3
            self.steps.append(step)

        def scalars(self, values, step):
            pass

        def flush(self):
            pass

    for loop, steps in ((LoopSettings(images_every=3), [0, 3, 6, 9]), (LoopSettings(), [0, 9])):
        run = make_run(drift(steps=9), loop=loop)
        run.recorder = Album()
        run.condense()
        assert run.recorder.steps == steps


# --- what is not finite
# --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_loss_stops_the_run(value, make_run, tmp_path, drift):

    def spoiled(synthetic):
        synthetic.images[2, 0, 0, 0] = 7
        return torch.tensor(value)

    run = make_run(drift(at={6: spoiled}), loop=LoopSettings(record_every=3))
    with pytest.raises(DivergedError) as error:
        run.condense()
    assert str(error.value) == (
        f"loss is not finite at step 6 (loss {value}, lr 0.5; class 'b' has the largest pixel, 7). "
        "The last good checkpoint stays; try a smaller method.lr."
    )
    assert checkpoint.load(tmp_path).step == 0


def test_a_loss_between_two_records_is_not_missed_and_its_step_is_named(make_run, tmp_path, drift):
    """A later loss may be finite again, since the images are clipped to [0, 1]; the interval must
    change nothing.
    """
    run = make_run(
        drift(at={4: lambda synthetic: torch.tensor(math.inf)}), loop=LoopSettings(record_every=10)
    )
    with pytest.raises(DivergedError, match=r"loss is not finite at step 4 \(loss inf, lr 0\.5;"):
        run.condense()
    assert checkpoint.load(tmp_path).step == 0


def test_images_that_are_not_finite_stop_the_run_and_never_reach_a_checkpoint(
    make_run, tmp_path, drift
):
    def spoil(synthetic):
        synthetic.images[1, 0, 0, 0] = math.nan

    run = make_run(drift(at={8: spoil}), loop=LoopSettings(record_every=1, checkpoint_every_s=0))
    with pytest.raises(
        DivergedError,
        match=r"images are not finite at step 8 \(loss 0\.125, lr 0\.5; class 'a' has the largest pixel, nan\)",
    ):
        run.condense()
    moment = checkpoint.load(tmp_path)
    assert moment.step == 7
    assert torch.isfinite(moment.images).all()


def test_a_non_finite_value_stops_the_run_even_when_only_a_checkpoint_is_due(
    make_run, tmp_path, drift
):
    def spoil(synthetic):
        synthetic.images[0] = math.inf

    run = make_run(drift(at={3: spoil}), loop=LoopSettings(record_every=1000, checkpoint_every_s=0))
    with pytest.raises(DivergedError, match="step 3"):
        run.condense()
    assert checkpoint.load(tmp_path).step == 2


# --- resuming
# --------------------------------------------------------------------------------


def test_a_finished_run_is_resumed_into_nothing(make_run, tmp_path):
    first = make_run()
    first.condense()
    again = make_run(after_step=20)
    again.condense(checkpoint.load(tmp_path))
    assert again.method.taken == 0
    assert torch.equal(again.synthetic.images, first.synthetic.images)


def test_a_checkpoint_of_other_images_is_refused(make_run, tmp_path):
    make_run().condense()
    other = SyntheticSet(
        torch.rand(6, 1, 3, 3), torch.tensor([0, 0, 0, 1, 1, 1]), ("a", "b"), 3, (0.5,), (0.25,)
    )
    with pytest.raises(CheckpointError) as error:
        make_run(synthetic=other).condense(checkpoint.load(tmp_path))
    assert str(error.value) == (
        f"{tmp_path} was started with images (4, 1, 3, 3), the data now gives (6, 1, 3, 3); "
        "restore the data set, or start a new run."
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"record_every": 0},
            "LoopSettings.record_every=0 is out of range; allowed: whole numbers from 1.",
        ),
        (
            {"images_every": -1},
            "LoopSettings.images_every=-1 is out of range; allowed: whole numbers from 0.",
        ),
        (
            {"evaluate_every": -2},
            "LoopSettings.evaluate_every=-2 is out of range; allowed: whole numbers from 0.",
        ),
        (
            {"checkpoint_every_s": -0.5},
            "LoopSettings.checkpoint_every_s=-0.5 is out of range; allowed: numbers from 0.",
        ),
        (
            {"progress_every_s": -1},
            "LoopSettings.progress_every_s=-1 is out of range; allowed: numbers from 0.",
        ),
    ],
)
def test_invalid_intervals_are_refused(settings, message):
    with pytest.raises(ConfigError) as error:
        LoopSettings(**settings)
    assert str(error.value) == message


def test_a_run_without_steps_shows_no_progress(make_run, drift, monkeypatch):
    monkeypatch.setattr("dcond.run.loop.progress_display", None)
    run = make_run(drift(steps=0))
    run.condense()
    assert run.step == 0


def test_steps_that_clip_nearly_all_pixels_of_a_class_are_reported_once(make_run, drift, caplog):
    def clip(synthetic):
        synthetic.images[2:] = (synthetic.images[2:] > 0.3).float()

    make_run(drift(at={3: clip, 4: clip}), loop=LoopSettings(record_every=1)).condense()
    messages = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert messages == [
        "step 3: 100 % of the pixels of class 'b' are at 0 or 1, at first 0 %; "
        "method.lr=0.5 is probably too large"
    ]


def jumping(synthetic):
    """Move every other pixel of class 'b' from one end of [0, 1] to the other."""
    pixels = synthetic.images[2:].view(-1)
    pixels[::2] = (pixels[::2] < 0.5).float()


@pytest.mark.parametrize(("record_every", "found"), [(1, 99), (7, 105), (10, 100)])
def test_pixels_that_jump_between_0_and_1_stop_the_run(
    record_every, found, make_run, tmp_path, drift
):
    """The loss stays finite, since the images are clipped; pixels are back after two steps."""
    steps = dict.fromkeys(range(1, 120), jumping)
    run = make_run(drift(at=steps, steps=120), loop=LoopSettings(record_every=record_every))
    with pytest.raises(
        DivergedError,
        match=rf"^step {found}: 50 % of the pixels of class 'b' jump between 0 and 1 within 9 steps "
        r"\(loss [\d.e-]+, lr 0\.5\)\. The last good checkpoint stays; try a smaller method\.lr\.$",
    ):
        run.condense()
    assert checkpoint.load(tmp_path).step == 0


def to_corners(synthetic):
    """Move every pixel to the nearer end, where a good solution may lie."""
    synthetic.images.round_()


@pytest.mark.parametrize(
    "at",
    [
        {step: jumping for step in range(1, 120) if step != 95},  # not ten times in sequence
        dict.fromkeys(range(1, 120), to_corners),
    ],
)
def test_pixels_at_0_and_1_that_stay_do_not_stop_it(make_run, drift, at):
    run = make_run(drift(at=at, steps=120), loop=LoopSettings(record_every=1))
    run.condense()
    assert run.step == 120


def test_what_a_method_finishes_is_the_set(make_run, drift, monkeypatch):
    """After the last step, with the method's state: learned labels, for example."""

    def finish(self, synthetic, state):
        return replace(synthetic, learned_lr=float(self.taken))

    monkeypatch.setattr(drift, "finish", finish, raising=False)
    run = make_run(drift(steps=3))
    run.condense()
    assert run.synthetic.learned_lr == 3
