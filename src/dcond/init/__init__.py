"""Initialisation of the synthetic images: noise, or selected real images, whole or packed."""

from dcond.init.initialisers import FromReal, Initialiser, Noise
from dcond.init.rules import Embedding, Herding, KCenter, KMeans, Random, Rule

__all__ = [
    "Embedding",
    "FromReal",
    "Herding",
    "Initialiser",
    "KCenter",
    "KMeans",
    "Noise",
    "Random",
    "Rule",
]
