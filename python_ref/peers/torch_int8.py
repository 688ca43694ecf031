"""GPT2LMHeadModel in eight bits: torch's own dynamic quantisation, with a `past_key_values` loop.

Stands for the strongest PyTorch on a processor: weights as signed bytes packed once, activations turned
into bytes at every layer, VNNI instructions in between. `quantize_dynamic` knows `Linear` and GPT-2 is
made of `Conv1D`, the same map with its weight transposed, so those are rewritten first, as its users do.
The head is a `Linear` and is quantised like the rest; the embedding it was tied to stays f32.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from peers import _gpt2, transformers_loop
from peers.base import Refused

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel
    from transformers.pytorch_utils import Conv1D

    from peers.base import Order

#: fbgemm or oneDNN, whichever PyTorch finds faster on this processor.
ENGINE = "x86"


def as_linear(layer: Conv1D) -> torch.nn.Linear:
    """Return x W + b, W being [in, out], as `Linear` keeps it: [out, in]."""
    import torch  # noqa: PLC0415

    linear = torch.nn.Linear(layer.nx, layer.nf, device="meta")
    linear.weight = torch.nn.Parameter(layer.weight.detach().t().contiguous(), requires_grad=False)
    linear.bias = torch.nn.Parameter(layer.bias.detach(), requires_grad=False)
    return linear


def quantise(model: GPT2LMHeadModel) -> GPT2LMHeadModel:
    """Turn every matrix of the model into bytes, in place, one layer after another."""
    import torch  # noqa: PLC0415
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv1D):
                setattr(module, name, as_linear(child))
    with warnings.catch_warnings():
        # It is said to move to another package one day; here it is the documented way.
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(
            model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True
        )


def load(folder: str) -> GPT2LMHeadModel:
    """Load in f32, then quantise: the checkpoint holds no bytes."""
    return quantise(_gpt2.load(folder))


class Peer(_gpt2.Gpt2):
    """The loop of transformers-loop over quantised layers."""

    name = "torch-int8"
    precision = "int8"
    settings = {  # noqa: RUF012 - never written to
        "loop": "past_key_values",
        "quantisation": "dynamic, per tensor, head included",
        "quantised_engine": ENGINE,
    }
    load = staticmethod(load)
    step = staticmethod(transformers_loop.prefill)
    decode, generate = transformers_loop.Decode, transformers_loop.Generate

    def set_up(self, order: Order) -> None:
        """Choose the kernels for quantised layers; refuse where PyTorch was built without them."""
        super().set_up(order)
        import torch  # noqa: PLC0415

        known = torch.backends.quantized.supported_engines
        if ENGINE not in known:
            raise Refused(
                f"this PyTorch has no {ENGINE} kernels for int8, only {', '.join(known)}",
                "run it on an x86-64 processor",
            )
        torch.backends.quantized.engine = ENGINE
