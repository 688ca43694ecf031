"""The jobs every tokenizer has: texts to ids, ids to text. A peer hands in the calls it is about."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from peers.base import Answer, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.base import Given, Ids, Mark, Order


class Encode:
    """All texts to ids. `make` builds a tokenizer and gives its call for the ids of every text."""

    takes = "texts"

    def __init__(
        self,
        order: Order,
        make: Callable[[], Callable[[list[str]], list[Ids]]],
        flatten: Callable[[list[Ids]], Ids] = lambda ids: list(chain.from_iterable(ids)),
    ) -> None:
        """Build the tokenizer; `flatten` makes one sequence of a run's ids."""
        self._fresh = order.task.get("fresh", False)
        self._make = make
        self._flatten = flatten
        self._encode = make()
        self._ids: list[Ids] = []

    def reset(self) -> None:
        """Let go of the last run's ids, so that no run pays for freeing them.

        A fresh run meets a tokenizer that has encoded nothing yet; the old one is dropped first.
        """
        self._ids = []
        if self._fresh:
            del self._encode
            self._encode = self._make()

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - encoding has no laps
        """Encode."""
        self._ids = self._encode(given)

    def answer(self) -> Answer:
        """All ids, text after text."""
        return Answer(ids=self._flatten(self._ids))

    def receipt(self) -> Receipt:
        """One unit an id."""
        return Receipt(units=sum(map(len, self._ids)))


class Detokenize:
    """Ids to one text."""

    takes = "ids"

    def __init__(self, decode: Callable[[Ids], str]) -> None:
        """Keep the call."""
        self._decode = decode
        self._text = ""
        self._units = 0

    def reset(self) -> None:
        """Let go of the last run's text."""
        self._text = ""

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - no laps
        """Decode."""
        self._text = self._decode(given)
        self._units = len(given)

    def answer(self) -> Answer:
        """The text."""
        return Answer(text=self._text)

    def receipt(self) -> Receipt:
        """One unit an id read."""
        return Receipt(units=self._units)
