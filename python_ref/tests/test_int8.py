"""torch-int8: its layers hold bytes, its answers are near f32's and the same at every run."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import by_hand, run

import peers
from peers import torch_int8
from peers.base import Order, Refused

PROMPT = [5, 17, 300, 8, 44, 2, 899, 71]


def error(logits, expected):
    """Return the largest difference as a share of the largest logit."""
    return np.abs(logits - expected).max() / np.abs(expected).max()


def test_every_matrix_is_bytes(model):
    import torch
    from transformers.pytorch_utils import Conv1D

    peer = peers.load("torch_int8")
    peer.set_up(Order(task={"kind": "load"}))
    loaded = peer.load(str(model))
    layers = list(loaded.modules())
    packed = [layer for layer in layers if isinstance(layer, torch.ao.nn.quantized.dynamic.Linear)]
    assert len(packed) == 2 * 4 + 1, "four in each block, and the head"
    assert all(layer.weight().dtype == torch.qint8 for layer in packed)
    assert not any(isinstance(layer, Conv1D) for layer in layers)
    assert loaded.transformer.wte.weight.dtype == torch.float32


def test_a_rewritten_layer_is_the_same_map():
    import torch
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(3)
    layer = Conv1D(5, 7)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, 7)
    torch.testing.assert_close(torch_int8.as_linear(layer)(x), layer(x))


def test_prefill_is_near_f32(model):
    ids = [*PROMPT, *PROMPT[::-1]]
    order = Order(task={"kind": "prefill", "tokens": 8, "batch": 2}, model=str(model), ids=ids)
    answer, receipt, laps = run("torch_int8", order, np.array(ids, np.uint32))
    expected = np.array([by_hand(model, row, 1)[1][0] for row in (PROMPT, PROMPT[::-1])])
    assert 1e-5 < error(receipt.logits, expected) < 0.1
    assert answer.ids == receipt.logits.argmax(-1).tolist()
    assert (receipt.units, laps) == (16, 1)


@pytest.mark.parametrize("batch", [1, 2])
def test_decode_repeats(batch, model):
    rows = [PROMPT, PROMPT[::-1]][:batch]
    order = Order(
        task={"kind": "decode", "context": 8, "tokens": 6, "batch": batch},
        model=str(model),
        ids=[token for row in rows for token in row],
    )
    once, receipt, laps = run("torch_int8", order)
    again, _, _ = run("torch_int8", order, times=2)
    assert once == again
    assert (receipt.units, laps) == (6 * batch, 6)
    assert once.ids[5::6] == receipt.logits.argmax(-1).tolist()


def test_generate_load_and_start(model, vocabulary):
    order = Order(
        task={"kind": "generate", "tokens": 7},
        model=str(model),
        vocabulary=str(vocabulary),
        texts=["def answer(self)"],
    )
    answer, receipt, laps = run("torch_int8", order, order.texts)
    assert (len(answer.ids), receipt.units, laps) == (7, 7, 7)
    assert run("torch_int8", order, order.texts, times=2)[0] == answer
    _, receipt, _ = run("torch_int8", Order(task={"kind": "load"}, model=str(model)), times=2)
    assert (receipt.units, receipt.unit) == (1, "loads")
    order = Order(task={"kind": "start", "tokens": 8}, model=str(model), ids=PROMPT)
    answer, receipt, laps = run("torch_int8", order, PROMPT)
    assert (receipt.units, laps, answer.ids) == (1, 1, receipt.logits.argmax(-1).tolist())


def test_a_pytorch_without_the_kernels_is_refused(model, monkeypatch):
    monkeypatch.setattr(torch_int8, "ENGINE", "abacus")
    with pytest.raises(Refused, match="no abacus kernels"):
        peers.load("torch_int8").prepare(Order(task={"kind": "load"}, model=str(model)))


def test_the_identity_says_how():
    identity = peers.load("torch_int8").identity()
    assert (identity.name, identity.precision) == ("torch-int8", "int8")
    assert identity.settings["quantised_engine"] == "x86"
