"""The written graph, and the folder where converted models are kept."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conftest import by_hand, run

import peers
from peers import _converted
from peers._onnx_gpt2 import Config, write
from peers.base import Order, Refused


def small(folder, **fields):
    """Write a model whose heads are too narrow for the attention operator."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(2)
    sizes = {"n_layer": 2, "n_head": 6, "n_embd": 12, "n_positions": 32, "vocab_size": 50}
    config = GPT2Config(**(sizes | fields), initializer_range=0.5, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("fields", [{}, {"tie_word_embeddings": False}, {"n_head": 1}, {"n_inner": 20}])
def test_padded_heads_and_heads_of_its_own_change_nothing(fields, tmp_path):
    model, ids = small(tmp_path, **fields), [3, 1, 4, 1, 5]
    order = Order(task={"kind": "decode", "context": 5, "tokens": 4, "batch": 1}, model=str(model), ids=ids)
    answer, receipt, _ = run("onnxruntime_f32", order, times=2)
    expected, logits = by_hand(model, ids, 5)
    assert answer.ids == expected[1:]
    np.testing.assert_allclose(receipt.logits[0], logits[-1], atol=1e-4)


def test_a_start_is_refused_until_the_graph_is_there(tmp_path):
    model = small(tmp_path, n_embd=24)
    order = Order(task={"kind": "start", "tokens": 2}, model=str(model), ids=[7, 8])
    with pytest.raises(Refused, match="written as ONNX first"):
        peers.load("onnxruntime_f32").prepare(order)
    assert run("onnxruntime_f32", order, [7, 8])[0].ids == by_hand(model, [7, 8], 1)[0]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"activation_function": "relu"}, "activation_function 'relu' is not computed"),
        ({"scale_attn_weights": False}, "scale_attn_weights False is not computed"),
        ({"n_head": 5}, "n_embd 12 is no multiple of n_head 5"),
        ({"n_layer": None}, "lacks n_layer"),
        ({"n_layer": 3}, r"the checkpoint lacks h\.2\."),
    ],
)
def test_what_the_graph_does_not_compute_is_named(fields, says, tmp_path):
    model = small(tmp_path)
    path = model / "config.json"
    changed = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))
    order = Order(task={"kind": "load"}, model=str(model))
    with pytest.raises(ValueError, match=says):
        peers.load("onnxruntime_f32").prepare(order)


def test_the_content_decides_which_conversion_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVERTED_MODELS", str(tmp_path / "home"))
    first = small(tmp_path / "first")
    made = []

    def touch(draft):
        made.append(draft)
        (draft / "there").touch()

    folder, was_there = _converted.converted(str(first), "kind", touch)
    assert not was_there
    assert (folder / "there").is_file()
    assert _converted.converted(str(first), "kind", touch) == (folder, True)
    shutil.copytree(first, tmp_path / "copy")
    assert _converted.converted(str(tmp_path / "copy"), "kind", touch) == (folder, True)
    small(tmp_path / "copy", n_layer=1)
    other, was_there = _converted.converted(str(tmp_path / "copy"), "kind", touch)
    assert other != folder
    assert not was_there
    assert len(made) == 2
    assert not any(draft.exists() for draft in made), "drafts are renamed"


def test_a_conversion_that_breaks_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVERTED_MODELS", str(tmp_path / "home"))
    model = small(tmp_path / "model")

    def breaks(draft):
        (draft / "half").touch()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        _converted.converted(str(model), "kind", breaks)
    assert [path.suffix for path in (tmp_path / "home").iterdir()] == [".json"], "the digest's stamp alone"


def test_every_weight_is_written_once(tmp_path):
    model = small(tmp_path / "model")
    (tmp_path / "out").mkdir()
    write(model, tmp_path / "out")
    config = Config.read(model)
    padded = config.n_head * (config.padded_width - config.head_width)
    least = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    written = (tmp_path / "out" / "weights.bin").stat().st_size
    zeros = 4 * config.n_layer * padded * (3 * config.n_embd + 3 + config.n_embd)
    tensors = 4 + 12 * config.n_layer
    assert least * 0.9 < written < least + zeros + 4096 * tensors
