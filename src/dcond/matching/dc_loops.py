"""How often gradient matching updates the images under one network, and trains the network in between."""

from typing import NamedTuple


class Loops(NamedTuple):
    """K image updates per network; T epochs of training on the synthetic set between two of them."""

    steps_per_network: int
    inner_epochs: int


# The DC authors' settings by images per class.
TABLE = {
    1: Loops(1, 1),
    10: Loops(10, 50),
    20: Loops(20, 25),
    30: Loops(30, 20),
    40: Loops(40, 15),
    50: Loops(50, 10),
}


def published_loops(ipc: int) -> Loops:
    """Return the DC authors' (K, T) for this ipc, or a rule where they give none (their code stops there).

    The rule keeps the product: K = min(ipc, 50) and T = max(1, round(500 / K)).
    """
    steps_per_network = min(ipc, 50)
    return TABLE.get(ipc, Loops(steps_per_network, max(1, round(500 / steps_per_network))))


# Epochs after image step k = 0, 1, 2, 3, as DEGM's scripts ship them, now and with the paper's
# supplement.
ADAPTED = (50, 40, 30, 20)
ADAPTED_OLD = (100, 50, 50, 50)
MOST_EPOCHS = 50  # of the measured rule


def adapted_epochs(k: int, *, old: bool = False) -> int:
    """Return DEGM's shipped number of epochs after image step k: the table, 10 for k = 4 to 9, 5 from there on."""
    table = ADAPTED_OLD if old else ADAPTED
    return table[k] if k < len(table) else 10 if k < 10 else 5
