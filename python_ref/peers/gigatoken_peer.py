"""gigatoken: a tokenizer wheel that gives arrays instead of lists.

Stands for "how fast can tokenization be for a Python user at all": Rust inside, a cache of words,
numpy arrays out, so that no Python integer is ever made.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import gigatoken
import numpy as np

from peers._tokens import Detokenize, Encode
from peers.base import Identity, Job, Order, refuse, set_rayon_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.base import Ids


class Peer:
    """`encode` a text at a time (numpy), or `encode_batch` (one awkward array of all texts)."""

    distributions = ("gigatoken",)

    def identity(self) -> Identity:
        """One wheel decides."""
        return Identity("gigatoken", {"gigatoken": version("gigatoken")})

    def prepare(self, order: Order) -> Job:
        """Read tokenizer.json."""
        if order.kind not in ("encode", "detokenize"):
            raise refuse("gigatoken", order.kind)
        set_rayon_threads(order.threads)
        file = Path(order.need("vocabulary"), "tokenizer.json")
        if order.kind == "detokenize":
            tokenizer = gigatoken.Tokenizer(file)
            return Detokenize(
                lambda ids: tokenizer.decode(np.asarray(ids, np.uint32)).decode("utf-8", "replace")
            )
        if order.task.get("batch", False):
            import awkward  # noqa: PLC0415 - only the batch call makes these arrays

            return Encode(
                order,
                lambda: _batch_call(gigatoken.Tokenizer(file), parallel=order.threads > 1),
                lambda ids: awkward.to_numpy(awkward.flatten(ids)),
            )
        return Encode(
            order,
            lambda: _call(gigatoken.Tokenizer(file)),
            lambda ids: np.concatenate(ids) if ids else np.empty(0, np.uint32),
        )


def _call(tokenizer: gigatoken.Tokenizer) -> Callable[[list[str]], list[Ids]]:
    return lambda texts: [tokenizer.encode(text) for text in texts]


def _batch_call(tokenizer: gigatoken.Tokenizer, *, parallel: bool) -> Callable[[list[str]], list[Ids]]:
    return lambda texts: tokenizer.encode_batch(texts, parallel=parallel)
