"""Metrics on disk and pictures."""

import json

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS

from dcond.run.recorder import Recorder, grid, save_png


def lines(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


def record(folder, steps, after_step=0):
    recorder = Recorder(folder, after_step=after_step, tensorboard=False)
    for step in steps:
        recorder.scalars({"condense/loss": step / 4, "x": -1.0}, step)
    recorder.close()


def sessions(seen):
    """Return how TensorBoard's hyper-parameter view reads the beginning and the end of a run."""
    tags = seen.summary_metadata
    return (
        metadata.parse_session_start_info_plugin_data(
            tags[metadata.SESSION_START_INFO_TAG].plugin_data.content
        ),
        metadata.parse_session_end_info_plugin_data(
            tags[metadata.SESSION_END_INFO_TAG].plugin_data.content
        ),
    )


def test_one_json_object_per_record(tmp_path):
    record(tmp_path, [1, 2])
    assert lines(tmp_path) == [
        '{"step": 1, "condense/loss": 0.25, "x": -1.0}',
        '{"step": 2, "condense/loss": 0.5, "x": -1.0}',
    ]


def test_flushed_records_are_on_disk_before_the_end(tmp_path):
    recorder = Recorder(tmp_path, tensorboard=False)
    recorder.scalars({"a": 1.0}, 1)
    recorder.flush()
    assert len(lines(tmp_path)) == 1
    recorder.close()


def test_a_resumed_run_drops_the_records_of_steps_it_takes_again(tmp_path):
    record(tmp_path, [1, 2, 3, 4])
    record(tmp_path, [3, 4, 5], after_step=2)
    assert [json.loads(line)["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("unfinished", ['{"step": 3, "condense/lo', '{"step": 3', "{", ""])
def test_an_unfinished_last_line_is_dropped(tmp_path, unfinished):
    record(tmp_path, [1, 2])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(unfinished)
    record(tmp_path, [3], after_step=2)
    assert [json.loads(line)["step"] for line in lines(tmp_path)] == [1, 2, 3]


def test_a_new_run_in_an_old_folder_starts_with_an_empty_file(tmp_path):
    record(tmp_path, [1, 2])
    record(tmp_path, [1])
    assert len(lines(tmp_path)) == 1


def test_tensorboard_sees_scalars_pictures_and_hyperparameters(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.scalars({"condense/loss": 0.5}, 3)
    recorder.image("synthetic", torch.rand(3, 8, 8), 3)
    recorder.settings({"method": "dm", "ipc": 1, "packed": True})
    recorder.outcome({"evaluate/average": 0.75}, 7, done=True)
    recorder.close()
    seen = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in seen.Scalars("condense/loss")] == [(3, 0.5)]
    assert [event.step for event in seen.Images("synthetic")] == [3]
    assert [(event.step, event.value) for event in seen.Scalars("evaluate/average")] == [(7, 0.75)]
    start, end = sessions(seen)
    assert {
        name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()
    } == {
        "method": "dm",
        "ipc": 1,
        "packed": True,
    }
    assert end.status == STATUS_SUCCESS
    assert (
        "_hparams_/experiment" not in seen.summary_metadata
    )  # it would fix the columns for all runs
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 3  # and two event files, in one folder: one run to TensorBoard


@pytest.mark.parametrize(
    ("after_step", "seen"), [(2, [1, 2, 3]), (0, [3])], ids=["resumed", "begun anew"]
)
def test_tensorboard_hides_what_is_recorded_again(tmp_path, after_step, seen):
    for start, steps in ((0, [1, 2, 3, 4]), (after_step, [3])):
        recorder = Recorder(tmp_path, after_step=start)
        recorder.image("synthetic", torch.rand(3, 8, 8), start)
        for step in steps:
            recorder.scalars({"condense/loss": float(start)}, step)
        recorder.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("condense/loss")] == seen
    assert [event.step for event in events.Images("synthetic")] == [0, 2][: 1 + bool(after_step)]


def test_a_run_that_failed_is_seen_as_failed(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.settings({"method": "dm"})
    recorder.outcome({}, 0, done=False)
    recorder.close()
    assert sessions(EventAccumulator(str(tmp_path)).Reload())[1].status == STATUS_FAILURE


def test_the_session_that_is_shown_is_that_of_the_last_attempt(tmp_path):
    """TensorBoard takes the first settings, and the first end, that it finds in a folder."""
    for start, rate, done in ((0, 100.0, False), (0, 1.0, False), (2, 1.0, True)):
        recorder = Recorder(tmp_path, after_step=start)
        recorder.settings({"method.lr": rate})
        recorder.outcome({}, 0, done=done)
        recorder.close()
    start, end = sessions(EventAccumulator(str(tmp_path)).Reload())
    assert start.hparams["method.lr"].number_value == 1.0
    assert end.status == STATUS_SUCCESS


def test_the_plain_file_is_enough(tmp_path):
    recorder = Recorder(tmp_path, tensorboard=False)
    recorder.image("synthetic", torch.rand(3, 8, 8), 3)
    recorder.settings({"method": "dm"})
    recorder.outcome({"evaluate/average": 0.75}, 3, done=True)
    recorder.flush()
    recorder.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_row_of_the_grid_is_a_class():
    levels = torch.linspace(0, 1, 6)  # 2 classes of 3
    picture = grid(levels.view(6, 1, 1, 1).expand(6, 1, 4, 4), ipc=3)
    assert picture.shape == (3, 2 * 5 + 1, 3 * 5 + 1)
    centres = picture[0, 3::5, 3::5]
    torch.testing.assert_close(centres, levels.view(2, 3))


def test_the_grid_is_clipped_and_cut():
    picture = grid(torch.full((40, 3, 2, 2), 7.0), ipc=20, limit=5)
    assert picture.shape == (3, 2 * 3 + 1, 5 * 3 + 1)
    assert picture.max() == 1
    assert grid(torch.zeros(300, 1, 2, 2), ipc=1).shape == (
        3,
        30 * 3 + 1,
        10 * 3 + 1,
    )  # ten classes a row


@pytest.mark.parametrize(("side", "written"), [(8, 320), (100, 300), (400, 400)])
def test_a_png_is_enlarged_by_a_whole_factor_and_keeps_its_values(tmp_path, side, written):
    picture = torch.randint(256, (3, side, side), generator=torch.Generator().manual_seed(0)) / 255
    save_png(picture, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert image.size == (written, written)
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(
            written, written, 3
        )
    small = pixels[:: written // side, :: written // side].permute(2, 0, 1)
    assert torch.equal(small, (picture * 255).round().to(torch.uint8))


def test_a_picture_of_large_images_shows_fewer_of_them():
    images = torch.zeros(200, 1, 1, 1).expand(200, 1, 400, 400)
    assert grid(images, ipc=1).shape[1:] == (16 * 401 + 1, 10 * 401 + 1)
    assert grid(images, ipc=20).shape[1:] == (10 * 401 + 1, 16 * 401 + 1)
