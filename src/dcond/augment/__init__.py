"""Differentiable augmentation and CutMix: drawn from a generator, applied by pure functions."""

from dcond.augment.diffaug import DiffAug, Draw, Step

__all__ = ["DiffAug", "Draw", "Step"]
