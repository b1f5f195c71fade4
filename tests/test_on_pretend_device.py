"""The tests on a pretend device, in a process of their own: see tests/conftest.py."""

import os
import subprocess
import sys
from pathlib import Path


def test_methods_and_evaluation_run_on_a_pretend_device(request):
    here = Path(__file__).parent
    files = sorted(str(file) for file in here.glob("*/test_pretend_device.py"))
    assert len(files) == 2
    slow = ["--runslow"] if request.config.getoption("--runslow") else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *slow, *files],
        env=os.environ | {"DCOND_PRETEND_DEVICE": "1"},
        cwd=here.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
