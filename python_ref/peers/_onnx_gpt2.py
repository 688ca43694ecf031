"""GPT-2 as an ONNX graph, made of the fused operators that ONNX Runtime's own tools make of it.

A Hugging Face folder in, `model.onnx` and `weights.bin` out. One graph serves prompts and steps: keys and
values live in buffers of fixed size that the caller binds as past and present alike, so a step writes one
position and copies nothing. The head reads the last position only.

| operator (domain com.microsoft) | in place of |
| --- | --- |
| GroupQueryAttention | split, scores, mask, softmax, context, concatenation of the cache |
| SkipLayerNormalization | bias, residual addition, LayerNorm; its fourth output is the residual stream |
| FastGelu | bias, and GELU's tanh form (GPT-2's `gelu_new`) |

GroupQueryAttention takes heads whose width is a multiple of 8. Narrower ones (toy models) are padded with
zeros, which change no product; the scale is that of the true width.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

GRAPH, WEIGHTS = "model.onnx", "weights.bin"
#: Offsets of tensors in the weights' file: whole pages, so that it can be mapped.
PAGE = 4096
#: Versions of the operators: ONNX's own, and ONNX Runtime's.
OPSETS = {"": 17, "com.microsoft": 1}


@dataclass(frozen=True)
class Config:
    """The fields of config.json that decide the computation."""

    n_layer: int
    n_head: int
    n_embd: int
    n_positions: int
    vocab_size: int
    layer_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = True

    @classmethod
    def read(cls, folder: str | Path) -> Config:
        """Read config.json; refuse with an error what the graph does not compute."""
        path = Path(folder, "config.json")
        fields = json.loads(path.read_text())
        for name, wanted in (
            ("activation_function", ("gelu_new", "gelu_pytorch_tanh")),
            ("scale_attn_weights", (True,)),
            ("scale_attn_by_inverse_layer_idx", (False,)),
        ):
            if fields.get(name, wanted[0]) not in wanted:
                raise ValueError(f"{path}: {name} {fields[name]!r} is not computed here, only {wanted[0]!r}")
        missing = [name for name in cls.__annotations__ if name not in fields and not hasattr(cls, name)]
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}")
        config = cls(**{name: fields[name] for name in cls.__annotations__ if name in fields})
        if config.n_embd % config.n_head:
            raise ValueError(f"{path}: n_embd {config.n_embd} is no multiple of n_head {config.n_head}")
        return config

    @property
    def head_width(self) -> int:
        """H: width of a head."""
        return self.n_embd // self.n_head

    @property
    def padded_width(self) -> int:
        """H rounded up to what the attention operator takes."""
        return -(-self.head_width // 8) * 8


def read_weights(folder: str | Path) -> dict[str, np.ndarray]:
    """Return every tensor as f32, without the prefix `transformer.`."""
    from safetensors import safe_open  # noqa: PLC0415

    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                tensors[name.removeprefix("transformer.")] = file.get_tensor(name).astype(np.float32)
    return tensors


def pad_heads(config: Config, matrix: np.ndarray, axis: int) -> np.ndarray:
    """Widen the heads that lie along `axis` with zeros."""
    width, wanted = config.head_width, config.padded_width
    if width == wanted:
        return matrix
    heads = matrix.shape[axis] // width
    shape = (*matrix.shape[:axis], heads, width, *matrix.shape[axis + 1 :])
    room = [(0, 0)] * len(shape)
    room[axis + 1] = (0, wanted - width)
    whole = (*matrix.shape[:axis], heads * wanted, *matrix.shape[axis + 1 :])
    return np.pad(matrix.reshape(shape), room).reshape(whole)


class Graph:
    """Nodes and initialisers on their way into a file."""

    def __init__(self, folder: Path) -> None:
        """Open the weights' file."""
        self._file = (folder / WEIGHTS).open("wb")
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def weight(self, name: str, values: np.ndarray) -> str:
        """Append values to the weights' file and describe where they lie."""
        import onnx  # noqa: PLC0415

        self._file.write(bytes(-self._file.tell() % PAGE))
        tensor = onnx.TensorProto(name=name, dims=values.shape, data_type=onnx.TensorProto.FLOAT)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": WEIGHTS, "offset": self._file.tell(), "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._file.write(np.ascontiguousarray(values).tobytes())
        self.initializers.append(tensor)
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:  # noqa: ANN401
        """Append a node; return its first output."""
        from onnx import helper  # noqa: PLC0415

        ours = kind in {"GroupQueryAttention", "SkipLayerNormalization", "FastGelu"}
        domain = "com.microsoft" if ours else ""
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def close(self) -> None:
        """Everything is written."""
        self._file.close()


