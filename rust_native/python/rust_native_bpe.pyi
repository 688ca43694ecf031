"""Byte-level BPE: text to token ids and back.

Ids are numpy arrays of uint32 over the memory that Rust wrote them to; nothing is copied. The interpreter's
lock is released while a text of 2 KiB or more is worked on. A `str` with a lone surrogate is refused with
UnicodeEncodeError.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

#: What happens to the spelling of a special token, such as `<|endoftext|>`, inside a text: it is an error
#: (ValueError, as tiktoken's `encode` does), it becomes the special id (as Hugging Face's `encode` does), or
#: it is ordinary text (as tiktoken's `encode_ordinary` does). Text from outside should not be able to end a
#: prompt, so the other two have to be asked for.
_Special: TypeAlias = Literal["refuse", "allow", "ignore"]

__version__: Final[str]
#: The instruction set that was chosen for this processor: `avx512`, `avx2`, `neon`, …
isa: Final[str]

@final
class Tokenizer:
    """A byte-level BPE tokenizer. It never changes; threads share it.

    It keeps working memory with a cache of words for as many calls as ever ran at once, up to 10 MiB each.
    """

    @staticmethod
    def gpt2() -> Tokenizer:
        """GPT-2's tokenizer, 50257 ids; no file is needed. Takes some milliseconds: keep it."""

    @staticmethod
    def from_file(path: str | os.PathLike[str]) -> Tokenizer:
        """Read a tokenizer.json, or a folder that has one or vocab.json with merges.txt.

        OSError for what cannot be read; ValueError, with file and place, for what is damaged or is not
        byte-level BPE.
        """

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are, special ones included; they run from 0 on."""

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens and their ids, in order of id."""

    def encode(self, text: str | bytes, *, special: _Special = "refuse") -> NDArray[np.uint32]:
        """Return the ids of a text, an array of one dimension that nobody else has.

        Bytes need not be UTF-8; their ids decode to the same bytes.
        """

    def encode_batch(
        self, texts: Sequence[str | bytes], *, special: _Special = "refuse", threads: int = 1
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Return the ids of many texts in one array, and where each text's begin.

        Those of text i are `ids[starts[i]:starts[i + 1]]`, and `starts` has one number more than there are
        texts: `numpy.split(ids, starts[1:-1])` makes a list of arrays, `numpy.diff(starts)` counts the ids of
        each text. One array and not one a text: for short texts making an array costs as much as encoding.
        A single long text is worked on by all `threads` too.
        """

    def count(self, text: str | bytes, *, special: _Special = "refuse") -> int:
        """Return how many ids `encode` would give, in memory that does not grow with the text."""

    def decode(self, ids: NDArray[np.integer] | Iterable[int]) -> str:
        """Return the text of ids; what is not UTF-8 becomes U+FFFD. ValueError for an id that there is not.

        Arrays of uint32 and int64 are the fast ones.
        """

    def decode_bytes(self, ids: NDArray[np.integer] | Iterable[int]) -> bytes:
        """Return the bytes of ids, those that were encoded. ValueError for an id that there is not."""
