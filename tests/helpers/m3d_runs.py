"""Sizes for the tests of M3D: a few classes, every batch in one pass."""

from dcond.matching.engine import Engine

CLASSES, PER_CLASS = 4, 6
WHOLE = Engine(precision="float32", compile=False, chunk=1000)
