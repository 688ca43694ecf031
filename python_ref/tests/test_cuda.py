"""The peers on a GPU: where torch sees none, each says so and what would change it."""

from __future__ import annotations

import pytest
import torch
from conftest import by_hand, run

import peers
from peers.base import Order, Refused

PROMPT = [5, 17, 300, 8, 44, 2, 899, 71]
OFFERS = {
    "transformers_cuda": ["prefill", "decode", "generate", "load", "start"],
    "transformers_cuda_compiled": ["prefill", "decode"],
    "torch_cuda_graph": ["prefill", "decode"],
}
TASKS = {
    "prefill": {"tokens": 8, "batch": 1},
    "decode": {"context": 8, "tokens": 6, "batch": 1},
    "generate": {"tokens": 4},
    "load": {},
    "start": {"tokens": 8},
}
CASES = [(peer, kind) for peer, kinds in OFFERS.items() for kind in kinds]


@pytest.mark.parametrize(("peer", "kind"), CASES)
def test_without_a_gpu_it_sits_out_with_the_reason(peer, kind, model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    order = Order(task={"kind": kind, **TASKS[kind]}, model=str(model), ids=PROMPT, texts=["text"])
    with pytest.raises(Refused, match="is_available") as refused:
        peers.load(peer).prepare(order)
    assert "scripts/on-gpu" in refused.value.remedy


@pytest.mark.parametrize("peer", OFFERS)
def test_it_says_who_it_is_without_a_gpu(peer):
    identity = peers.load(peer).identity()
    assert (identity.precision, identity.settings["device"]) == ("bf16", "cuda")
    assert identity.name == peer.replace("_", "-")


@pytest.mark.parametrize(
    ("peer", "kind"), [("transformers_cuda_compiled", "load"), ("torch_cuda_graph", "start")]
)
def test_what_it_does_not_do_is_refused_before_anything_else(peer, kind):
    with pytest.raises(Refused, match=f"does not offer the task {kind}"):
        peers.load(peer).prepare(Order(task={"kind": kind}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
@pytest.mark.parametrize("peer", OFFERS)
def test_decode_gives_nearly_what_f32_gives(peer, model):
    task = {"kind": "decode", **TASKS["decode"]}
    answer, receipt, laps = run(peer, Order(task=task, model=str(model), ids=PROMPT), times=3)
    ids, logits = by_hand(model, PROMPT, 7)
    assert (receipt.units, laps, len(answer.ids)) == (6, 6, 6)
    if answer.ids == ids[1:]:
        assert abs(receipt.logits - logits[-1]).max() < 0.05 * abs(logits[-1]).max()
