"""The wheel from outside: ids of Hugging Face's tokenizers, arrays, errors, the lock, the stub."""

from __future__ import annotations

import ast
import importlib.resources
import inspect
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tokenizers

import rust_native_bpe
from rust_native_bpe import Tokenizer

END_OF_TEXT = "<|endoftext|>"
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
    "long, and not only ASCII: " + "déjà vu, naïve café 世界\n" * 500,
    "a1b2²³½Ⅷ٣_-_--'s's 'S ''t'",
    f"{END_OF_TEXT}one{END_OF_TEXT}{END_OF_TEXT} two <|endoftext| >",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small byte-level BPE as vocab.json, merges.txt and tokenizer.json."""
    folder = tmp_path_factory.mktemp("vocabulary")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*NASTY, inspect.getsource(inspect)], trainer)
    made.model.save(str(folder))
    made.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def reference(folder):
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module", params=["vocab.json and merges.txt", "tokenizer.json"])
def tokenizer(request, folder):
    """The same vocabulary by either way in; a `str` path and a `pathlib` one."""
    if request.param == "tokenizer.json":
        return Tokenizer.from_file(folder / "tokenizer.json")
    return Tokenizer.from_file(str(folder))


@pytest.fixture(scope="module")
def gpt2():
    return Tokenizer.gpt2()


@pytest.mark.parametrize("text", NASTY)
def test_ids_are_hugging_faces_and_the_text_comes_back(text, tokenizer, reference):
    expected = reference.encode(text, add_special_tokens=False).ids
    ids = tokenizer.encode(text, special="allow")
    assert ids.tolist() == expected
    assert tokenizer.encode(text.encode(), special="allow").tolist() == expected
    assert tokenizer.count(text, special="allow") == len(ids)
    assert tokenizer.count(text.encode(), special="allow") == len(ids)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_a_batch_is_its_texts(threads, tokenizer):
    texts = [text if at % 2 else text.encode() for at, text in enumerate(NASTY * 5)]
    ids, starts = tokenizer.encode_batch(texts, special="allow", threads=threads)
    assert (ids.dtype, starts.dtype) == (np.uint32, np.int64)
    assert (starts[0], starts[-1], len(starts)) == (0, len(ids), len(texts) + 1)
    for text, found in zip(texts, np.split(ids, starts[1:-1]), strict=True):
        assert np.array_equal(found, tokenizer.encode(text, special="allow"))
    ids, starts = tokenizer.encode_batch((), threads=threads)
    assert (ids.tolist(), starts.tolist()) == ([], [0])


FORKED = """
import os
from rust_native_bpe import Tokenizer

