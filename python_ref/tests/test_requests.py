"""Several texts, beam search, guesses and queues give what one text, one token after another gives."""

from __future__ import annotations

import pytest
from test_models import by_hand, run

import peers
from peers.base import Order, Refused

TEXTS = ["def answer(self)", "class Job", "import torch  # noqa", "return"]


@pytest.fixture
def order(model, vocabulary):
    return lambda task, texts: Order(task=task, model=str(model), vocabulary=str(vocabulary), texts=texts)


@pytest.fixture
def encode(vocabulary):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(vocabulary / "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def test_texts_of_unequal_length_are_one_batch(order, encode, model):
    task = {"kind": "generate", "tokens": 10}
    answer, receipt, laps = run("transformers_generate", order(task, TEXTS), TEXTS, times=2)
    expected = [by_hand(model, encode(text), 10)[0] for text in TEXTS]
    assert answer.ids == [token for ids in expected for token in ids]
    assert (receipt.units, laps) == (40, 10)


@pytest.mark.parametrize("lookup", [1, 4, 9])
def test_guesses_do_not_change_the_text(lookup, order, encode, model):
    task = {"kind": "generate", "tokens": 20, "lookup": lookup}
    answer, receipt, laps = run("transformers_generate", order(task, TEXTS[:1]), TEXTS[:1])
    assert answer.ids == by_hand(model, encode(TEXTS[0]), 20)[0]
    assert (receipt.units, laps) == (20, 20)


def test_a_beam_search_finds_a_likelier_text(order, encode, model):
    import torch
    from transformers import GPT2LMHeadModel

    reference = GPT2LMHeadModel.from_pretrained(model).eval()

    def score(ids):
        text = torch.tensor([encode(TEXTS[0]) + ids])
        with torch.no_grad():
            rows = reference(text).logits[0, -len(ids) - 1 : -1].log_softmax(-1)
        return rows.gather(-1, torch.tensor(ids)[:, None]).sum().item()

    task = {"kind": "generate", "tokens": 12, "beams": 4}
    answer, receipt, laps = run("transformers_generate", order(task, TEXTS[:1]), TEXTS[:1])
    assert (receipt.units, laps) == (12, 1)
    assert score(answer.ids) >= score(by_hand(model, encode(TEXTS[0]), 12)[0]) - 1e-4


def test_requests_that_queue_get_what_they_asked_for(order, encode, model):
    texts = [*TEXTS, "x = 1"]
    task = {"kind": "serve", "slots": 2, "tokens": [3, 9]}
    answer, receipt, laps = run("transformers_generate", order(task, texts), texts, times=2)
    tokens = [3, 9, 3, 9, 3]
    expected = [by_hand(model, encode(text), n)[0] for text, n in zip(texts, tokens, strict=True)]
    assert answer.ids == [token for ids in expected for token in ids]
    assert (receipt.units, laps) == (27, 5)


@pytest.mark.parametrize("more", [{"beams": 2}, {"lookup": 2}])
def test_the_loop_refuses_what_it_does_not_do(more, order):
    task = {"kind": "generate", "tokens": 4}
    with pytest.raises(Refused, match="not written here"):
        peers.load("transformers_loop").prepare(order(task | more, TEXTS[:1]))
    with pytest.raises(Refused, match="4 texts as one batch"):
        peers.load("transformers_loop").prepare(order(task, TEXTS))
    with pytest.raises(Refused, match="serve"):
        peers.load("transformers_loop").prepare(order({"kind": "serve", "slots": 1, "tokens": [1]}, TEXTS))
