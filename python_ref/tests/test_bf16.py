"""transformers-bf16: everything of sixteen bits, answers near f32's and the same at every run."""

from __future__ import annotations

import numpy as np
from conftest import by_hand, run

import peers
from peers.base import Order

PROMPT = [5, 17, 300, 8, 44, 2, 899, 71]


def test_every_parameter_is_bf16(model):
    import torch

    peer = peers.load("transformers_bf16")
    peer.set_up(Order(task={"kind": "load"}))
    loaded = peer.load(str(model))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}


def test_prefill_is_near_f32_and_not_equal(model):
    order = Order(task={"kind": "prefill", "tokens": 8, "batch": 1}, model=str(model), ids=PROMPT)
    answer, receipt, laps = run("transformers_bf16", order, np.array(PROMPT, np.uint32))
    expected = by_hand(model, PROMPT, 1)[1][0]
    error = np.abs(receipt.logits - expected).max() / np.abs(expected).max()
    assert 1e-5 < error < 0.05
    assert answer.ids == receipt.logits.argmax(-1).tolist()
    assert (receipt.units, laps) == (8, 1)


def test_decode_repeats(model):
    order = Order(
        task={"kind": "decode", "context": 8, "tokens": 6, "batch": 1}, model=str(model), ids=PROMPT
    )
    once, receipt, laps = run("transformers_bf16", order)
    again, _, _ = run("transformers_bf16", order, times=2)
    assert once == again
    assert (receipt.units, laps) == (6, 6)


def test_the_identity_says_how():
    identity = peers.load("transformers_bf16").identity()
    assert (identity.name, identity.precision) == ("transformers-bf16", "bf16")
    assert identity.settings["activations"] == "bf16"
