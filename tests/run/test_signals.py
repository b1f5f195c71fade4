"""Signals: held back where something must not be cut, at once elsewhere, and put back afterwards."""

import os
import pickle
import signal
import threading

import pytest

from dcond.distributed import Ranks, use_group
from dcond.errors import CheckpointError, LostError
from dcond.run.signals import CAUGHT, Interrupted, handle_signals

pytestmark = pytest.mark.usefixtures("terminal")


def requested(stop):
    """Return whether a signal is deferred."""
    return stop._pending is not None


@pytest.mark.parametrize("signum", CAUGHT)
def test_outside_a_deferred_block_a_signal_raises_at_once(signum):
    with handle_signals(), pytest.raises(Interrupted) as error:
        os.kill(os.getpid(), signum)
    assert error.value.signum == signum


def test_inside_one_it_waits_for_the_check():
    with handle_signals() as stop:
        with stop.deferred():
            assert not requested(stop)
            os.kill(os.getpid(), signal.SIGTERM)
            assert requested(stop)
        with pytest.raises(Interrupted):
            stop.check()
        assert not requested(stop)
        stop.check()  # said once


@pytest.mark.parametrize("block", ["deferred", "as_interrupted"])
def test_a_signal_does_not_take_the_place_of_an_error(block):
    """torchrun sends one to every process once one has ended, which the others notice too."""

    def lose_the_others(stop):
        try:
            with getattr(stop, block)():
                raise LostError("gone")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with handle_signals() as stop, pytest.raises(LostError, match="gone"):
        lose_the_others(stop)


def test_processes_that_end_together_are_not_killed_while_they_report():
    before = {signum: signal.getsignal(signum) for signum in CAUGHT}
    try:
        with use_group(Ranks(0, 2)), pytest.raises(LostError), handle_signals():
            raise LostError("gone")
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def test_the_handlers_before_are_put_back():
    before = [signal.getsignal(signum) for signum in CAUGHT]
    with handle_signals():
        assert all(signal.getsignal(signum) not in before for signum in CAUGHT)
    assert [signal.getsignal(signum) for signum in CAUGHT] == before


def test_repeated_sighup_counts_once():
    """The kernel tells a terminal's processes, and a shell its jobs."""
    with handle_signals() as stop:
        with stop.deferred():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(Interrupted):
            stop.check()
    os.kill(os.getpid(), signal.SIGHUP)  # while the run says that it was interrupted


def test_under_nohup_the_end_of_a_terminal_is_none_of_the_run():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_signals() as stop, stop.deferred():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not requested(stop)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interruption_is_no_ordinary_exception():
    assert not issubclass(
        Interrupted, Exception
    )  # `except Exception` in a library must not swallow it


def cut(error, signum=signal.SIGHUP):
    """As an extension module whose import is cut: what interrupted it is gone, its own error stands
    there.
    """
    with handle_signals() as stop, stop.as_interrupted():
        try:
            os.kill(os.getpid(), signum)
        except Interrupted:
            raise error from None


@pytest.mark.parametrize(
    "error", [ImportError("initialization failed"), SystemError("error without exception set")]
)
def test_a_library_that_says_something_else_of_an_interruption_does_not_hide_it(error):
    with pytest.raises(Interrupted) as found:
        cut(error)
    assert (found.value.signum, found.value.__cause__) == (signal.SIGHUP, error)


def test_an_error_while_an_interrupted_run_is_saved_is_reported():
    with pytest.raises(CheckpointError):
        cut(CheckpointError("the disk is full"))


def test_an_error_that_no_signal_caused_stays_what_it_is():
    with pytest.raises(ImportError), handle_signals() as stop, stop.as_interrupted():
        raise ImportError


def test_in_another_thread_nothing_is_caught_and_nothing_breaks():
    found = []

    def work():
        with handle_signals() as stop, stop.deferred():
            found.append(requested(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def warned(seen):
    with handle_signals() as stop, stop.deferred():
        os.kill(os.getpid(), signal.SIGUSR2)
        assert requested(stop)
        assert seen == []
        stop.check()


def test_a_warning_stops_the_run_first_and_is_handed_on_then():
    """As submitit does: its handler of SIGUSR2 puts the job back into the queue and exits."""
    seen = []

    def requeue(signum, frame):
        seen.append(signum)
        raise SystemExit(144)

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        with pytest.raises(SystemExit) as end:
            warned(seen)
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert (seen, end.value.code) == ([signal.SIGUSR2], 144)


def test_a_launchers_own_handler_of_sigterm_stays():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: seen.append(signum))
    try:
        with handle_signals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            stop.check()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_nobody_listens_to_warnings_by_default():
    before = signal.getsignal(signal.SIGUSR1)
    with handle_signals():
        assert signal.getsignal(signal.SIGUSR1) == before


def test_an_interruption_passes_between_processes():
    assert pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM))).signum == signal.SIGTERM
