"""Material of the tests: a small vocabulary, a small model, a conversation with the worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import peers

ROOT = Path(__file__).parent.parent

NASTY = [
    "",
    " ",
    "Hello, world! It's 12:34, isn't it? They'll say we've gone. I'D SAY",
    "  two  spaces   three \t tab\r\n\r\n  newline at end\n",
    "日本語のテキスト、中文 한국어 العربية हिन्दी",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u00a0\u2003\u2028\u2029x",
    "\x00\x01\x7f\ufffd\U0010ffff",
    "x" * 999,
    "   " * 333,
    "a1b2²³½Ⅷ٣_-_--'s's 'S ''t'",
]


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory):
    """A byte-level BPE trained on the peers' own sources, in the three files GPT-2 has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("vocabulary")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = [path.read_text() for path in sorted(ROOT.glob("peers/*.py"))]
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.model.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A GPT-2 of two layers with weights large enough that its ids vary."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(1)
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=32, n_positions=64, vocab_size=900, initializer_range=0.3, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def talk(tmp_path):
    """Start the worker with one peer, hand it orders, return its replies and what it left behind."""

    def conversation(peer, *orders, spawned_ns=None, environment=None):
        environment = os.environ | (environment or {})
        if spawned_ns:
            environment["ASSAY_SPAWNED_NS"] = str(spawned_ns)
        done = subprocess.run(
            [sys.executable, ROOT / "worker.py", peer],
            input="".join(json.dumps(order) + "\n" for order in orders),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
        replies = [json.loads(line) for line in done.stdout.splitlines()]
        return replies, done

    return conversation


def prepare(task, threads=1, **files):
    """An order to get ready; files are paths."""
    return {
        "order": "prepare",
        "workload": "test",
        "task": task,
        "threads": threads,
        "files": {name: str(path) for name, path in files.items()},
    }


def measure(samples=1, limit_ns=10**12):
    """An order to run."""
    return {"order": "measure", "samples": samples, "limit_ns": limit_ns}


def write_texts(path, texts):
    """A texts file."""
    path.write_bytes(b"".join(json.dumps(t, ensure_ascii=False).encode() + b"\n" for t in texts))
    return path


@pytest.fixture(scope="session", autouse=True)
def converted_models(tmp_path_factory):
    """A folder of the tests' own for models in other formats, and for what torch.compile builds."""
    folder = tmp_path_factory.mktemp("converted")
    os.environ["CONVERTED_MODELS"] = str(folder / "models")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    return folder / "models"


def run(name, order, given=None, times=1):
    """Answer, receipt and number of laps of a peer's last run."""
    job = peers.load(name).prepare(order)
    laps = []
    for _ in range(times):
        laps.clear()
        job.reset()
        job.run(given, lambda: laps.append(1))
    return job.answer(), job.receipt(), len(laps)


def by_hand(model, ids, tokens):
    """Greedy ids with no cache at all, and the logits of each step."""
    import torch
    from transformers import GPT2LMHeadModel

    reference = GPT2LMHeadModel.from_pretrained(model).eval()
    ids, logits = list(ids), []
    with torch.no_grad():
        for _ in range(tokens):
            logits.append(reference(torch.tensor([ids])).logits[0, -1].numpy())
            ids.append(int(logits[-1].argmax()))
    return ids[-tokens:], logits
