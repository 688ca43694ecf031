"""The far side of a crossing: functions that give back what they are handed.

Stands for "via PyO3, Rust code feels native in Python" and "crossing languages costs little": the
worker in Rust calls these three; the worker in Python calls them as well, which is the price of a
plain Python call that the crossing is compared with.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from peers.base import Answer, Identity, Job, Order, Receipt, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from peers.base import Given, Ids, Mark


def empty() -> None:
    """Take nothing, give nothing."""


def take_list(ids: list[int]) -> list[int]:
    """Give the list back."""
    return ids


def take_array(ids: np.ndarray) -> np.ndarray:
    """Give the array back."""
    return ids


class Calls:
    """`repeat` calls from Python to Python. `cross` makes one; it gives back what crossed."""

    takes = ""

    def __init__(self, cross: Callable[[], Ids | None], repeat: int) -> None:
        """Keep the call."""
        self._cross = cross
        self._repeat = repeat
        self._last: Ids | None = None

    def reset(self) -> None:
        """Let go of what crossed last."""
        self._last = None

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - no laps
        """Cross."""
        cross, last = self._cross, None
        for _ in range(self._repeat):
            last = cross()
        self._last = last

    def answer(self) -> Answer:
        """What crossed; an empty call crosses no ids."""
        return Answer(ids=[] if self._last is None else self._last)

    def receipt(self) -> Receipt:
        """One unit a call."""
        return Receipt(units=self._repeat, unit="calls")


class Peer:
    """Python calling Python."""

    distributions = ("numpy",)

    def identity(self) -> Identity:
        """Arrays are numpy's."""
        return Identity("boundary", {"numpy": version("numpy")})

    def prepare(self, order: Order) -> Job:
        """Make what will cross: the order's ids, or 0, 1, 2, … where it names none."""
        if order.kind != "boundary":
            raise refuse("boundary", order.kind)
        import numpy as np  # noqa: PLC0415 - the empty call needs none

        elements, repeat = order.task["elements"], order.task["repeat"]
        array = np.arange(elements, dtype=np.uint32) if order.ids is None else np.array(order.ids, np.uint32)
        if len(array) != elements:
            raise ValueError(f"{elements} elements are to cross, files.ids holds {len(array)}")
        ids = array.tolist()
        # `partial` calls without a Python frame of its own: what is timed is one plain call.
        match order.task["crossing"]:
            case "empty":
                return Calls(empty, repeat)
            case "list":
                return Calls(partial(take_list, ids), repeat)
            case "copy":
                return Calls(lambda: take_array(array.copy()), repeat)
            case "shared":
                return Calls(partial(take_array, array), repeat)
            case other:
                raise ValueError(f"no way of crossing is called {other!r}")
