"""What a peer needs on disk: the interpreter, and the packages its root packages ask for.

The closure follows `Requires-Dist` without extras; sizes are what each package's RECORD lists.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Part = dict[str, str | int]


def parts(roots: Iterable[str], executable: str = sys.executable) -> list[Part]:
    """Name and bytes of every part, packages first, the interpreter last."""
    return [*map(_package, closure(roots)), *interpreter(executable)]


def closure(roots: Iterable[str]) -> list[str]:
    """Return the roots and all they require here, sorted. Raises PackageNotFoundError for a missing root."""
    waiting, found = list(roots), set()
    for root in waiting:
        importlib.metadata.distribution(root)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # required elsewhere (another platform); this installation runs without it
        found.add(name)
        waiting.extend(filter(None, map(_required_name, requirements)))
    return sorted(found)


def _required_name(requirement: str) -> str | None:
    """`numpy>=1; python_version < "4"` to `numpy`; None where its marker rules it out here."""
    try:
        from packaging.requirements import Requirement  # noqa: PLC0415 - may be absent
    except ImportError:
        # Without it a marker cannot be judged; extras are the common ones, and are left out.
        head, _, marker = requirement.partition(";")
        return None if "extra" in marker else re.match(r"[\w.-]+", head.strip()).group()
    parsed = Requirement(requirement)
    return parsed.name if parsed.marker is None or parsed.marker.evaluate({"extra": ""}) else None


def _package(name: str) -> Part:
    distribution = importlib.metadata.distribution(name)
    paths = (Path(distribution.locate_file(file)) for file in distribution.files or [])
    return {
        "name": f"{distribution.metadata['Name']} {distribution.version}",
        "bytes": sum(path.stat().st_size for path in paths if path.is_file()),
    }


def interpreter(executable: str) -> list[Part]:
    """The standard library, libpython, the program that runs it.

    What no peer needs is left out: its test suite, the static libpython, compiled caches, packages.
    """
    library = Path(sysconfig.get_path("stdlib"))
    needless = {"site-packages", "test", "__pycache__"}
    files = (
        path for path in library.rglob("*") if not needless.intersection(path.parts) and path.suffix != ".a"
    )
    found = [
        {
            "name": f"Python {sys.version.split()[0]} standard library",
            "bytes": sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink()),
        }
    ]
    directory, shared = sysconfig.get_config_vars("LIBDIR", "INSTSONAME")
    binaries = (Path(directory or "", shared or ""), Path(executable).resolve())
    found.extend({"name": path.name, "bytes": path.stat().st_size} for path in binaries if path.is_file())
    return found
