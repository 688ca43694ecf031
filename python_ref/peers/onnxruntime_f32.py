"""GPT-2 in ONNX Runtime: its processor kernels, with one Python call a step.

Stands for "export the model": a graph of fused operators (`_onnx_gpt2`), weights packed when the session
is made, inputs and outputs bound to fixed memory, so that a step is one call that copies nothing. Writing
the graph is off the clock; `load` reads the written one.
"""

from __future__ import annotations

import gc
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from peers import _gpt2
from peers._converted import converted
from peers._onnx_gpt2 import GRAPH, Config, write
from peers.base import Answer, Identity, Receipt, Refused, refuse

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import onnxruntime

    from peers.base import Given, Job, Mark, Order


class Model:
    """A session, and what its shape is."""

    def __init__(self, folder: Path, config: Config, threads: int) -> None:
        """Read the graph, let the runtime rewrite it and pack the weights."""
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(
            str(folder / GRAPH), options, providers=["CPUExecutionProvider"]
        )
        self.config = config

    def cache(self, batch: int, positions: int) -> list[onnxruntime.OrtValue]:
        """Return zeros for the keys and values of every block, two values a block."""
        import numpy as np  # noqa: PLC0415
        import onnxruntime  # noqa: PLC0415

        shape = (batch, self.config.n_head, positions, self.config.padded_width)
        values = (np.zeros(shape, np.float32) for _ in range(2 * self.config.n_layer))
        return [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in values]


class Bound:
    """One shape of call, its inputs and outputs bound to memory that stays where it is."""

    def __init__(self, model: Model, cache: list[Any], batch: int, tokens: int) -> None:
        """Bind `tokens` new ids for each sequence; `cache` is past and present alike."""
        import numpy as np  # noqa: PLC0415

        self._session, self._binding = model.session, model.session.io_binding()
        self._ids = self._bind("ids", np.zeros((batch, tokens), np.int64))
        self._positions = self._bind("positions", np.zeros(tokens, np.int64))
        self._last = self._bind("last", np.zeros(batch, np.int32))
        self._total = self._bind("total", np.zeros(1, np.int32))
        self._steps = np.arange(tokens)
        names = (f"{part}_{at}" for at in range(model.config.n_layer) for part in ("key", "value"))
        for name, value in zip(names, cache, strict=True):
            self._binding.bind_ortvalue_input(f"past_{name}", value)
            self._binding.bind_ortvalue_output(f"present_{name}", value)
        #: B x V: the last position's, after every call.
        self.logits = np.zeros((batch, model.config.vocab_size), np.float32)
        self._binding.bind_ortvalue_output("logits", _value(self.logits))

    def _bind(self, name: str, array: np.ndarray) -> np.ndarray:
        """Bind an input to an array's own memory: writing into the array is handing it over."""
        self._binding.bind_ortvalue_input(name, _value(array))
        return array

    def __call__(self, ids: Any, filled: int) -> list[int]:  # noqa: ANN401 - whatever numpy takes
        """Run behind `filled` positions; return the likeliest next id of each sequence."""
        self._ids.flat[:] = ids
        total = filled + len(self._steps)
        self._positions[:] = self._steps + filled
        self._last[:] = total - 1
        self._total[:] = total
        self._session.run_with_iobinding(self._binding)
        return self.logits.argmax(-1).tolist()


def _value(array: np.ndarray) -> onnxruntime.OrtValue:
    """An array's own memory: on a processor nothing is copied."""
    import onnxruntime  # noqa: PLC0415

    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


class ModelJob(_gpt2.ModelJob):
    """Logits are numpy's here."""

    def _host_logits(self) -> np.ndarray | None:
        return self.logits


class Prefill(ModelJob):
    """A prompt through the session; one lap."""

    takes = "ids"

    def __init__(self, model: Model, order: Order) -> None:
        """Check the shape once, off the clock."""
        batch, tokens = order.task["batch"], order.task["tokens"]
        self._units = len(_gpt2.prompt(order, batch, tokens))
        _gpt2.fits(model, tokens)
        self._call = Bound(model, model.cache(batch, tokens), batch, tokens)

    def run(self, given: Given, mark: Mark) -> None:
        """Ids in, likeliest ids out."""
        self.ids = self._call(given, 0)
        self.logits = self._call.logits
        mark()

    def receipt(self) -> Receipt:
        """One unit an id read."""
        return Receipt(units=self._units, logits=self.logits)


class Decode(ModelJob):
    """Greedy steps behind a context that is in the cache before the clock starts."""

    def __init__(self, model: Model, order: Order) -> None:
        """Fill the cache; steps write behind the context, so it never has to be filled again."""
        self._context, self._tokens, batch = (order.task[key] for key in ("context", "tokens", "batch"))
        ids = _gpt2.prompt(order, batch, self._context)
        _gpt2.fits(model, self._context + self._tokens)
        cache = model.cache(batch, self._context + self._tokens)
        self._first = Bound(model, cache, batch, self._context)(ids, 0)
        self._call = Bound(model, cache, batch, 1)
        self._steps: list[list[int]] = []

    def reset(self) -> None:
        """Begin behind the context."""
        self._steps, self.logits = [], None

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - the context is in the cache
        """One call a token."""
        next_ids = self._first
        for filled in range(self._context, self._context + self._tokens):
            next_ids = self._call(next_ids, filled)
            self._steps.append(next_ids)
            mark()
        self.logits = self._call.logits

    def answer(self) -> Answer:
        """Sequence after sequence."""
        return Answer(ids=[token for sequence in zip(*self._steps, strict=True) for token in sequence])

    def receipt(self) -> Receipt:
        """One unit an id made."""
        return Receipt(units=sum(map(len, self._steps)), logits=self.logits)


