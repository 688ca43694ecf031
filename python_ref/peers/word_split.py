r"""The plain `\w+` split with `re`: words, no ids, not reversible.

Stands for "Rust's regex-based tokenizer is extremely fast and lightweight": the article's code
counts words, which is another task than BPE, so it is measured beside it and never against it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from peers.base import Answer, Identity, Job, Order, Receipt, refuse

if TYPE_CHECKING:
    from peers.base import Given, Mark

WORDS = re.compile(r"\w+")


class Split:
    """`findall` over each text; a user takes the lists of words."""

    takes = "texts"

    def __init__(self) -> None:
        """Nothing found yet."""
        self._words: list[list[str]] = []

    def reset(self) -> None:
        """Let go of the last run's words."""
        self._words = []

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - no laps
        """Split."""
        self._words = [WORDS.findall(text) for text in given]

    def answer(self) -> Answer:
        """The number of words of each text."""
        return Answer(ids=[len(words) for words in self._words])

    def receipt(self) -> Receipt:
        """One unit a word."""
        return Receipt(units=sum(map(len, self._words)), unit="words")


class Peer:
    """The standard library alone."""

    distributions = ()

    def identity(self) -> Identity:
        """The interpreter's own `re`."""
        return Identity("re-words", {})

    def prepare(self, order: Order) -> Job:
        """Nothing to load."""
        if order.kind != "word_split":
            raise refuse("re", order.kind)
        return Split()
