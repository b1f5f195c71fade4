"""GSAM: gradients that also reduce the surrogate gap, the sharpness of the minimum.

Source: Zhuang et al., Surrogate gap minimization improves sharpness-aware training, arXiv
2203.08065, algorithm 1; as DATM and FTD train their experts, with the perturbation of ASAM (Kwon et
al., arXiv 2102.11600).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

EPS = 1e-12  # added to norms, as in the public code


def perturbation(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, *, adaptive: bool
) -> list[Tensor]:
    """Return the ascent step e at weights w with gradients g.

    e = ρ · g / ‖g‖, or, if ``adaptive``, ρ · w² g / ‖w g‖, which scales with the weights. Norms are
    over all parameters.
    """
    scales = [w.abs() if adaptive else torch.ones_like(w) for w in weights]
    scaled = [s * g for s, g in zip(scales, gradients, strict=True)]
    length = rho / (_dot(scaled, scaled).sqrt() + EPS)
    return [length * s * x for s, x in zip(scales, scaled, strict=True)]


def surrogate_gradient(
    gradients: Sequence[Tensor], perturbed: Sequence[Tensor], alpha: float
) -> list[Tensor]:
    """Return p - α · (g - ⟨g, p⟩ / ⟨p, p⟩ · p), which descends the loss at w + e and its gap to w.

    Args:
        gradients: g, at w.
        perturbed: p, at w + e.
        alpha: α; 0 gives SAM.
    """
    share = _dot(gradients, perturbed) / (_dot(perturbed, perturbed) + EPS)
    return [p - alpha * (g - share * p) for g, p in zip(gradients, perturbed, strict=True)]


class GSAM(torch.optim.SGD):
    """SGD on :func:`surrogate_gradient`; a step evaluates the loss and its gradient twice.

    The statistics of batch norm see both passes, where the public code leaves out the second.

    Args:
        groups: parameters, as for any optimiser.
        rho: ρ, length of the perturbation.
        alpha: α, weight of the gap.
        adaptive: see :func:`perturbation`.
        sgd: other arguments of SGD.
    """

    def __init__(
        self, groups: Iterable[Any], *, rho: float, alpha: float, adaptive: bool, **sgd: Any
    ):
        super().__init__(groups, **sgd)
        self.rho, self.alpha, self.adaptive = rho, alpha, adaptive

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Do one step and return the loss at w; ``closure`` computes it and sets all gradients."""
        repeat = torch.enable_grad()(closure)
        loss = repeat()
        every = [w for group in self.param_groups for w in group["params"]]
        weights = [w for w in every if w.grad is not None]
        before = [w.clone() for w in weights]
        gradients = [w.grad.clone() for w in weights]
        for w, e in zip(
            weights,
            perturbation(before, gradients, self.rho, adaptive=self.adaptive),
            strict=True,
        ):
            w.add_(e)
        repeat()
        found = surrogate_gradient(gradients, [w.grad for w in weights], self.alpha)
        for w, start, gradient in zip(weights, before, found, strict=True):
            w.copy_(start)
            w.grad = gradient
        super().step()
        return loss


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()
