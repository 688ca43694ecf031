"""The tokenizer as most people call it: `tokenizer(text)` of transformers.

Stands for "the fastest part of Hugging Face's tokenizers is already Rust": the same Rust below as
`tokenizers`, plus the wrapper that makes dictionaries, attention masks and batch objects.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING

from peers._tokens import Detokenize, Encode
from peers.base import Identity, Job, Order, as_list, refuse, set_rayon_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import GPT2Tokenizer

    from peers.base import Ids


class Peer:
    """GPT2Tokenizer from the local vocabulary folder; one call a text, or one for all."""

    distributions = ("transformers",)

    def identity(self) -> Identity:
        """Wrapper and engine below it."""
        versions = {name: version(name) for name in ("transformers", "tokenizers")}
        return Identity("transformers-tokenizer", versions)

    def prepare(self, order: Order) -> Job:
        """Import transformers and read the vocabulary."""
        if order.kind not in ("encode", "detokenize"):
            raise refuse("transformers' tokenizer", order.kind)
        set_rayon_threads(order.threads)
        folder = order.need("vocabulary")
        os.environ["HF_HUB_OFFLINE"] = "1"
        if order.kind == "detokenize":
            tokenizer = _load(folder)
            return Detokenize(
                lambda ids: tokenizer.decode(
                    as_list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
                )
            )
        call = _batch_call if order.task.get("batch", False) else _call
        return Encode(order, lambda: call(_load(folder)))


def _load(folder: str) -> GPT2Tokenizer:
    from transformers import GPT2Tokenizer  # noqa: PLC0415 - only here, it takes seconds

    tokenizer = GPT2Tokenizer.from_pretrained(folder, local_files_only=True)
    # The corpus is longer than the model's context; nothing is fed to a model here.
    tokenizer.model_max_length = 1 << 40
    return tokenizer


def _call(tokenizer: GPT2Tokenizer) -> Callable[[list[str]], list[Ids]]:
    return lambda texts: [tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]


def _batch_call(tokenizer: GPT2Tokenizer) -> Callable[[list[str]], list[Ids]]:
    # An empty list is the one input this call cannot take.
    return lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
