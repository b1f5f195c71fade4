"""What tests of matching share."""

import pytest


@pytest.fixture
def narrow_vgg(monkeypatch):
    monkeypatch.setattr("dcond.models.classic.VGG_WIDTHS", ((8,), (8,), (8, 8), (8, 8), (8, 8)))
