"""Condensation methods: a class per method, each in a file of its own."""

from dcond.methods.base import Method, State
from dcond.methods.datm import DATM
from dcond.methods.dm import DM
from dcond.methods.gradient_matching import GradientMatching
from dcond.methods.hmdc import HMDC
from dcond.methods.idc import IDC
from dcond.methods.idm import IDM
from dcond.methods.lgm import LGM
from dcond.methods.m3d import M3D
from dcond.methods.mtt import MTT
from dcond.methods.ncfm import NCFM
from dcond.methods.rded import RDED
from dcond.methods.selection import Selection

__all__ = [
    "DATM",
    "DM",
    "HMDC",
    "IDC",
    "IDM",
    "LGM",
    "M3D",
    "MTT",
    "NCFM",
    "RDED",
    "GradientMatching",
    "Method",
    "Selection",
    "State",
]
