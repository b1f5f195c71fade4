"""DC's loops: image updates per network, and training epochs of the network between them."""

from typing import NamedTuple


class Loops(NamedTuple):
    """K image updates per network; T epochs of training on the synthetic set between updates."""

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
    """Return the DC authors' (K, T) for this ipc, or an extrapolation where they give none.

    K = min(ipc, 50) and T = round(500 / K): the product of their values at ipc 10, 20 and 50. Their
    code stops for such an ipc.
    """
    steps = min(ipc, 50)
    return TABLE.get(ipc, Loops(steps, round(500 / steps)))


# Epochs after image steps 0 to 3 in DEGM's scripts: the current ones, and those with the paper's
# supplement.
ADAPTED = (50, 40, 30, 20)
ADAPTED_OLD = (100, 50, 50, 50)
MAX_EPOCHS = 50  # of inner="measured"


def adapted_epochs(k: int, *, old: bool = False) -> int:
    """Return the epochs after image step k in DEGM's scripts: a table, then 10, for k >= 10 5."""
    table = ADAPTED_OLD if old else ADAPTED
    return table[k] if k < len(table) else 10 if k < 10 else 5
