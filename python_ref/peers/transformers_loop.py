"""GPT2LMHeadModel in a loop of one's own: forward, argmax, `past_key_values`, again.

Stands for "Python's overhead is often minimised": PyTorch with the least Python above it, and the
reference whose ids and logits other engines are held to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peers import _gpt2
from peers.base import Answer, Order, Receipt

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel

    from peers.base import Given, Mark


def step(model: GPT2LMHeadModel, ids: torch.Tensor, cache: Any = None) -> Any:  # noqa: ANN401
    """Forward with a cache; logits of the last position only, which is what generation needs."""
    return model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)


def prefill(model: GPT2LMHeadModel, ids: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """Return the next id of each sequence and the last position's logits (B x V)."""
    import torch  # noqa: PLC0415

    with torch.inference_mode():
        logits = step(model, ids).logits[:, -1]
        return logits.argmax(-1).tolist(), logits


class Decode(_gpt2.ModelJob):
    """Greedy steps behind a context that is in the cache before the clock starts."""

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Fill the cache; the id that the context predicts is the first step's input."""
        import torch  # noqa: PLC0415

        context, self._tokens, batch = (order.task[key] for key in ("context", "tokens", "batch"))
        ids = _gpt2.prompt(order, batch, context)
        _gpt2.fits(model, context + self._tokens)
        self._model = model
        with torch.inference_mode():
            out = step(model, _gpt2.to_tensor(ids, batch))
            self._first = out.logits[:, -1].argmax(-1, keepdim=True)
        self._cache = out.past_key_values
        # A step concatenates into new tensors and leaves these as they are.
        self._filled = [(layer.keys, layer.values) for layer in self._cache.layers]
        self._steps: list[list[int]] = []

    def reset(self) -> None:
        """Put the cache back to the context."""
        self._steps, self.logits = [], None
        for layer, (keys, values) in zip(self._cache.layers, self._filled, strict=True):
            layer.keys, layer.values = keys, values

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - the context is in the cache
        """One forward a token."""
        import torch  # noqa: PLC0415

        next_ids = self._first
        with torch.inference_mode():
            for _ in range(self._tokens):
                self.logits = step(self._model, next_ids, self._cache).logits[:, -1]
                next_ids = self.logits.argmax(-1, keepdim=True)
                self._steps.append(next_ids.flatten().tolist())
                mark()

    def answer(self) -> Answer:
        """Sequence after sequence."""
        return Answer(ids=[token for sequence in zip(*self._steps, strict=True) for token in sequence])

    def receipt(self) -> Receipt:
        """One unit an id made."""
        return Receipt(units=sum(map(len, self._steps)), logits=self._host_logits())


class Generate(_gpt2.TextJob):
    """Text in, text out, with or without the cache, greedy or sampled."""

    def run(self, given: Given, mark: Mark) -> None:
        """Encode, one forward a token, decode."""
        import torch  # noqa: PLC0415

        ids = self.tokenizer.encode(given[0], add_special_tokens=False).ids
        inputs, cache = torch.tensor([ids]), None
        with torch.inference_mode():
            for _ in range(self.tokens):
                if self.cached:
                    out = step(self.model, inputs, cache)
                    cache = out.past_key_values
                else:
                    out = self.model(inputs, use_cache=False, logits_to_keep=1)
                next_id = self._choose(out.logits[:, -1])
                self.ids.append(next_id.item())
                mark()
                inputs = next_id if self.cached else torch.cat([inputs, next_id], dim=-1)
        self.text = self.tokenizer.decode(self.ids, skip_special_tokens=False)

    def _choose(self, logits: torch.Tensor) -> torch.Tensor:
        """B x V logits to B x 1 ids: argmax, or a draw after temperature, top-k and top-p."""
        if not self.sampling:
            return logits.argmax(-1, keepdim=True)
        logits = logits / self.sampling["temperature"]
        if self.sampling["top_k"]:
            least = logits.topk(min(self.sampling["top_k"], logits.shape[-1])).values[..., -1:]
            logits = logits.masked_fill(logits < least, -float("inf"))
        probabilities = logits.softmax(-1)
        if self.sampling["top_p"] < 1:
            likeliest, order = probabilities.sort(descending=True)
            # Drop what comes after the mass has reached p; the likeliest always stays.
            likeliest[likeliest.cumsum(-1) - likeliest >= self.sampling["top_p"]] = 0
            probabilities = probabilities.scatter(-1, order, likeliest)
        return probabilities.multinomial(1)


class Peer(_gpt2.Gpt2):
    """A forward a token, nothing else."""

    name = "transformers-loop"
    settings = {"loop": "past_key_values"}  # noqa: RUF012 - never written to
    step, decode, generate = staticmethod(prefill), Decode, Generate
