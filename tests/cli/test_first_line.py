"""A command that takes seconds to import PyTorch shows first that it has begun."""

import logging
import sys

import pytest

from dcond.cli import condense, hydra_app


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_sees_that_pytorch_is_loaded(loaded, terminal, caplog, monkeypatch):
    monkeypatch.setattr(condense, "run_job", lambda cfg: None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    if not loaded:
        monkeypatch.delitem(sys.modules, "torch", raising=False)
    with caplog.at_level(logging.INFO):
        hydra_app._import_and_run("condense", {})
    assert ("loading PyTorch" in caplog.messages) == (terminal and not loaded)
