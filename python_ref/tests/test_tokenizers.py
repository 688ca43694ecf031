"""Every tokenizer gives the ids of Hugging Face's, and gives the text back."""

from __future__ import annotations

import pytest
from conftest import NASTY

import peers
from peers._tokens import Encode
from peers.base import Order, Refused

TOKENIZERS = [
    "tokenizers_hf",
    "transformers_tokenizer",
    "tiktoken_peer",
    "gigatoken_peer",
    "rust_native_peer",
    "pure_bpe",
    "pure_bpe_nocache",
]


def encode(name, vocabulary, texts, *, batch):
    order = Order(task={"kind": "encode", "batch": batch}, vocabulary=str(vocabulary), texts=texts)
    job = peers.load(name).prepare(order)
    job.reset()
    job.run(texts, lambda: None)
    answer, receipt = job.answer(), job.receipt()
    assert answer.text is None
    assert receipt.units == len(answer.ids)
    return list(map(int, answer.ids))


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_those_of_the_reference(name, batch, vocabulary):
    reference = [encode("tokenizers_hf", vocabulary, [text], batch=False) for text in NASTY]
    flat = [token for ids in reference for token in ids]
    assert len(flat) > 300
    assert encode(name, vocabulary, NASTY, batch=batch) == flat
    for text, ids in zip(NASTY, reference, strict=True):
        assert encode(name, vocabulary, [text], batch=batch) == ids, text
    assert encode(name, vocabulary, [], batch=batch) == []


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_fresh_tokenizers_give_the_same_ids(name, batch, vocabulary):
    task = {"kind": "encode", "batch": batch, "fresh": True}
    job = peers.load(name).prepare(Order(task=task, vocabulary=str(vocabulary), texts=NASTY))
    for _ in range(2):
        job.reset()
        job.run(NASTY, lambda: None)
        assert list(map(int, job.answer().ids)) == encode(name, vocabulary, NASTY, batch=batch)


@pytest.mark.parametrize(("fresh", "answers"), [(False, [[1], [1]]), (True, [[2], [3]])])
def test_a_fresh_run_meets_a_tokenizer_made_for_it(fresh, answers):
    made = []

    def make():
        made.append(len(made) + 1)
        number = made[-1]
        return lambda texts: [[number] for _ in texts]

    job = Encode(Order(task={"kind": "encode", "fresh": fresh}), make)
    for answer in answers:
        job.reset()
        job.run(["a text"], lambda: None)
        assert job.answer().ids == answer


@pytest.mark.parametrize("name", TOKENIZERS)
def test_text_comes_back(name, vocabulary):
    for text in NASTY:
        ids = encode("tokenizers_hf", vocabulary, [text], batch=False)
        order = Order(task={"kind": "detokenize"}, vocabulary=str(vocabulary), ids=ids)
        job = peers.load(name).prepare(order)
        job.run(ids, lambda: None)
        assert job.answer() == (None, text)
        assert job.receipt().units == len(ids)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_half_a_character_becomes_the_replacement_character(name, vocabulary):
    ids = encode("pure_bpe", vocabulary, ["\U0010ffff"], batch=False)
    assert len(ids) > 1, "the vocabulary must not know this character as one token"
    job = peers.load(name).prepare(Order(task={"kind": "detokenize"}, vocabulary=str(vocabulary), ids=ids))
    job.run(ids[:1], lambda: None)
    assert set(job.answer().text) == {"\ufffd"}


def test_the_word_cache_lasts_as_long_as_a_job(vocabulary):
    from peers.pure_bpe import Bpe

    bpe = Bpe(str(vocabulary), cached=True)
    first = bpe.encode("again and again")
    bpe.merge = None  # from here on only the cache can answer
    assert bpe.encode("again and again") == first
    with pytest.raises(TypeError):
        bpe.encode("unseen")
    order = Order(task={"kind": "encode"}, vocabulary=str(vocabulary))
    assert Bpe(str(vocabulary), cached=False).cache is None
    assert peers.load("pure_bpe").prepare(order) is not peers.load("pure_bpe").prepare(order)


def test_plain_python_refuses_threads(vocabulary):
    with pytest.raises(Refused, match="one thread"):
        peers.load("pure_bpe").prepare(Order(task={"kind": "encode"}, vocabulary=str(vocabulary), threads=2))


def test_a_pool_keeps_its_size():
    from peers.base import set_rayon_threads

    set_rayon_threads(1)
    with pytest.raises(Refused, match="has 1 threads; 2 were asked") as refusal:
        set_rayon_threads(2)
    assert "fresh process" in refusal.value.remedy


def test_broken_merges_are_named(tmp_path):
    from peers._vocabulary import read_merges

    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ t\nbroken\n")
    with pytest.raises(ValueError, match=r"merges.txt line 3: a merge is two tokens, not 'broken'"):
        read_merges(str(tmp_path))


def test_words_are_counted_text_by_text():
    job = peers.load("word_split").prepare(Order(task={"kind": "word_split"}))
    job.run(["one two, three", "", "ein Wörtchen"], lambda: None)
    assert job.answer().ids == [3, 0, 2]
    assert (job.receipt().units, job.receipt().unit) == (5, "words")
