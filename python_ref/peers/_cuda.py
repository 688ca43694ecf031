"""What the peers on an NVIDIA GPU share: bfloat16 throughout, and the refusal where there is no GPU.

An id counts as known once it is in host memory, so every step that is timed ends in a copy from the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers import _gpt2
from peers.base import Refused

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from peers.base import Order


def check_gpu() -> None:
    """Refuse where torch has no GPU to run on."""
    import torch  # noqa: PLC0415

    if not torch.cuda.is_available():
        raise Refused(
            "torch.cuda.is_available() is false: no NVIDIA GPU, no driver, or a torch without CUDA",
            "run it on a machine with a GPU, by scripts/on-gpu",
        )


def load(folder: str) -> GPT2LMHeadModel:
    """Load in bfloat16 onto the GPU, and wait until it is there."""
    import torch  # noqa: PLC0415

    model = _gpt2.load(folder, "bfloat16").to("cuda")
    torch.cuda.synchronize()
    return model


class Cuda(_gpt2.Gpt2):
    """Base of these peers."""

    precision = "bf16"
    load = staticmethod(load)

    def set_up(self, order: Order) -> None:
        """Settle threads; without a GPU, sit out."""
        super().set_up(order)
        check_gpu()
