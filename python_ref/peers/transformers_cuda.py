"""GPT2LMHeadModel with `generate()` on an NVIDIA GPU: what most people run there.

Stands for "Python on a GPU" in the claims on CUDA: every operator a call from Python and a kernel launch of
its own, some 235 kernels a step. bfloat16 throughout.
"""

from __future__ import annotations

from peers import _cuda, transformers_generate


class Peer(_cuda.Cuda):
    """The library's loop, on the GPU."""

    name = "transformers-cuda"
    settings = {"loop": "generate", "device": "cuda", "activations": "bf16"}  # noqa: RUF012 - never written to
    step = staticmethod(transformers_generate.prefill)
    decode, generate = transformers_generate.Decode, transformers_generate.Generate
