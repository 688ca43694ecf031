"""Hugging Face's tokenizers, the wheel, called directly.

Stands for "Hugging Face tokenizers are fast because they are Rust": the same crate that
`rust/tokenizers` calls, behind its Python binding. A user takes lists of Python integers, so making
them (`.ids`) is inside the run.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from peers._tokens import Detokenize, Encode
from peers.base import Identity, Job, Order, as_list, refuse, set_rayon_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.base import Ids


class Peer:
    """`encode` a text at a time, or `encode_batch_fast` over all of them."""

    distributions = ("tokenizers",)

    def identity(self) -> Identity:
        """One wheel decides."""
        return Identity("tokenizers", {"tokenizers": version("tokenizers")})

    def prepare(self, order: Order) -> Job:
        """Read tokenizer.json."""
        if order.kind not in ("encode", "detokenize"):
            raise refuse("tokenizers", order.kind)
        set_rayon_threads(order.threads)
        file = str(Path(order.need("vocabulary"), "tokenizer.json"))
        if order.kind == "detokenize":
            tokenizer = Tokenizer.from_file(file)
            return Detokenize(lambda ids: tokenizer.decode(as_list(ids), skip_special_tokens=False))
        call = _batch_call if order.task.get("batch", False) else _call
        return Encode(order, lambda: call(Tokenizer.from_file(file)))


def _call(tokenizer: Tokenizer) -> Callable[[list[str]], list[Ids]]:
    return lambda texts: [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]


def _batch_call(tokenizer: Tokenizer) -> Callable[[list[str]], list[Ids]]:
    return lambda texts: [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
