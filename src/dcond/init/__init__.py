"""First synthetic images: noise, selected real images, whole or packed, or a saved set."""

from dcond.init.initialisers import FromFile, FromReal, Initialiser, Noise
from dcond.init.rules import Embedding, Herding, KCenter, KMeans, Random, Rule

__all__ = [
    "Embedding",
    "FromFile",
    "FromReal",
    "Herding",
    "Initialiser",
    "KCenter",
    "KMeans",
    "Noise",
    "Random",
    "Rule",
]
