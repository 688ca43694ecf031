"""GPT2LMHeadModel in bfloat16, in the loop of transformers-loop.

Stands for "half the memory, twice the speed": `dtype=torch.bfloat16` is what most people write for it. Not
the weights alone are of 16 bits then, the activations and the cache are as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers import _gpt2, transformers_loop

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


def load(folder: str) -> GPT2LMHeadModel:
    """Load with every parameter in bfloat16."""
    return _gpt2.load(folder, "bfloat16")


class Peer(_gpt2.Gpt2):
    """The loop of transformers-loop, all of it in bfloat16."""

    name = "transformers-bf16"
    precision = "bf16"
    settings = {"loop": "past_key_values", "activations": "bf16"}  # noqa: RUF012 - never written to
    load = staticmethod(load)
    step = staticmethod(transformers_loop.prefill)
    decode, generate = transformers_loop.Decode, transformers_loop.Generate
