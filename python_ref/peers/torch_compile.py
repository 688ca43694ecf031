"""GPT2LMHeadModel under `torch.compile`, over a cache of fixed size.

Stands for "PyTorch can be compiled": no interpreter between the operators of a step, small operators
fused into C++ loops that are built for this processor, keys and values written in place. As its
documentation shows it: a static cache, one function for a step with the argmax inside, mode `default`
(`reduce-overhead` is about CUDA graphs). Building takes up to a minute a shape and is off the clock; it is
why this peer offers fixed shapes only, and neither `load` nor `start`.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from peers import _gpt2
from peers.base import Answer, Receipt, Refused, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import GPT2LMHeadModel, StaticCache

    from peers.base import Given, Job, Mark, Order

    #: Ids (B x T) to the likeliest next ids (B x 1) and the last position's logits (B x V).
    Forward = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def compiled(model: GPT2LMHeadModel, cache: StaticCache, mode: str = "default") -> Forward:
    """Return one step as a function to be built at its first call."""
    import torch  # noqa: PLC0415

    def step(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        return logits.argmax(-1, keepdim=True), logits

    # What an earlier job built goes; one shape a job: a step built for any shape would be a slower one.
    torch.compiler.reset()
    return torch.compile(step, fullgraph=True, dynamic=False, mode=mode)


def static_cache(model: GPT2LMHeadModel, batch: int, positions: int) -> StaticCache:
    """Return a cache of zeros with room for so many positions."""
    from transformers import StaticCache  # noqa: PLC0415

    config = model.config
    cache = StaticCache(config=config, max_cache_len=positions)
    heads, width = config.n_head, config.n_embd // config.n_head
    cache.early_initialization(batch, heads, width, model.dtype, model.device)
    return cache


def rewind(cache: StaticCache, positions: int) -> None:
    """Let the cache hold so many positions; what lies behind them is masked, then written over."""
    for layer in cache.layers:
        layer.cumulative_length.fill_(positions)


class Prefill(_gpt2.Prefill):
    """A prompt of one length through the compiled model; one lap."""

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Build for this shape, and run once."""
        import torch  # noqa: PLC0415

        super().__init__(model, order, self._forward_once)
        batch, tokens = order.task["batch"], order.task["tokens"]
        self._cache = static_cache(model, batch, tokens)
        self._forward = compiled(model, self._cache)
        with torch.no_grad():
            self._forward(_gpt2.to_tensor(order.need("ids"), batch))

    def reset(self) -> None:
        """Empty the cache."""
        super().reset()
        rewind(self._cache, 0)

    def _forward_once(
        self, model: GPT2LMHeadModel, ids: torch.Tensor
    ) -> tuple[list[int], torch.Tensor]:  # the model is inside the compiled step
        del model
        import torch  # noqa: PLC0415

        with torch.no_grad():
            next_ids, logits = self._forward(ids)
        return next_ids.flatten().tolist(), logits


class Decode(_gpt2.ModelJob):
    """Greedy compiled steps behind a context that is in the cache before the clock starts."""

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Fill the cache by the model as it is, then build the step and run it twice."""
        import torch  # noqa: PLC0415

        self._context, self._tokens, batch = (order.task[key] for key in ("context", "tokens", "batch"))
        ids = _gpt2.prompt(order, batch, self._context)
        _gpt2.fits(model, self._context + self._tokens)
        self._cache = static_cache(model, batch, self._context + self._tokens)
        with torch.no_grad():
            out = model(_gpt2.to_tensor(ids, batch), past_key_values=self._cache, logits_to_keep=1)
            self._first = out.logits[:, -1].argmax(-1, keepdim=True)
            self._forward = compiled(model, self._cache)
            # The first call builds; the second would build again if anything but numbers had changed.
            for _ in range(2):
                rewind(self._cache, self._context)
                self._forward(self._first)
        self._steps: list[list[int]] = []

    def reset(self) -> None:
        """Put the cache back to the context."""
        self._steps, self.logits = [], None
        rewind(self._cache, self._context)

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - the context is in the cache
        """One compiled call a token."""
        import torch  # noqa: PLC0415

        next_ids = self._first
        with torch.no_grad():
            for _ in range(self._tokens):
                next_ids, self.logits = self._forward(next_ids)
                self._steps.append(next_ids.flatten().tolist())
                mark()

    def answer(self) -> Answer:
        """Sequence after sequence."""
        return Answer(ids=[token for sequence in zip(*self._steps, strict=True) for token in sequence])

    def receipt(self) -> Receipt:
        """One unit an id made."""
        return Receipt(units=sum(map(len, self._steps)), logits=self._host_logits())


def check_compiler() -> None:
    """Refuse where the generated C++ could not be built."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise Refused(
            f"torch.compile builds C++ while it runs, and there is no `{compiler}`",
            "install g++ (Debian: apt-get install g++), or name a compiler in CXX",
        )
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").is_file():
        raise Refused(
            f"torch.compile builds a Python module while it runs, and {headers} has no Python.h",
            "install Python's headers (Debian: apt-get install python3-dev)",
        )


def check_vectors() -> None:
    """Fail where the loops would be built for one number at a time while PyTorch's own use vectors.

    Inductor finds out by starting `sys.executable`; where that is no Python that imports this torch, it
    falls back without a word, and a contestant made slow is a bug.
    """
    import torch  # noqa: PLC0415
    from torch._inductor import cpu_vec_isa  # noqa: PLC0415

    capability = torch.backends.cpu.get_cpu_capability()
    if capability in {"AVX2", "AVX512"} and not cpu_vec_isa.pick_vec_isa():
        raise RuntimeError(f"inductor finds no {capability} here; does {sys.executable!r} import torch?")


class Peer(_gpt2.Gpt2):
    """Compiled prefill and decode."""

    name = "torch-compile"
    settings = {"cache": "static", "compile": "inductor, mode default, fixed shapes"}  # noqa: RUF012

    def prepare(self, order: Order) -> Job:
        """Build for the order's shape."""
        jobs = {"prefill": Prefill, "decode": Decode}
        if order.kind not in jobs:
            raise refuse(self.name, order.kind)
        check_compiler()
        self.set_up(order)
        return jobs[order.kind](self.model(order), order)

    def set_up(self, order: Order) -> None:
        """Settle threads; generated loops carry their number of threads."""
        super().set_up(order)
        import torch._inductor.config as inductor  # noqa: PLC0415

        inductor.cpp.threads = order.threads
        # One process builds: nobody's workers stay behind to share the processor with what is timed.
        inductor.compile_threads = 1
        check_vectors()
