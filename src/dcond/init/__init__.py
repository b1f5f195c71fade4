"""Where the first synthetic images come from: noise, or chosen real images, whole or packed."""

from dcond.init.choose import Embedding, Herding, KCenter, KMeans, Random, Rule
from dcond.init.start import FromReal, Initialiser, Noise

__all__ = ["Embedding", "FromReal", "Herding", "Initialiser", "KCenter", "KMeans", "Noise", "Random", "Rule"]
