"""Runs killed or stopped at random times and resumed end in the bytes of uninterrupted ones."""

import signal

import pytest

from dcond.paths import conf_dir

pytestmark = pytest.mark.usefixtures("terminal")

METHODS = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
# Settings with which a step takes milliseconds.
SMALL = {
    "dc": ("method.batch_real=8", "max_steps=20"),
    "degm": ("method.batch_real=8", "max_steps=10"),
    "dm": ("method.batch_real=8", "max_steps=150"),
    "dsa": ("method.batch_real=8", "max_steps=20"),
    "hmdc": (
        *(
            "pool@learners=convnet_vit_small",
            "learners.networks.ConvNet.width=8",
            "method.batch_real=8",
        ),
        *("method.inner_steps=2", "method.batch_train=16", "max_steps=8"),
    ),
    "idc": (
        "method.batch_real=8",
        "method.train_images=32",
        "method.batch_train=32",
        "max_steps=20",
    ),
    "m3d": ("method.batch_real=8", "max_steps=150"),
}
# -signum: the signal came before the run began and ended Python; 128 + signum: dcond handled it.
POLITE = {
    signum: {128 + signum, -signum} for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
}
WHOLE_RUNS = ("random", "dm", "idc", "hmdc")  # no steps; no network in training; one; two
CHEAP_EVALUATION = ("pool=convnet", "pool.networks.ConvNet.width=8")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_killed(method, chain, tally):
    arguments = (f"method={method}", *SMALL.get(method, ()), "evaluate=false")
    struck, problems = chain(signal.SIGKILL, *arguments, in_loop=True, allowed={-signal.SIGKILL, 0})
    tally("SIGKILL, resume", method, struck, problems)


@pytest.mark.slow
@pytest.mark.parametrize("method", WHOLE_RUNS)
@pytest.mark.parametrize("signum", [signal.SIGKILL, *POLITE], ids=lambda signum: signum.name)
def test_stopped_anywhere_from_the_imports_to_the_evaluation(signum, method, chain, tally):
    arguments = (f"method={method}", *SMALL.get(method, ()), *CHEAP_EVALUATION)
    allowed = POLITE.get(signum, {-signum}) | {0}
    struck, problems = chain(signum, *arguments, in_loop=False, allowed=allowed)
    tally(f"{signum.name}, resume", f"{method} with its evaluation", struck, problems)
