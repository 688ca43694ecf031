"""Byte-level BPE in plain Python, the way GPT-2's own encoder did it: words cached once merged.

Stands for "Rust is 10-100x faster than pure Python": the reading of that claim in which Python
itself does the work. The one compiled part is the `regex` package that cuts text into words, as in
GPT-2's code. The cache lives as long as a job: the first run meets it empty, later ones warm (each
one empty where the order asks for a fresh tokenizer).
"""

from __future__ import annotations

from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING

import regex

from peers._tokens import Detokenize, Encode
from peers._vocabulary import CHARACTER_OF, SPLIT, read_ids, read_merges, to_bytes
from peers.base import Identity, Job, Order, Refused, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.base import Ids


class Bpe:
    """The tokenizer itself."""

    def __init__(self, folder: str, *, cached: bool) -> None:
        """Read vocab.json and merges.txt."""
        self.ids = read_ids(folder)
        self.tokens = {number: to_bytes(token) for token, number in self.ids.items()}
        self.ranks = {pair: rank for rank, pair in enumerate(read_merges(folder))}
        self.split = regex.compile(SPLIT).findall
        self.cache: dict[str, list[int]] | None = {} if cached else None

    def encode(self, text: str) -> list[int]:
        """Cut the text into words, merge each."""
        ids: list[int] = []
        cache = self.cache
        for word in self.split(text):
            if cache is None:
                ids.extend(self.merge(word))
                continue
            merged = cache.get(word)
            if merged is None:
                merged = cache[word] = self.merge(word)
            ids.extend(merged)
        return ids

    def merge(self, word: str) -> list[int]:
        """Join the pair of lowest rank, wherever it stands, until no pair has a rank."""
        parts = [CHARACTER_OF[byte] for byte in word.encode()]
        never = len(self.ranks)
        while len(parts) > 1:
            pairs = set(pairwise(parts))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, never))
            if best not in self.ranks:
                break
            left, right = best
            joined: list[str] = []
            at = 0
            while at < len(parts):
                if parts[at] == left and at + 1 < len(parts) and parts[at + 1] == right:
                    joined.append(left + right)
                    at += 2
                else:
                    joined.append(parts[at])
                    at += 1
            parts = joined
        return [self.ids[part] for part in parts]

    def decode(self, ids: Ids) -> str:
        """Join the tokens' bytes; what is no UTF-8 becomes U+FFFD."""
        return b"".join([self.tokens[number] for number in ids]).decode("utf-8", "replace")


class Peer:
    """One text after another; there is no batch call, and one thread is all Python would use."""

    distributions = ("regex",)
    name = "pure-bpe"
    cached = True

    def identity(self) -> Identity:
        """The interpreter is the engine; worker and harness stamp its version."""
        settings = {"word_cache": "unbounded" if self.cached else "none"}
        return Identity(self.name, {"regex": version("regex")}, settings=settings)

    def prepare(self, order: Order) -> Job:
        """Build the tables and start with an empty cache."""
        if order.kind not in ("encode", "detokenize"):
            raise refuse(self.name, order.kind)
        if order.threads > 1:
            raise Refused("plain Python encodes on one thread", "ask with threads = 1")
        folder = order.need("vocabulary")
        if order.kind == "detokenize":
            return Detokenize(Bpe(folder, cached=self.cached).decode)
        return Encode(order, lambda: self._call(folder))

    def _call(self, folder: str) -> Callable[[list[str]], list[Ids]]:
        bpe = Bpe(folder, cached=self.cached)
        return lambda texts: [bpe.encode(text) for text in texts]