def blocks(graph: Graph, config: Config, tensors: dict[str, np.ndarray], stream: str) -> str:
    """Append the blocks and the final norm behind the embedded `stream`; return the normed stream.

    A block ends in the norm of the next one, because addition and norm are one operator.
    """
    take, epsilon = tensors.pop, config.layer_norm_epsilon
    first = [graph.weight(f"h.0.ln_1.{part}", take(f"h.0.ln_1.{part}")) for part in ("weight", "bias")]
    normed = graph.node("LayerNormalization", [stream, *first], ["h.0.normed"], epsilon=epsilon)
    for at in range(config.n_layer):
        name = f"h.{at}"
        matrix = pad_qkv(config, take(f"{name}.attn.c_attn.weight"))
        qkv = graph.node("MatMul", [normed, graph.weight(f"{name}.qkv", matrix)], [f"{name}.product"])
        bias = graph.weight(f"{name}.qkv.bias", pad_qkv(config, take(f"{name}.attn.c_attn.bias")))
        qkv = graph.node("Add", [qkv, bias], [f"{name}.packed"])
        heads = graph.node(
            "GroupQueryAttention",
            [qkv, "", "", f"past_key_{at}", f"past_value_{at}", "last", "total"],
            [f"{name}.heads", f"present_key_{at}", f"present_value_{at}"],
            num_heads=config.n_head,
            kv_num_heads=config.n_head,
            scale=config.head_width**-0.5,
        )
        projection = pad_heads(config, take(f"{name}.attn.c_proj.weight"), 0)
        out = graph.node("MatMul", [heads, graph.weight(f"{name}.proj", projection)], [f"{name}.attended"])
        names = [f"{name}.ln_2.weight", f"{name}.ln_2.bias", f"{name}.attn.c_proj.bias"]
        normed, stream = skip_norm(graph, config, out, stream, {n: take(n) for n in names})
        fc = graph.weight(f"{name}.fc", take(f"{name}.mlp.c_fc.weight"))
        inner = graph.node("MatMul", [normed, fc], [f"{name}.inner"])
        bias = graph.weight(f"{name}.fc.bias", take(f"{name}.mlp.c_fc.bias"))
        active = graph.node("FastGelu", [inner, bias], [f"{name}.active"])
        down = graph.weight(f"{name}.down", take(f"{name}.mlp.c_proj.weight"))
        out = graph.node("MatMul", [active, down], [f"{name}.out"])
        following = f"h.{at + 1}.ln_1" if at + 1 < config.n_layer else "ln_f"
        names = [f"{following}.weight", f"{following}.bias", f"{name}.mlp.c_proj.bias"]
        normed, stream = skip_norm(graph, config, out, stream, {n: take(n) for n in names})
    return normed


def pad_qkv(config: Config, values: np.ndarray) -> np.ndarray:
    """Pad the heads of q, k and v, which lie side by side on the last axis."""
    return pad_heads(config, values, values.ndim - 1)


def skip_norm(
    graph: Graph, config: Config, added: str, stream: str, weights: dict[str, np.ndarray]
) -> tuple[str, str]:
    """Add `added` and a bias to `stream`, and norm the sum. `weights`: norm, its shift, the bias to add."""
    gain, shift, bias = (graph.weight(name, values) for name, values in weights.items())
    outputs = [f"{added}.normed", "", "", f"{added}.stream"]
    inputs = [added, stream, gain, shift, bias]
    graph.node("SkipLayerNormalization", inputs, outputs, epsilon=config.layer_norm_epsilon)
    return outputs[0], outputs[3]


def write(source: str | Path, folder: Path) -> None:
    """Write the model of `source` as a graph into `folder`."""
    import onnx  # noqa: PLC0415
    from onnx import helper  # noqa: PLC0415

    config, tensors, graph = Config.read(source), read_weights(source), Graph(folder)
    try:
        wte = graph.weight("wte", tensors.pop("wte.weight"))
        wpe = graph.weight("wpe", tensors.pop("wpe.weight"))
        token = graph.node("Gather", [wte, "ids"], ["token"])
        position = graph.node("Gather", [wpe, "positions"], ["position"])
        stream = graph.node("Add", [token, position], ["embedded"])
        normed = blocks(graph, config, tensors, stream)
        tied = config.tie_word_embeddings
        head = wte if tied else graph.weight("lm_head", tensors.pop("lm_head.weight"))
    except KeyError as lacking:
        raise ValueError(f"{source}: the checkpoint lacks {lacking.args[0]}") from None
    finally:
        graph.close()
    graph.initializers.append(helper.make_tensor("minus_one", onnx.TensorProto.INT64, [], [-1]))
    last = graph.node("Gather", [normed, "minus_one"], ["last_position"], axis=1)
    graph.node("Gemm", [last, head], ["logits"], transB=1)
    made = helper.make_graph(
        graph.nodes, "gpt2", list(inputs(config)), list(outputs(config)), graph.initializers
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(made, opset_imports=opsets, ir_version=8)
    (folder / GRAPH).write_bytes(model.SerializeToString())


def inputs(config: Config) -> Iterator[onnx.ValueInfoProto]:
    """Ids (B x S) and their positions (S), each sequence's last filled one, the length, the cache."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    yield helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", "S"])
    yield helper.make_tensor_value_info("positions", TensorProto.INT64, ["S"])
    yield helper.make_tensor_value_info("last", TensorProto.INT32, ["B"])
    yield helper.make_tensor_value_info("total", TensorProto.INT32, [1])
    yield from cache(config, "past")


def outputs(config: Config) -> Iterator[onnx.ValueInfoProto]:
    """Logits of the last position (B x V), the cache."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    yield helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", config.vocab_size])
    yield from cache(config, "present")


def cache(config: Config, side: str) -> Iterator[onnx.ValueInfoProto]:
    """Keys and values of every block: B x N x M x H, M positions of room."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    shape = ["B", config.n_head, "M", config.padded_width]
    for at in range(config.n_layer):
        for part in ("key", "value"):
            yield helper.make_tensor_value_info(f"{side}_{part}_{at}", TensorProto.FLOAT, shape)
