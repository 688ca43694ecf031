"""What the GPT-2 peers on PyTorch share: loading, checks, and the jobs that do not differ between them.

f32, fused attention (`sdpa`), inference mode, a cache that grows by concatenation: the defaults of
transformers on a processor, which a peer changes where that is its point. The model stays from job to
job unless the job is about loading it.
"""

from __future__ import annotations

import gc
import os
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers.base import Answer, Identity, Order, Receipt, Refused, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from tokenizers import Tokenizer
    from transformers import GPT2LMHeadModel

    from peers.base import Given, Ids, Job, Mark

    #: Model and prompt (B x T) to the next ids (B) and the last position's logits (B x V).
    Step = Callable[[GPT2LMHeadModel, torch.Tensor], tuple[list[int], torch.Tensor]]


def load(folder: str, dtype: str = "float32") -> GPT2LMHeadModel:
    """Load the model as its documentation says, from local files only, in torch's type `dtype`."""
    import torch  # noqa: PLC0415 - seconds and hundreds of MiB, only for who needs it
    from transformers import GPT2LMHeadModel  # noqa: PLC0415

    if not Path(folder, "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no config.json; name a Hugging Face GPT-2 folder")
    model = GPT2LMHeadModel.from_pretrained(
        folder, local_files_only=True, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    ).eval()
    # Every engine makes the number of tokens it was asked for: the end-of-text id stops nobody.
    model.generation_config.eos_token_id = None
    return model


def to_tensor(ids: Ids, batch: int) -> torch.Tensor:
    """Return ids as B x T int64."""
    import torch  # noqa: PLC0415

    return torch.as_tensor(ids, dtype=torch.int64).view(batch, -1)


class Gpt2:
    """Base of the peers: keeps the model; a peer adds its step and the jobs that loop over it."""

    distributions = ("torch", "transformers", "tokenizers", "safetensors")
    name = ""
    precision = "f32"
    settings: dict[str, str]
    #: A folder to a model ready for its first token.
    load: Callable[[str], GPT2LMHeadModel] = staticmethod(load)
    #: One prompt through the model.
    step: Step
    #: The peer's own loops.
    decode: type[ModelJob]
    generate: type[ModelJob]
    #: How requests that queue are served, where the peer does that.
    serve: type[ModelJob] | None = None

    def __init__(self) -> None:
        """Nothing loaded yet."""
        self._model: tuple[str, GPT2LMHeadModel] | None = None

    def identity(self) -> Identity:
        """Everything that decides speed or answer."""
        versions = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
        settings = {"attention": "sdpa", "cache": "dynamic", "mode": "inference", **self.settings}
        return Identity(self.name, versions, precision=self.precision, settings=settings)

    def prepare(self, order: Order) -> Job:
        """Load the model, unless loading is the task."""
        self.set_up(order)
        match order.kind:
            case "prefill":
                return Prefill(self.model(order), order, self.step)
            case "decode":
                return self.decode(self.model(order), order)
            case "generate":
                return self.generate(self.model(order), order)
            case "serve" if self.serve:
                return self.serve(self.model(order), order)
            case "load":
                return Load(self, order)
            case "start":
                return Start(self, order, self.step)
            case other:
                raise refuse("a GPT-2 model", other)

    def set_up(self, order: Order) -> None:
        """Import what takes seconds, settle threads."""
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import torch  # noqa: PLC0415
        import transformers  # noqa: PLC0415

        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(order.threads)

    def model(self, order: Order) -> GPT2LMHeadModel:
        """Return the order's model, loaded once."""
        folder = order.need("model")
        if self._model is None or self._model[0] != folder:
            self.drop_model()
            self._model = (folder, self.load(folder))
        return self._model[1]

    def drop_model(self) -> None:
        """Free the model before one is loaded on the clock."""
        self._model = None
        gc.collect()


def fits(model: GPT2LMHeadModel, positions: int) -> None:
    """Refuse more positions than the model has."""
    known = model.config.n_positions
    if positions > known:
        raise Refused(
            f"{positions} positions; the model knows {known}", "shorten the prompt or ask for fewer"
        )


def prompt(order: Order, batch: int, tokens: int) -> Ids:
    """Return the order's ids, which must be `batch` sequences of `tokens`."""
    ids = order.need("ids")
    if len(ids) != batch * tokens or not len(ids):
        raise ValueError(f"{batch} x {tokens} ids are to be read, files.ids holds {len(ids)}")
    return ids


def tokenizer(order: Order) -> Tokenizer:
    """Read the order's tokenizer.json."""
    from tokenizers import Tokenizer  # noqa: PLC0415

    return Tokenizer.from_file(str(Path(order.need("vocabulary"), "tokenizer.json")))


def plain(order: Order) -> None:
    """Refuse a generation of anything but one text, one token after another."""
    texts = len(order.need("texts"))
    asked = {
        f"{texts} texts as one batch": texts != 1,
        "beam search": order.task.get("beams"),
        "guessing tokens from the text": order.task.get("lookup"),
    }
    for what, wanted in asked.items():
        if wanted:
            raise Refused(f"{what} is not written here", "ask the peer transformers_generate")


