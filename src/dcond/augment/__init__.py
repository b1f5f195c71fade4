"""Differentiable augmentation and CutMix: parameters drawn from a passed generator, applied by pure functions."""

from dcond.augment.diffaug import DiffAug, Draw, Step

__all__ = ["DiffAug", "Draw", "Step"]
