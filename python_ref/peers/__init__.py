"""The peers: what each Python library does best, one file each.

A peer is a module of this package that defines a class `Peer` (see `base.Peer`); its file name is the
name it is started by. Nothing is imported until it is asked for, so that a tokenizer does not carry
PyTorch's memory. Modules that begin with an underscore help peers and are none themselves.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peers.base import Peer


def names() -> list[str]:
    """Every peer's name, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def load(name: str) -> Peer:
    """Import one peer. Raises LookupError for a name that is none, ImportError where a library is missing."""
    if name not in names():
        raise LookupError(f"`{name}` is no peer; there are: {', '.join(names())}")
    return importlib.import_module(f"peers.{name}").Peer()
