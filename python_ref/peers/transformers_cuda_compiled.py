"""GPT2LMHeadModel on an NVIDIA GPU under `torch.compile` over a static cache, mode `reduce-overhead`.

Stands for "PyTorch can be compiled" on a GPU: small operators fused by Inductor, and the whole step replayed
as a CUDA graph. Building takes a minute a shape and is off the clock; so fixed shapes only, and neither
`load` nor `start`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers import _cuda, _gpt2, torch_compile
from peers.base import refuse

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel

    from peers.base import Given, Job, Mark, Order

MODE = "reduce-overhead"


class Prefill(_gpt2.Prefill):
    """A prompt of one length through the compiled model; one lap."""

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Build for this shape: the third call is the first that only replays."""
        super().__init__(model, order, self._forward_once)
        batch, tokens = order.task["batch"], order.task["tokens"]
        self._cache = torch_compile.static_cache(model, batch, tokens)
        self._forward = torch_compile.compiled(model, self._cache, MODE)
        for _ in range(3):
            torch_compile.rewind(self._cache, 0)
            self._forward_once(model, _gpt2.to_tensor(order.need("ids"), batch))

    def reset(self) -> None:
        """Empty the cache."""
        super().reset()
        torch_compile.rewind(self._cache, 0)

    def _forward_once(self, model: GPT2LMHeadModel, ids: torch.Tensor) -> tuple[list[int], torch.Tensor]:
        import torch  # noqa: PLC0415

        torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad():
            next_ids, logits = self._forward(ids.to(model.device))
        return next_ids.flatten().tolist(), logits


class Decode(torch_compile.Decode):
    """Greedy compiled steps behind a context that is in the cache before the clock starts."""

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Fill the cache by the model as it is, then build the step; the third call only replays."""
        import torch  # noqa: PLC0415

        self._context, self._tokens, batch = (order.task[key] for key in ("context", "tokens", "batch"))
        ids = _gpt2.prompt(order, batch, self._context)
        _gpt2.fits(model, self._context + self._tokens)
        self._cache = torch_compile.static_cache(model, batch, self._context + self._tokens)
        with torch.no_grad():
            given = _gpt2.to_tensor(ids, batch).to(model.device)
            out = model(given, past_key_values=self._cache, logits_to_keep=1)
            self._first = out.logits[:, -1].argmax(-1, keepdim=True)
            self._forward = torch_compile.compiled(model, self._cache, MODE)
            for _ in range(3):
                torch_compile.rewind(self._cache, self._context)
                torch.compiler.cudagraph_mark_step_begin()
                self._forward(self._first)
        self._steps: list[list[int]] = []

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - the context is in the cache
        """One replay a token. The next replay writes over what the last gave, so the ids are copied."""
        import torch  # noqa: PLC0415

        next_ids = self._first
        with torch.no_grad():
            for _ in range(self._tokens):
                torch.compiler.cudagraph_mark_step_begin()
                next_ids, self.logits = self._forward(next_ids)
                next_ids = next_ids.clone()
                self._steps.append(next_ids.flatten().tolist())
                mark()


class Peer(_cuda.Cuda):
    """Compiled prefill and decode, on the GPU."""

    name = "transformers-cuda-compiled"
    settings = {  # noqa: RUF012 - never written to
        "cache": "static",
        "compile": f"inductor, mode {MODE}, fixed shapes",
        "device": "cuda",
        "activations": "bf16",
    }

    def prepare(self, order: Order) -> Job:
        """Build for the order's shape."""
        jobs = {"prefill": Prefill, "decode": Decode}
        if order.kind not in jobs:
            raise refuse(self.name, order.kind)
        self.set_up(order)
        return jobs[order.kind](self.model(order), order)
