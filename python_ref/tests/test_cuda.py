"""The peers on a GPU: where torch sees none, each says so and what would change it."""

from __future__ import annotations

import pytest
import torch
from conftest import by_hand, run
from torch.utils._python_dispatch import TorchDispatchMode

import peers
from peers import _gpt2, torch_compile
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


class Operators(TorchDispatchMode):
    """Writes down every operator that is called."""

    def __init__(self):
        """None yet."""
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Note it, and do it."""
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_step_over_a_static_cache_asks_the_host_for_nothing(model):
    """A captured graph would refuse a number read by the host, and keep for ever one brought from it."""
    gpt2 = _gpt2.load(str(model))
    with torch.no_grad():
        cache = torch_compile.static_cache(gpt2, 1, 16)
        first = gpt2(torch.tensor([PROMPT]), past_key_values=cache, logits_to_keep=1)
        ids = first.logits[:, -1].argmax(-1, keepdim=True)
        with Operators() as called:
            gpt2(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    assert any("index_copy_" in name for name in called.names), "the cache is written in place"
    host = ("_local_scalar_dense", "item", "is_nonzero", "_to_copy", "lift_fresh", "nonzero")
    assert [name for name in called.names if any(word in name for word in host)] == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
@pytest.mark.parametrize("peer", OFFERS)
def test_decode_gives_nearly_what_f32_gives(peer, model):
    task = {"kind": "decode", **TASKS["decode"]}
    answer, receipt, laps = run(peer, Order(task=task, model=str(model), ids=PROMPT), times=3)
    ids, logits = by_hand(model, PROMPT, 7)
    assert (receipt.units, laps, len(answer.ids)) == (6, 6, 6)
    if answer.ids == ids[1:]:
        assert abs(receipt.logits - logits[-1]).max() < 0.05 * abs(logits[-1]).max()
