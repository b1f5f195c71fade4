"""LGM: what is drawn does not depend on how many images pass at a time."""

import pytest
import torch

from dcond.methods import lgm as module


@pytest.mark.parametrize("arguments", [(), ("augment=dsa",), ("method.noise=false",)])
def test_images_are_changed_alike_at_any_number_per_pass(arguments, condense, toy, monkeypatch):
    once = condense("lgm", toy, *arguments, steps=5)
    for chunk in (16, 5):
        monkeypatch.setattr(module, "CHUNK", chunk)
        parts = condense("lgm", toy, *arguments, steps=5)
        assert parts.losses == pytest.approx(once.losses, rel=1e-4)
        torch.testing.assert_close(
            parts.synthetic.images, once.synthetic.images, rtol=1e-3, atol=1e-4
        )


def test_all_of_a_batch_is_drawn_before_a_real_image_is_read(condense, toy, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 5)
    order, draw, read = [], module.LGM._draw, type(toy).normalised
    monkeypatch.setattr(module.LGM, "_draw", lambda *args: order.append("draw") or draw(*args))
    monkeypatch.setattr(type(toy), "normalised", lambda *args: order.append("read") or read(*args))
    condense("lgm", toy, steps=1)
    assert order == ["draw", *["read"] * 5, "draw"]  # 24 real images, then the synthetic ones


@pytest.mark.parametrize(("steps", "warned"), [(9, True), (10, False)])
def test_a_run_too_short_for_all_levels_is_a_warning(steps, warned, condense, toy, caplog):
    """Four levels at 8 px, three steps apart."""
    condense("lgm", toy, steps=steps)
    assert ("the images will be coarse; lower method.grow_every" in caplog.text) is warned