class Generate(_gpt2.TextJob):
    """Text in, text out, with or without the cache, greedy or sampled."""

    def reset(self) -> None:
        """Seed anew: every run draws the same."""
        import numpy as np  # noqa: PLC0415

        self.ids, self.text = [], ""
        if self.sampling:
            self._draws = np.random.default_rng(self.sampling["seed"])

    def run(self, given: Given, mark: Mark) -> None:
        """Encode, one call a token, decode."""
        ids = self.tokenizer.encode(given[0], add_special_tokens=False).ids
        cache = self.model.cache(1, len(ids) + self.tokens)
        call, filled, inputs = Bound(self.model, cache, 1, len(ids)), 0, ids
        step = Bound(self.model, cache, 1, 1)
        for _ in range(self.tokens):
            likeliest = call(inputs, filled)[0]
            self.ids.append(self._draw(call.logits[0]) if self.sampling else likeliest)
            mark()
            if self.cached:
                filled += len(inputs)
                call, inputs = step, self.ids[-1:]
            else:
                inputs = ids + self.ids
                call = Bound(self.model, cache, 1, len(inputs))
        self.text = self.tokenizer.decode(self.ids, skip_special_tokens=False)

    def _draw(self, logits: np.ndarray) -> int:
        """Return a draw after temperature, top-k and top-p."""
        import numpy as np  # noqa: PLC0415

        kept = self.sampling["top_k"] or len(logits)
        # Likeliest first; with a top-k only those are sorted.
        likeliest = np.argpartition(logits, -kept)[-kept:] if kept < len(logits) else np.arange(len(logits))
        likeliest = likeliest[np.argsort(-logits[likeliest], kind="stable")]
        scores = np.exp((logits[likeliest] - logits[likeliest[0]]) / self.sampling["temperature"])
        mass = np.cumsum(scores.astype(np.float64))
        # An id stays where the mass before it has not reached p; the likeliest always does.
        before = np.concatenate([[0.0], mass[:-1]])
        last = np.count_nonzero(before < self.sampling["top_p"] * mass[-1]) - 1
        drawn = np.searchsorted(mass[: last + 1], self._draws.random() * mass[last], side="right")
        return int(likeliest[drawn])


class Load(ModelJob):
    """The written graph to a session ready for its first token."""

    def __init__(self, peer: Peer, order: Order) -> None:
        """Let go of a session made before."""
        peer.drop_model()
        self._open = peer.opener(order)
        self._loaded: Model | None = None

    def reset(self) -> None:
        """Free the last run's session."""
        self._loaded = None
        gc.collect()

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - no input, no laps
        """Make a session."""
        self._loaded = self._open()

    def answer(self) -> Answer:
        """Return nothing to compare."""
        return Answer()

    def receipt(self) -> Receipt:
        """One model."""
        return Receipt(units=int(self._loaded is not None), unit="loads")


class Start(ModelJob):
    """From nothing to the first token of one prompt."""

    takes = "ids"

    def __init__(self, peer: Peer, order: Order) -> None:
        """Refuse where the graph had to be written first: that would be on this clock."""
        peer.drop_model()
        self._tokens = len(_gpt2.prompt(order, 1, order.task["tokens"]))
        self._open = peer.opener(order, must_exist=True)
        self._loaded: Model | None = None

    def reset(self) -> None:
        """Free the last run's session."""
        super().reset()
        self._loaded = None
        gc.collect()

    def run(self, given: Given, mark: Mark) -> None:
        """Make a session, then one call."""
        self._loaded = self._open()
        call = Bound(self._loaded, self._loaded.cache(1, self._tokens), 1, self._tokens)
        self.ids, self.logits = call(given, 0), call.logits
        mark()


class Peer:
    """ONNX Runtime's processor provider."""

    distributions = ("onnxruntime", "tokenizers")
    jobs = {"prefill": Prefill, "decode": Decode, "generate": Generate}  # noqa: RUF012 - never written to

    def __init__(self) -> None:
        """Nothing loaded yet."""
        self._model: tuple[tuple[str, int], Model] | None = None

    def identity(self) -> Identity:
        """Everything that decides speed or answer."""
        versions = {name: version(name) for name in ("onnxruntime", "onnx", "tokenizers")}
        settings = {
            "cache": "static, bound in place",
            "graph": "GroupQueryAttention, SkipLayerNormalization, FastGelu",
            "optimization": "all",
            "provider": "CPUExecutionProvider",
        }
        return Identity("onnxruntime/f32", versions, precision="f32", settings=settings)

    def prepare(self, order: Order) -> Job:
        """Make a session, unless that is the task."""
        match order.kind:
            case "load":
                return Load(self, order)
            case "start":
                return Start(self, order)
            case kind if kind in self.jobs:
                return self.jobs[kind](self.model(order), order)
            case other:
                raise refuse("a GPT-2 model", other)

    def opener(self, order: Order, *, must_exist: bool = False) -> Any:  # noqa: ANN401
        """Write the graph where it is missing; return what makes a session of it."""
        source = order.need("model")
        folder, was_there = converted(source, "onnx-f32", lambda draft: write(source, draft))
        config = Config.read(source)
        if must_exist and not was_there:
            raise Refused("the model had to be written as ONNX first, and now it is", "ask again")
        return lambda: Model(folder, config, order.threads)

    def model(self, order: Order) -> Model:
        """Return the order's session, made once for each number of threads."""
        key = (order.need("model"), order.threads)
        if self._model is None or self._model[0] != key:
            self.drop_model()
            self._model = (key, self.opener(order)())
        return self._model[1]

    def drop_model(self) -> None:
        """Free the session before one is made on the clock."""
        self._model = None
        gc.collect()
