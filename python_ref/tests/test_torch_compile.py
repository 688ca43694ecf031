"""torch-compile: the built model gives the ids and logits of the one it was built from."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import by_hand, run

import peers
from peers.base import Order, Refused

PROMPT = [5, 17, 300, 8, 44, 2, 899, 71]
ROWS = [PROMPT, PROMPT[::-1]]
IDS = [token for row in ROWS for token in row]


def test_prefill(model):
    order = Order(task={"kind": "prefill", "tokens": 8, "batch": 2}, model=str(model), ids=IDS)
    answer, receipt, laps = run("torch_compile", order, np.array(IDS, np.uint32), times=2)
    sides = [by_hand(model, row, 1) for row in ROWS]
    assert answer.ids == [side[0][0] for side in sides]
    np.testing.assert_allclose(receipt.logits, [side[1][0] for side in sides], atol=1e-4)
    assert (receipt.units, laps) == (16, 1)


def test_decode_repeats_from_the_same_context(model):
    task = {"kind": "decode", "context": 8, "tokens": 6, "batch": 2}
    answer, receipt, laps = run("torch_compile", Order(task=task, model=str(model), ids=IDS), times=3)
    sides = [by_hand(model, row, 7) for row in ROWS]
    assert answer.ids == [token for side in sides for token in side[0][1:]]
    np.testing.assert_allclose(receipt.logits, [side[1][-1] for side in sides], atol=1e-4)
    assert (receipt.units, laps) == (12, 6)


def test_where_nothing_can_be_built_it_sits_out(model, monkeypatch):
    order = Order(task={"kind": "prefill", "tokens": 16, "batch": 1}, model=str(model), ids=IDS)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Refused, match="there is no `no-such-compiler`"):
        peers.load("torch_compile").prepare(order)


@pytest.mark.parametrize("kind", ["load", "start", "generate", "encode"])
def test_what_it_would_have_to_build_on_the_clock_is_refused(kind):
    with pytest.raises(Refused, match=f"torch-compile does not offer the task {kind}"):
        peers.load("torch_compile").prepare(Order(task={"kind": kind}))


def test_what_does_not_fit_is_refused(model):
    task = {"kind": "decode", "context": 60, "tokens": 5, "batch": 1}
    with pytest.raises(Refused, match=r"65 positions; the model knows 64"):
        peers.load("torch_compile").prepare(Order(task=task, model=str(model), ids=[1] * 60))
