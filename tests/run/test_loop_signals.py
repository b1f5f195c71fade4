"""The loop under signals: the step is finished and kept, a second one cuts at once."""

import math
import os
import signal

import pytest
import torch

from dcond.errors import DivergedError
from dcond.run import checkpoint
from dcond.run.loop import LoopSettings
from dcond.run.signals import CAUGHT, Interrupted, handle_signals

pytestmark = pytest.mark.usefixtures("terminal")


def kill(signum):
    def now(*_):
        os.kill(os.getpid(), signum)

    return now


@pytest.mark.parametrize("signum", CAUGHT)
def test_a_signal_during_a_step_keeps_that_step_and_the_run_goes_on_later(
    signum, make_run, tmp_path, drift
):
    unbroken = make_run(folder=tmp_path / "unbroken")
    unbroken.condense()
    folder = tmp_path / "broken"
    with handle_signals() as stop:
        run = make_run(drift(at={7: kill(signum)}), folder=folder, stop=stop)
        with pytest.raises(Interrupted) as error:
            run.condense()
    assert error.value.signum == signum
    assert str(error.value) == f"interrupted by {signum.name}"
    moment = checkpoint.load(folder)
    assert moment.step == run.step == 7
    again = make_run(folder=folder, after_step=7)
    again.condense(moment)
    assert again.method.taken == 13
    assert torch.equal(again.synthetic.images, unbroken.synthetic.images)
    assert again.wall_s > moment.wall_s


def test_a_signal_during_an_evaluation_on_the_way_keeps_the_step_before_it(make_run, tmp_path):
    with handle_signals() as stop:
        run = make_run(
            loop=LoopSettings(evaluate_every=4), evaluate=kill(signal.SIGTERM), stop=stop
        )
        with pytest.raises(Interrupted):
            run.condense()
    assert checkpoint.load(tmp_path).step == 4


def test_a_signal_never_makes_a_checkpoint_of_what_is_not_finite(make_run, tmp_path, drift):
    def spoil(synthetic):
        synthetic.images[0] = math.nan
        kill(signal.SIGTERM)()

    with handle_signals() as stop:
        run = make_run(drift(at={3: spoil}), stop=stop)
        with pytest.raises(DivergedError, match="images are not finite at step 3"):
            run.condense()
    assert checkpoint.load(tmp_path).step == 0


def test_a_second_signal_interrupts_at_once(make_run, tmp_path, drift):
    def twice(synthetic):
        kill(signal.SIGINT)()
        kill(signal.SIGTERM)()
        raise AssertionError("not reached")

    with handle_signals() as stop:
        run = make_run(drift(at={3: twice}), stop=stop)
        with pytest.raises(Interrupted) as error:
            run.condense()
    assert error.value.signum == signal.SIGTERM
    assert checkpoint.load(tmp_path).step == 0
