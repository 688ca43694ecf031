"""GPT-2's byte alphabet and the vocabulary files as bytes: what a tokenizer of one's own starts from.

GPT-2 writes each of the 256 bytes as one printable character: printable Latin-1 stands for itself,
the other 68 bytes are the characters from U+0100 on, in order (Radford et al., 2019, encoder.py).
"""

from __future__ import annotations

import json
from pathlib import Path

#: Not made by merges, and never made from plain text.
END_OF_TEXT = "<|endoftext|>"

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in set(_PRINTABLE)]

#: Byte to its character.
CHARACTER_OF = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(0x100 + at) for at, byte in enumerate(_OTHERS)
}
#: Character to its byte.
BYTE_OF = {character: byte for byte, character in CHARACTER_OF.items()}

#: How GPT-2 cuts text before any merge; `regex`'s syntax (`re` has no classes of characters).
SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def read_ids(folder: str) -> dict[str, int]:
    """Read vocab.json: written token to id."""
    return json.loads(Path(folder, "vocab.json").read_text(encoding="utf-8"))


def read_merges(folder: str) -> list[tuple[str, str]]:
    """Read merges.txt: pairs of written tokens, first merged first."""
    path = Path(folder, "merges.txt")
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        match line.split(" "):
            case [left, right]:
                pairs.append((left, right))
            case _:
                raise ValueError(f"{path} line {number}: a merge is two tokens, not {line!r}")
    return pairs


def to_bytes(token: str) -> bytes:
    """Return the bytes a written token stands for."""
    if token == END_OF_TEXT:
        return token.encode()
    return bytes(BYTE_OF[character] for character in token)
