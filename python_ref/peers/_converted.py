"""A checkpoint in another format, made once for each content and kept.

`$CONVERTED_MODELS` (or a folder of the user's cache) holds `<digest>-<kind>` for each model folder and
format; the digest is SHA-256 over config.json and the safetensors files. Reading half a gigabyte for it
takes longer than some engines take to start, so it is kept beside them, together with the sizes and times
of the files it was taken of, and taken anew when one of these differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def home() -> Path:
    """Where converted models are kept."""
    if named := os.environ.get("CONVERTED_MODELS"):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(cache, "converted-models")


def sources(model: str) -> list[Path]:
    """Return the files that decide a model: its configuration and its weights, sorted."""
    weights = sorted(Path(model).glob("*.safetensors"))
    if not Path(model, "config.json").is_file() or not weights:
        raise FileNotFoundError(
            f"{model}: no config.json or no safetensors; name a Hugging Face GPT-2 folder"
        )
    return [Path(model, "config.json"), *weights]


def digest(model: str) -> str:
    """Return 16 hexadecimal digits of the model's content."""
    files = sources(model)
    seen = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    place = hashlib.sha256(str(Path(model).resolve()).encode()).hexdigest()[:16]
    stamp = home() / f"{place}.json"
    try:
        known = json.loads(stamp.read_text())
        if known["files"] == seen:
            return known["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or not ours: taken anew
    parts = ""
    for file in files:
        with file.open("rb") as data:
            parts += hashlib.file_digest(data, "sha256").hexdigest()[:16]
    found = hashlib.sha256(parts.encode()).hexdigest()[:16]
    home().mkdir(parents=True, exist_ok=True)
    draft = stamp.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"files": seen, "digest": found}))
    draft.replace(stamp)
    return found


def converted(model: str, kind: str, write: Callable[[Path], None]) -> tuple[Path, bool]:
    """Return the folder of the model as `kind`, and whether it was there before.

    `write` fills an empty folder, which takes its final name when it is whole.
    """
    folder = home() / f"{digest(model)}-{kind}"
    if folder.is_dir():
        return folder, True
    draft = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        write(draft)
        draft.rename(folder)
    except OSError:
        # Somebody else may have been as quick; theirs is as good.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder, False
