"""GPT2LMHeadModel's step on an NVIDIA GPU, captured by hand as a CUDA graph and replayed.

Stands for what is left when Python is out of the step: the very kernels of eager PyTorch, their launches
recorded once. The likeliest ids are fed back on the device, and steps are queued ahead of the host, which
waits for the ids of each in turn. Between this peer and transformers-cuda lies what Python and launching
cost; between this peer and a faster engine lie kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers import _cuda, _gpt2, torch_compile, transformers_loop
from peers.base import Answer, Receipt, refuse

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel

    from peers.base import Given, Job, Mark, Order

#: Runs before the capture: libraries choose their kernels and allocate.
WARM = 3


class Decode(_gpt2.ModelJob):
    """Greedy replayed steps behind a context that is in the cache before the clock starts."""

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Fill the cache, warm up beside the main stream as the documentation says, capture."""
        import torch  # noqa: PLC0415

        self._context, self._tokens, batch = (order.task[key] for key in ("context", "tokens", "batch"))
        ids = _gpt2.prompt(order, batch, self._context)
        _gpt2.fits(model, self._context + self._tokens)
        self._cache = torch_compile.static_cache(model, batch, self._context + self._tokens)
        # One column a step, in page-locked memory: the device writes them by itself.
        self._host = torch.empty((self._tokens, batch), dtype=torch.int64, pin_memory=True)
        self._arrived = [torch.cuda.Event() for _ in range(self._tokens)]
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad():
            given = _gpt2.to_tensor(ids, batch).to(model.device)
            out = model(given, past_key_values=self._cache, logits_to_keep=1)
            self._first = out.logits[:, -1].argmax(-1, keepdim=True)
            self._ids = self._first.clone()

            def step() -> torch.Tensor:
                out = model(self._ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
                logits = out.logits[:, -1]
                self._ids.copy_(logits.argmax(-1, keepdim=True))
                return logits

            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(WARM):
                    torch_compile.rewind(self._cache, self._context)
                    step()
            torch.cuda.current_stream().wait_stream(beside)
            torch_compile.rewind(self._cache, self._context)
            with torch.cuda.graph(self._graph):
                self.logits = step()
        self._last = self.logits

    def reset(self) -> None:
        """Put cache and ids back to the context."""
        self.logits = None
        torch_compile.rewind(self._cache, self._context)
        self._ids.copy_(self._first)

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - the context is in the cache
        """Queue every step and the copy of its ids, then wait for them one by one."""
        for at in range(self._tokens):
            self._graph.replay()
            self._host[at].copy_(self._ids.flatten(), non_blocking=True)
            self._arrived[at].record()
        for event in self._arrived:
            event.synchronize()
            mark()
        self.logits = self._last

    def answer(self) -> Answer:
        """Sequence after sequence."""
        return Answer(ids=self._host.T.flatten().tolist())

    def receipt(self) -> Receipt:
        """One unit an id made."""
        return Receipt(units=self._host.numel(), logits=self._host_logits())


def prefill(model: GPT2LMHeadModel, ids: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """Return what eager steps begin with: the next ids and the logits they come from."""
    return transformers_loop.prefill(model, ids.to(model.device))


class Peer(_cuda.Cuda):
    """Replayed decode; prompts are read eagerly, off the clock of what it is asked for."""

    name = "torch-cuda-graph"
    settings = {  # noqa: RUF012 - never written to
        "cache": "static",
        "loop": "torch.cuda.CUDAGraph, ids fed on the device",
        "device": "cuda",
        "activations": "bf16",
    }

    def prepare(self, order: Order) -> Job:
        """Capture for the order's shape."""
        if order.kind not in {"prefill", "decode"}:
            raise refuse(self.name, order.kind)
        self.set_up(order)
        if order.kind == "prefill":
            return _gpt2.Prefill(self.model(order), order, prefill)
        return Decode(self.model(order), order)
