"""The jobs every tokenizer has: texts to ids, ids to text. A peer hands in the calls it is about."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from peers.base import Answer, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.base import Given, Ids, Mark


class Encode:
    """All texts to ids; `encode` makes the ids of every text, as its library gives them to a user."""

    takes = "texts"

    def __init__(
        self,
        encode: Callable[[list[str]], list[Ids]],
        flatten: Callable[[list[Ids]], Ids] = lambda ids: list(chain.from_iterable(ids)),
    ) -> None:
        """Keep the call, and what makes one flat sequence of its result."""
        self._encode = encode
        self._flatten = flatten
        self._ids: list[Ids] = []

    def reset(self) -> None:
        """Let go of the last run's ids, so that no run pays for freeing them."""
        self._ids = []

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
