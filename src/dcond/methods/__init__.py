"""Condensation methods: a class per method, each in a file of its own."""

from dcond.methods.base import Method, State
from dcond.methods.dm import DM
from dcond.methods.gradient_matching import GradientMatching
from dcond.methods.hmdc import HMDC
from dcond.methods.idc import IDC
from dcond.methods.m3d import M3D
from dcond.methods.selection import Selection

__all__ = ["DM", "HMDC", "IDC", "M3D", "GradientMatching", "Method", "Selection", "State"]
