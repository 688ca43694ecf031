"""rust_native's tokenizer as a Python user has it: a wheel over `native/bpe`, numpy arrays out.

Stands for "PyO3 costs little": the same code as `native/bpe`, so what it takes longer is the binding.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import rust_native_bpe

from peers._tokens import Detokenize, Encode
from peers.base import Identity, Job, Order, refuse


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
        tokenizer = rust_native_bpe.Tokenizer.from_file(order.need("vocabulary"))
        if order.kind == "detokenize":
            return Detokenize(tokenizer.decode)
        if order.task.get("batch", False):
            threads = order.threads
            return Encode(
                lambda texts: [tokenizer.encode_batch(texts, special="allow", threads=threads)[0]],
                lambda ids: ids[0],
            )
        return Encode(
            lambda texts: [tokenizer.encode(text, special="allow") for text in texts],
            lambda ids: np.concatenate(ids) if ids else np.empty(0, np.uint32),
        )
