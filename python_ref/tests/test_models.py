"""Every GPT-2 peer in f32 gives the same ids and logits, whichever way it is asked."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import by_hand, run

import peers
from peers.base import Order, Refused

PEERS = ["transformers_loop", "transformers_generate", "onnxruntime_f32"]
PROMPT = [5, 17, 300, 8, 44, 2, 899, 71]


@pytest.mark.parametrize("name", PEERS)
def test_prefill(name, model):
    ids = [*PROMPT, *PROMPT[::-1]]
    order = Order(task={"kind": "prefill", "tokens": 8, "batch": 2}, model=str(model), ids=ids)
    answer, receipt, laps = run(name, order, np.array(ids, np.uint32))
    sides = [by_hand(model, row, 1) for row in (PROMPT, PROMPT[::-1])]
    assert answer.ids == [side[0][0] for side in sides]
    np.testing.assert_allclose(receipt.logits, [side[1][0] for side in sides], atol=1e-4)
    assert receipt.logits.dtype == np.float32
    assert (receipt.units, laps) == (16, 1)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", PEERS)
def test_decode_repeats_from_the_same_context(name, batch, model):
    rows = [PROMPT, PROMPT[::-1]][:batch]
    order = Order(
        task={"kind": "decode", "context": 8, "tokens": 6, "batch": batch},
        model=str(model),
        ids=[token for row in rows for token in row],
    )
    answer, receipt, laps = run(name, order, times=3)
    # The context itself predicts the first id; the steps make those after it.
    sides = [by_hand(model, row, 7) for row in rows]
    assert answer.ids == [token for side in sides for token in side[0][1:]]
    np.testing.assert_allclose(receipt.logits, [side[1][-1] for side in sides], atol=1e-4)
    assert (receipt.units, laps) == (6 * batch, 6)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("name", PEERS)
def test_generate_is_greedy(name, cache, model, vocabulary):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(vocabulary / "tokenizer.json"))
    text = "def answer(self)"
    order = Order(
        task={"kind": "generate", "tokens": 12, "cache": cache},
        model=str(model),
        vocabulary=str(vocabulary),
        texts=[text],
    )
    answer, receipt, laps = run(name, order, [text], times=2)
    expected, _ = by_hand(model, tokenizer.encode(text).ids, 12)
    assert answer.ids == expected
    assert answer.text == tokenizer.decode(expected, skip_special_tokens=False)
    assert (receipt.units, receipt.compare, laps) == (12, True, 12)


@pytest.mark.parametrize("name", PEERS)
def test_the_end_of_text_id_stops_nobody(name, model, vocabulary, tmp_path):
    """A model whose likeliest id is its own end-of-text still makes every token, unmasked."""
    from transformers import GPT2LMHeadModel

    text = "def answer(self)"
    task = {"kind": "generate", "tokens": 5}
    order = Order(task=task, model=str(model), vocabulary=str(vocabulary), texts=[text])
    ids = run(name, order, [text])[0].ids
    stopper = GPT2LMHeadModel.from_pretrained(model)
    stopper.config.eos_token_id = stopper.generation_config.eos_token_id = ids[1]
    stopper.save_pretrained(tmp_path)
    order = Order(task=task, model=str(tmp_path), vocabulary=str(vocabulary), texts=[text])
    assert run(name, order, [text])[0].ids == ids


@pytest.mark.parametrize("name", PEERS)
def test_draws_repeat_and_are_not_compared(name, model, vocabulary):
    sampling = {"temperature": 0.9, "top_k": 40, "top_p": 0.8, "seed": 7}
    order = Order(
        task={"kind": "generate", "tokens": 20, "sampling": sampling},
        model=str(model),
        vocabulary=str(vocabulary),
        texts=["def"],
    )
    first, receipt, laps = run(name, order, ["def"])
    assert (receipt.units, receipt.compare, laps) == (20, False, 20)
    assert run(name, order, ["def"], times=2)[0] == first


@pytest.mark.parametrize("options", [{"top_k": 1, "top_p": 1.0}, {"top_k": 0, "top_p": 1e-6}])
@pytest.mark.parametrize("name", PEERS)
def test_the_narrowest_draw_is_greedy(name, options, model, vocabulary):
    task = {"kind": "generate", "tokens": 8}
    files = {"model": str(model), "vocabulary": str(vocabulary), "texts": ["def"]}
    greedy = run(name, Order(task=task, **files), ["def"])[0]
    task = task | {"sampling": {"temperature": 1.0, "seed": 3, **options}}
    assert run(name, Order(task=task, **files), ["def"])[0] == greedy


@pytest.mark.parametrize("name", PEERS)
def test_load_and_start(name, model):
    order = Order(task={"kind": "load"}, model=str(model))
    answer, receipt, laps = run(name, order, times=2)
    assert answer == (None, None)
    assert (receipt.units, receipt.unit, laps) == (1, "loads", 0)
    order = Order(task={"kind": "start", "tokens": 8}, model=str(model), ids=PROMPT)
    answer, receipt, laps = run(name, order, PROMPT)
    assert answer.ids == by_hand(model, PROMPT, 1)[0]
    assert (receipt.units, laps, receipt.logits.shape) == (1, 1, (1, 900))


@pytest.mark.parametrize("name", PEERS)
def test_what_does_not_fit_is_refused(name, model, vocabulary):
    ids = [1] * 60
    task = {"kind": "decode", "context": 60, "tokens": 5, "batch": 1}
    with pytest.raises(Refused, match=r"65 positions; the model knows 64"):
        peers.load(name).prepare(Order(task=task, model=str(model), ids=ids))
    task = {"kind": "generate", "tokens": 4}
    for text, reason in [("", "empty prompt"), ("\x00" * 62, "65 positions")]:
        order = Order(task=task, model=str(model), vocabulary=str(vocabulary), texts=[text])
        with pytest.raises(Refused, match=reason):
            peers.load(name).prepare(order)
    with pytest.raises(ValueError, match=r"2 x 40 ids are to be read, files.ids holds 60"):
        peers.load(name).prepare(
            Order(task={"kind": "prefill", "tokens": 40, "batch": 2}, model=str(model), ids=ids)
        )


@pytest.mark.parametrize("name", PEERS)
def test_a_folder_without_a_model_is_named(name, tmp_path):
    order = Order(task={"kind": "load"}, model=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no config\.json.*name a Hugging Face GPT-2 folder"):
        peers.load(name).prepare(order).run(None, lambda: None)
