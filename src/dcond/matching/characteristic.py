"""NCFM's distance of characteristic functions, and its sampler of frequencies.

Source: NCFM (CVPR 2025); code: github gszfwsb/NCFM, NCFM/NCFM.py and NCFM/SampleNet.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcond.matching.mmd import full_precision

SCALE = 300.0  # of the loss, in the public code
FLOOR = 1e-12  # of the phase term, so that the root has a finite slope
SHARED = 16  # frequencies that one scale of the sampler serves, as in the public code


def characteristic_distance(
    syn: Tensor, real: Tensor, frequencies: Tensor, amplitude: float = 0.5
) -> Tensor:
    """Return the distance of the characteristic functions of every class, (k,).

    φ(t) = mean_i exp(i ⟨t, f_i⟩) for features f_i of length 1, and with φ_r, φ_s of the real and
    the synthetic ones

        L = 300 · mean_t √(α a² + (1 - α) p),   a = |φ_r| - |φ_s|,   p = |φ_r - φ_s|² - a²

    a is a difference of amplitudes, p one of phases, at least 1e-12. With α = ½ the root is
    |φ_r - φ_s| / √2. The public code computes p = 2 (|φ_r| |φ_s| - Re φ_r Re φ_s - Im φ_r Im φ_s),
    the same number with larger rounding errors.

    Args:
        syn: (k, a, d), synthetic features; normalised to length 1 here.
        real: (k, b, d), real features; normalised and detached here.
        frequencies: t, (F, d).
        amplitude: α in [0, 1).

    Returns:
        (k,), in float32 or higher even under autocast.

    Example:
        >>> characteristic_distance(syn, real, torch.randn(1024, syn.shape[2])).sum().backward()
    """
    functions = characteristic_functions(real.detach(), frequencies)
    return distance_to_functions(syn, functions, frequencies, amplitude)


def distance_to_functions(
    syn: Tensor, theirs: Tensor, frequencies: Tensor, amplitude: float = 0.5
) -> Tensor:
    """Return :func:`characteristic_distance` to real features of these functions, (k, 2, F)."""
    with torch.autocast(syn.device.type, enabled=False):
        ours = characteristic_functions(syn, frequencies)
        gap = (theirs - ours).square().sum(1)  # |φ_r - φ_s|²
        a = torch.linalg.vector_norm(theirs, dim=1) - torch.linalg.vector_norm(ours, dim=1)
        p = (gap - a.square()).clamp_min(FLOOR)
        root: Tensor = (amplitude * a.square() + (1 - amplitude) * p).sqrt()
        return SCALE * root.mean(1)


def characteristic_functions(features: Tensor, frequencies: Tensor) -> Tensor:
    """Return real and imaginary parts of φ(t), (k, 2, F), of features (k, n, d) of any length."""
    found = []
    with torch.autocast(features.device.type, enabled=False):
        features = full_precision(features)
        for own in features:  # one class at a time bounds the memory
            phases = F.normalize(own, dim=1) @ frequencies.to(own.dtype).mT  # (n, F)
            found.append(torch.stack([phases.cos().mean(0), phases.sin().mean(0)]))
    return torch.stack(found)


class FrequencySampler(nn.Module):
    """ψ: frequencies from a scale mixture of normals, t = exp(tanh(ψ(z))) · ε.

    ψ is an MLP with two hidden layers. It is trained to increase the distance, so that the images
    are matched where they differ most. Its scales are in (1/e, e), and near 1 before training.

    Differs from the public code, whose ``SampleNet`` returns tanh(ψ(z)) itself as the frequencies:
    4 different ones, each repeated 16 times, in (-1, 1).

    Args:
        width: d, the number of features.
    """

    def __init__(self, width: int):
        super().__init__()
        hidden = [layer for _ in range(2) for layer in (nn.Linear(width, width), nn.LeakyReLU(0.2))]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, width), nn.Tanh())

    def forward(self, noise: Tensor, latent: Tensor) -> Tensor:
        """Return frequencies (F, d) of standard normal ε (F, d) and z (⌈F / 16⌉, d).

        Each z scales 16 of them.
        """
        scales: Tensor = self.layers(latent).exp()
        return noise * scales.repeat_interleave(SHARED, 0)[: len(noise)]