def room(model: GPT2LMHeadModel, words: Tokenizer, order: Order) -> None:
    """Check, off the clock, that no text is empty and that its new tokens fit behind each."""
    tokens = order.task["tokens"]
    each = cycle(tokens if isinstance(tokens, list) else [tokens])
    for text, new in zip(order.need("texts"), each, strict=False):
        length = len(words.encode(text, add_special_tokens=False).ids)
        if not length:
            raise Refused("an empty prompt has no last position", "give a text")
        fits(model, length + max(new, 1) - 1)


def padded(prompts: list[list[int]], device: torch.device) -> dict[str, torch.Tensor]:
    """Return prompts as one batch, padded on the left, with the mask that hides the padding."""
    import torch  # noqa: PLC0415

    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    if min(map(len, prompts)) == longest:
        return {"inputs": ids}
    shown = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    mask = torch.tensor(shown, device=device)
    return {"inputs": ids, "attention_mask": mask}


class ModelJob:
    """What the jobs of a model keep: ids, logits of the last position."""

    takes = ""
    ids: list[int]
    logits: torch.Tensor | None = None

    def reset(self) -> None:
        """Forget the last run."""
        self.ids, self.logits = [], None

    def answer(self) -> Answer:
        """The ids, sequence after sequence."""
        return Answer(ids=self.ids)

    def receipt(self) -> Receipt:
        """One unit an id made."""
        return Receipt(units=len(self.ids), logits=self._host_logits())

    def _host_logits(self) -> Any:  # noqa: ANN401 - numpy, imported by torch alone
        return None if self.logits is None else self.logits.float().cpu().contiguous().numpy()


class TextJob(ModelJob):
    """Text in, text out, with or without the cache, greedy or sampled; a peer adds `run`."""

    takes = "texts"
    #: Whether it does more than one text, one token after another.
    versatile = False

    def __init__(self, model: GPT2LMHeadModel, order: Order) -> None:
        """Read the tokenizer; check that prompt and new tokens fit."""
        if not self.versatile:
            plain(order)
        self.model, self.tokenizer = model, tokenizer(order)
        self.tokens = order.task["tokens"]
        self.cached, self.sampling = order.task.get("cache", True), order.task.get("sampling")
        room(model, self.tokenizer, order)
        self.text = ""

    def reset(self) -> None:
        """Seed anew: every run draws the same."""
        import torch  # noqa: PLC0415

        super().reset()
        self.text = ""
        if self.sampling:
            torch.manual_seed(self.sampling["seed"])

    def answer(self) -> Answer:
        """New ids and their text."""
        return Answer(ids=self.ids, text=self.text)

    def receipt(self) -> Receipt:
        """One unit a new id; draws are not compared between engines."""
        return Receipt(units=len(self.ids), compare=not self.sampling)


class Prefill(ModelJob):
    """A prompt through the model; one lap."""

    takes = "ids"

    def __init__(self, model: GPT2LMHeadModel, order: Order, step: Step) -> None:
        """Check the shape once, off the clock."""
        self._batch = order.task["batch"]
        self._units = len(prompt(order, self._batch, order.task["tokens"]))
        fits(model, order.task["tokens"])
        self._model, self._step = model, step

    def run(self, given: Given, mark: Mark) -> None:
        """Ids to tensor, tensor through the model, likeliest ids to the host."""
        self.ids, self.logits = self._step(self._model, to_tensor(given, self._batch))
        mark()

    def receipt(self) -> Receipt:
        """One unit an id read."""
        return Receipt(units=self._units, logits=self._host_logits())


class Load(ModelJob):
    """Weights from their file to a model ready for its first token."""

    def __init__(self, peer: Gpt2, order: Order) -> None:
        """Let go of a model loaded before."""
        peer.drop_model()
        self._load, self._folder = peer.load, order.need("model")
        self._loaded: GPT2LMHeadModel | None = None

    def reset(self) -> None:
        """Free the last run's model."""
        self._loaded = None
        gc.collect()

    def run(self, given: Given, mark: Mark) -> None:  # noqa: ARG002 - no input, no laps
        """Load."""
        self._loaded = self._load(self._folder)

    def answer(self) -> Answer:
        """Return nothing to compare."""
        return Answer()

    def receipt(self) -> Receipt:
        """One model."""
        return Receipt(units=int(self._loaded is not None), unit="loads")


class Start(ModelJob):
    """From nothing to the first token of one prompt."""

    takes = "ids"

    def __init__(self, peer: Gpt2, order: Order, step: Step) -> None:
        """Let go of a model loaded before."""
        peer.drop_model()
        prompt(order, 1, order.task["tokens"])
        self._load, self._folder, self._step = peer.load, order.need("model"), step
        self._loaded: GPT2LMHeadModel | None = None

    def reset(self) -> None:
        """Free the last run's model."""
        super().reset()
        self._loaded = None
        gc.collect()

    def run(self, given: Given, mark: Mark) -> None:
        """Load, then one step."""
        self._loaded = self._load(self._folder)
        self.ids, self.logits = self._step(self._loaded, to_tensor(given, 1))
        mark()
