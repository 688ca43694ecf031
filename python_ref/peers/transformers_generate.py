"""GPT2LMHeadModel with `generate()`: what most people run.

Stands for Hugging Face Python in the claims on generation: the library's own loop with its logits
processors, stopping criteria and cache handling. A streamer marks each token as it reaches the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peers import _gpt2

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel

    from peers.base import Given, Mark, Order


class Laps:
    """A streamer: `generate` hands it the prompt first, then the ids of every step."""

    def __init__(self, mark: Mark) -> None:
        """Keep the mark."""
        self._mark = mark
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:  # noqa: ARG002 - the moment counts, not the ids
        """One step's ids are on the host."""
        if self._prompt_seen:
            self._mark()
        self._prompt_seen = True

    def end(self) -> None:
        """Nothing is held back."""


def greedy(model: GPT2LMHeadModel, ids: torch.Tensor, tokens: int, **more: Any) -> Any:  # noqa: ANN401
    """Return `generate`'s output with the logits of each step; no end-of-text, so min = max."""
    return model.generate(
        ids,
        max_new_tokens=tokens,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        **more,
    )


def prefill(model: GPT2LMHeadModel, ids: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """One new token."""
    out = greedy(model, ids, 1)
    return out.sequences[:, -1].tolist(), out.logits[-1]


class Decode(_gpt2.ModelJob):
    """`generate` continues from a cache that holds the context."""

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Fill the cache by generating the id that the context predicts."""
        context, self._tokens, batch = (order.task[key] for key in ("context", "tokens", "batch"))
        ids = _gpt2.prompt(order, batch, context)
        _gpt2.fits(model, context + self._tokens)
        self._model = model
        out = greedy(model, _gpt2.to_tensor(ids, batch), 1)
        self._inputs, self._cache = out.sequences, out.past_key_values
        # A step concatenates into new tensors and leaves these as they are.
        self._filled = [(layer.keys, layer.values) for layer in self._cache.layers]

    def reset(self) -> None:
        """Put the cache back to the context."""
        super().reset()
        for layer, (keys, values) in zip(self._cache.layers, self._filled, strict=True):
            layer.keys, layer.values = keys, values

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - the context is in the cache
        """One call for all tokens; its set-up is part of the first lap, as it is for its users."""
        out = greedy(
            self._model, self._inputs, self._tokens, past_key_values=self._cache, streamer=Laps(mark)
        )
        self.ids = out.sequences[:, -self._tokens :].flatten().tolist()
        self.logits = out.logits[-1]


class Generate(_gpt2.TextJob):
    """Text in, text out, with or without the cache, greedy or sampled."""

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Turn the task into `generate`'s own options."""
        super().__init__(model, order)
        self._options: dict[str, Any] = {"use_cache": self.cached, "do_sample": False}
        if self.sampling:
            self._options |= {name: self.sampling[name] for name in ("temperature", "top_k", "top_p")}
            self._options["do_sample"] = True

    def run(self, given: Given, mark: Mark) -> None:
        """Encode, generate, decode."""
        import torch  # noqa: PLC0415

        prompt = torch.tensor([self.tokenizer.encode(given[0], add_special_tokens=False).ids])
        out = self.model.generate(prompt, max_new_tokens=self.tokens, streamer=Laps(mark), **self._options)
        self.ids = out[0, prompt.shape[1] :].tolist()
        self.text = self.tokenizer.decode(self.ids, skip_special_tokens=False)


class Peer(_gpt2.Gpt2):
    """The library's loop."""

    name = "transformers"
    settings = {"loop": "generate"}  # noqa: RUF012 - never written to
    step, decode, generate = staticmethod(prefill), Decode, Generate
