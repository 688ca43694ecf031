"""Byte-level BPE in plain Python without the word cache: every word is merged anew.

Stands for the worst reading of "Rust is 10-100x faster than pure Python", and shows how much of
pure-bpe's speed is its dictionary rather than its language.
"""

from __future__ import annotations

from peers import pure_bpe


class Peer(pure_bpe.Peer):
    """As pure_bpe, with nothing remembered."""

    name = "pure-bpe-nocache"
    cached = False
