"""GPT2LMHeadModel with `generate()`: what most people run.

Stands for Hugging Face Python in the claims on generation: the library's own loop with its logits
processors, stopping criteria and cache handling. A streamer marks each token as it reaches the host.
"""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from peers import _gpt2

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel

    from peers.base import Given, Mark, Order


class Laps:
    """A streamer: `generate` hands it the prompts first, then the ids of every step.

    A step of guesses brings several ids at once; of several texts, one of each.
    """

    def __init__(self, mark: Mark) -> None:
        """Keep the mark."""
        self._mark = mark
        self._texts = 0

    def put(self, value: torch.Tensor) -> None:
        """One step's ids are on the host."""
        if not self._texts:
            self._texts = value.shape[0]
            return
        for _ in range(value.numel() // self._texts):
            self._mark()

    def end(self) -> None:
        """Nothing is held back."""


def greedy(model: GPT2LMHeadModel, ids: torch.Tensor, tokens: int, **more: Any) -> Any:  # noqa: ANN401
    """Return `generate`'s output with the logits of each step; no end-of-text, so min = max."""
    return model.generate(
        ids.to(model.device),
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
    """Texts in, texts out: with or without the cache, greedy, sampled, searched or guessed ahead.

    Several texts are one batch, padded on the left. `generate` computes each of them in full, whatever
    they share, and hands the tokens of a beam search over at the end.
    """

    versatile = True

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Turn the task into `generate`'s own options."""
        super().__init__(model, order)
        self._options: dict[str, Any] = {"use_cache": self.cached, "do_sample": False}
        if self.sampling:
            self._options |= {name: self.sampling[name] for name in ("temperature", "top_k", "top_p")}
            self._options["do_sample"] = True
        if beams := order.task.get("beams"):
            self._options["num_beams"] = beams
        if lookup := order.task.get("lookup"):
            self._options["prompt_lookup_num_tokens"] = lookup
        self._streams = not beams

    def run(self, given: Given, mark: Mark) -> None:
        """Encode, generate, decode."""
        prompts = [self.tokenizer.encode(text, add_special_tokens=False).ids for text in given]
        batch = _gpt2.padded(prompts, self.model.device)
        options = self._options | ({"streamer": Laps(mark)} if self._streams else {})
        out = self.model.generate(**batch, max_new_tokens=self.tokens, **options)
        new = out[:, batch["inputs"].shape[1] :].tolist()
        if not self._streams:
            mark()
        self.ids = [token for ids in new for token in ids]
        self.text = "".join(self.tokenizer.decode(ids, skip_special_tokens=False) for ids in new)


class Serve(_gpt2.ModelJob):
    """Requests that queue, in batches of as many as there are slots; each ends with its longest text."""

    takes = "texts"

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Read the tokenizer."""
        self._model, self._tokenizer = model, _gpt2.tokenizer(order)
        self._slots, self._tokens = order.task["slots"], order.task["tokens"]
        _gpt2.room(model, self._tokenizer, order)

    def run(self, given: Given, mark: Mark) -> None:
        """One call a batch; each request keeps as many of its tokens as it asked for."""
        requests = zip(given, cycle(self._tokens), strict=False)
        while some := list(islice(requests, self._slots)):
            prompts = [self._tokenizer.encode(text, add_special_tokens=False).ids for text, _ in some]
            batch = _gpt2.padded(prompts, self._model.device)
            most = max(tokens for _, tokens in some)
            out = self._model.generate(**batch, max_new_tokens=most, do_sample=False)
            new = out[:, batch["inputs"].shape[1] :].tolist()
            for ids, (_, tokens) in zip(new, some, strict=True):
                self.ids += ids[:tokens]
                mark()


class Peer(_gpt2.Gpt2):
    """The library's loop."""

    name = "transformers"
    settings = {"loop": "generate"}  # noqa: RUF012 - never written to
    step, decode, generate, serve = staticmethod(prefill), Decode, Generate, Serve
