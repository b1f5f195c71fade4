"""How often gradient matching updates the images under one network, and trains the network in between."""

from typing import NamedTuple


class Loops(NamedTuple):
    """K image updates per network; T epochs of training on the synthetic set between two of them."""

    outer: int
    inner_epochs: int


# The DC authors' settings by images per class.
TABLE = {1: Loops(1, 1), 10: Loops(10, 50), 20: Loops(20, 25), 30: Loops(30, 20), 40: Loops(40, 15), 50: Loops(50, 10)}


def published_loops(ipc: int) -> Loops:
    """Return the DC authors' (K, T) for this ipc, or a rule where they give none (their code stops there).

    The rule keeps the product: K = min(ipc, 50) and T = max(1, round(500 / K)).
    """
    outer = min(ipc, 50)
    return TABLE.get(ipc, Loops(outer, max(1, round(500 / outer))))
