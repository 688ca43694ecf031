"""OpenAI's tiktoken: Rust with a thin Python face, no offsets, no normalisers.

Stands for the best a pip install gives on "tokenization in Rust beats Python": here Python's own
user gets Rust. The encoding is made from the local vocabulary: tiktoken would download its own.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import tiktoken

from peers._tokens import Detokenize, Encode
from peers._vocabulary import END_OF_TEXT, read_ids, to_bytes
from peers.base import Identity, Job, Order, as_list, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.base import Ids

#: GPT-2's split as tiktoken writes it for this vocabulary: possessive, so it never backtracks.
SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


class Peer:
    """`encode_ordinary` a text at a time, or `encode_ordinary_batch` with the order's threads."""

    distributions = ("tiktoken",)

    def identity(self) -> Identity:
        """One wheel decides."""
        return Identity("tiktoken", {"tiktoken": version("tiktoken")})

    def prepare(self, order: Order) -> Job:
        """Turn vocab.json into ranks: GPT-2 numbers tokens by rank of their merge."""
        if order.kind not in ("encode", "detokenize"):
            raise refuse("tiktoken", order.kind)
        ids = read_ids(order.need("vocabulary"))
        end = {END_OF_TEXT: ids.pop(END_OF_TEXT)} if END_OF_TEXT in ids else {}
        ranks = {to_bytes(token): rank for token, rank in ids.items()}

        def build() -> tiktoken.Encoding:
            return tiktoken.Encoding("gpt2", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens=end)

        if order.kind == "detokenize":
            encoding = build()
            return Detokenize(lambda ids: encoding.decode(as_list(ids)))
        if order.task.get("batch", False):
            return Encode(order, lambda: _batch_call(build(), order.threads))
        return Encode(order, lambda: _call(build()))


def _call(encoding: tiktoken.Encoding) -> Callable[[list[str]], list[Ids]]:
    return lambda texts: [encoding.encode_ordinary(text) for text in texts]


def _batch_call(encoding: tiktoken.Encoding, threads: int) -> Callable[[list[str]], list[Ids]]:
    return lambda texts: encoding.encode_ordinary_batch(texts, num_threads=threads)
