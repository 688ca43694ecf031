"""rust_native's tokenizer as a Python user has it: a wheel over `native/bpe`, numpy arrays out.

Stands for "PyO3 costs little": the same code as `native/bpe`, so what it takes longer is the binding.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import rust_native_bpe

from peers._tokens import Detokenize, Encode
from peers.base import Identity, Job, Order, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.base import Ids


class Peer:
    """`encode` a text at a time, or `encode_batch` (one array of all texts) with the order's threads."""

    distributions = ("rust-native-bpe",)

    def identity(self) -> Identity:
        """One wheel decides, and the instruction set it chose."""
        versions = {"rust-native-bpe": version("rust-native-bpe")}
        return Identity("rust-native-bpe", versions, settings={"isa": rust_native_bpe.isa})

    def prepare(self, order: Order) -> Job:
        """Read the vocabulary folder."""
        if order.kind not in ("encode", "detokenize"):
            raise refuse("rust-native-bpe", order.kind)
        folder = order.need("vocabulary")
        if order.kind == "detokenize":
            return Detokenize(rust_native_bpe.Tokenizer.from_file(folder).decode)
        if order.task.get("batch", False):
            return Encode(
                order,
                lambda: _batch_call(rust_native_bpe.Tokenizer.from_file(folder), order.threads),
                lambda ids: ids[0],
            )
        return Encode(
            order,
            lambda: _call(rust_native_bpe.Tokenizer.from_file(folder)),
            lambda ids: np.concatenate(ids) if ids else np.empty(0, np.uint32),
        )


def _call(tokenizer: rust_native_bpe.Tokenizer) -> Callable[[list[str]], list[Ids]]:
    return lambda texts: [tokenizer.encode(text, special="allow") for text in texts]


def _batch_call(tokenizer: rust_native_bpe.Tokenizer, threads: int) -> Callable[[list[str]], list[Ids]]:
    return lambda texts: [tokenizer.encode_batch(texts, special="allow", threads=threads)[0]]