tokenizer = Tokenizer.gpt2()
texts = ["a text of some words"] * 5000
expected = tokenizer.encode_batch(texts, threads=2)[0].tolist()
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
else:
    same = tokenizer.encode_batch(texts, threads=2)[0].tolist() == expected
    del tokenizer
    os._exit(0 if same else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_threads_of_its_own():
    """Those of its parent are not there: to wait for them, in a batch or at the end, would be for ever."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=60)  # noqa: S603


def test_the_embedded_vocabulary_is_gpt2s(gpt2):
    assert gpt2.encode("Hello, world!").tolist() == [15496, 11, 995, 0]
    assert gpt2.vocabulary_size == 50257
    assert gpt2.special_tokens == {END_OF_TEXT: 50256}
    assert repr(gpt2) == "Tokenizer(vocabulary_size=50257)"


def test_a_special_token_is_refused_unless_told_otherwise(gpt2):
    text = f"one{END_OF_TEXT}"
    for refused in (
        lambda: gpt2.encode(text),
        lambda: gpt2.count(text.encode(), special="refuse"),
        lambda: gpt2.encode_batch(["fine", text], threads=2),
    ):
        with pytest.raises(ValueError, match=r'`<\|endoftext\|>` at byte 3; .*special="allow"'):
            refused()
    assert gpt2.encode(text, special="allow").tolist() == [505, 50256]
    spelled = gpt2.encode(text, special="ignore")
    assert len(spelled) == gpt2.count(text, special="ignore") > 2
    assert 50256 not in spelled
    assert gpt2.decode(spelled) == gpt2.decode([505, 50256]) == text
    with pytest.raises(ValueError, match='special: "maybe"; use "allow", "ignore" or "refuse"'):
        gpt2.encode(text, special="maybe")


def test_bytes_need_not_be_text(gpt2):
    data = bytes(range(256)) * 9
    ids = gpt2.encode(data)
    assert gpt2.decode_bytes(ids) == data
    assert gpt2.count(data) == len(ids)
    assert gpt2.decode(ids) == data.decode(errors="replace")


def test_the_array_is_the_callers_own(gpt2):
    first, second = (gpt2.encode("the same words again and again " * 100) for _ in range(2))
    assert (first.dtype, first.ndim) == (np.uint32, 1)
    assert first.flags.c_contiguous
    assert first.flags.aligned
    assert first.flags.writeable
    assert not np.shares_memory(first, second)
    first[:] = 0
    assert gpt2.decode(second) == "the same words again and again " * 100
    assert np.array_equal(gpt2.encode("the same words again and again " * 100), second)


def test_the_array_outlives_its_tokenizer():
    tokenizer = Tokenizer.gpt2()
    ids = tokenizer.encode("memory " * 5000)
    before = ids.tolist()
    del tokenizer
    others = [Tokenizer.gpt2().encode("other words " * 5000) for _ in range(3)]
    assert not any(np.shares_memory(ids, other) for other in others)
    assert ids.tolist() == before


@pytest.mark.parametrize("kind", [list, tuple, iter, np.array, lambda ids: np.array(ids, np.int16)])
def test_ids_come_in_anything(kind, gpt2):
    assert gpt2.decode(kind([15496, 11, 995, 0])) == "Hello, world!"
    assert gpt2.decode_bytes(kind([])) == b""


def test_arrays_need_not_be_contiguous_or_native(gpt2):
    ids = np.array([15496, 1, 11, 1, 995, 1, 0, 1], np.uint32)
    assert gpt2.decode(ids[::2]) == "Hello, world!"
    assert gpt2.decode(ids.astype(np.int64)[-2::-2]) == "! world,Hello"
    assert gpt2.decode(ids[::2].astype(">u4")) == "Hello, world!"


@pytest.mark.parametrize("bad", [50257, -1, 2**32, 2**80])
def test_an_id_that_there_is_not_is_named(bad, gpt2):
    arrays = [np.array([0, bad])] if abs(bad) < 2**63 else []
    for ids in [[0, bad], *arrays]:
        with pytest.raises(ValueError, match=f"token id {bad} is outside the vocabulary of 50257 ids"):
            gpt2.decode(ids)


@pytest.mark.parametrize("ids", [[1.5], np.array([1.0]), np.array([[1, 2]]), "12", [None], 7, None])
def test_what_are_no_ids_is_a_type_error(ids, gpt2):
    with pytest.raises(TypeError):
        gpt2.decode_bytes(ids)


def test_what_is_no_text_is_said(gpt2):
    with pytest.raises(TypeError, match="a text is str or bytes, not list"):
        gpt2.encode(["a"])
    with pytest.raises(TypeError, match="a text is str or bytes, not int"):
        gpt2.encode_batch(["a", 1])
    with pytest.raises(TypeError):
        gpt2.encode_batch("one text, not a list of them")
    with pytest.raises(ValueError, match="surrogates not allowed"):
        gpt2.encode("\ud800")
    for threads in (0, -1):
        with pytest.raises(ValueError, match=f"threads: {threads}; give a number from 1 on"):
            gpt2.encode_batch(["a"], threads=threads)


def test_files_that_are_not_there_or_broken(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.json: cannot read"):
        Tokenizer.from_file(tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match=r"neither vocab.json with merges.txt nor tokenizer.json"):
        Tokenizer.from_file(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer.json: file: not valid JSON"):
        Tokenizer.from_file(tmp_path)


@pytest.mark.parametrize("work", ["encode", "encode_batch", "count", "decode", "decode_bytes"])
def test_the_lock_is_released_while_working(work, gpt2):
    """Nobody is made to give the lock up: the other thread counts only if the work lets go by itself."""
    text = "Somewhat long, and not all of it cached: " * 20_000
    given = gpt2.encode(text) if work.startswith("decode") else [text] if work == "encode_batch" else text
    count, running, stop = 0, threading.Event(), threading.Event()

    def counting():
        nonlocal count
        while not stop.is_set():
            count += 1
            running.set()
            time.sleep(0)

    interval = sys.getswitchinterval()
    other = threading.Thread(target=counting)
    sys.setswitchinterval(1000)
    try:
        other.start()
        running.wait()
        for _ in range(1000):
            before = count
            getattr(gpt2, work)(given)
            if count > before:
                break
        else:
            pytest.fail("the other thread stood still")
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        other.join()


def test_threads_share_a_tokenizer(gpt2):
    expected = [gpt2.encode(text, special="ignore").tolist() for text in NASTY]
    wrong = []

    def work():
        for _ in range(20):
            for text, ids in zip(NASTY, expected, strict=True):
                if gpt2.encode(text, special="ignore").tolist() != ids:
                    wrong.append(text)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_example_of_the_readme_runs():
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    names = {}
    exec(readme.split("```python\n")[1].split("```")[0], names)  # noqa: S102 - our own page
    assert names["starts"].tolist() == [0, 2, 2, 5]


def test_the_stub_says_what_is_there():
    files = importlib.resources.files("rust_native_bpe")
    assert (files / "py.typed").is_file()
    stub = ast.parse((files / "__init__.pyi").read_text(encoding="utf-8"))
    (told,) = (node for node in stub.body if isinstance(node, ast.ClassDef))
    assert told.name == "Tokenizer"
    methods = {node.name: node for node in told.body if isinstance(node, ast.FunctionDef)}
    assert methods.keys() == {name for name in vars(Tokenizer) if not name.startswith("_")}
    for name, node in methods.items():
        assert ast.get_docstring(node)
        decorators = [item.id for item in node.decorator_list]
        if "property" in decorators:
            assert inspect.isgetsetdescriptor(vars(Tokenizer)[name])
            continue
        real = inspect.signature(getattr(Tokenizer, name)).parameters.values()
        defaults = [None] * (len(node.args.args) - len(node.args.defaults)) + node.args.defaults
        listed = [(arg.arg, default, False) for arg, default in zip(node.args.args, defaults, strict=True)]
        listed += [
            (arg.arg, default, True)
            for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        ]
        assert [
            (one.name, None if one.default is one.empty else one.default, one.kind is one.KEYWORD_ONLY)
            for one in real
        ] == [(arg, default and ast.literal_eval(default), keyword) for arg, default, keyword in listed]
    module = {"Tokenizer"} | {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}
    assert module - {"_Special"} == set(rust_native_bpe.__all__)
