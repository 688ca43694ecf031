"""What a peer is: the words every peer and both workers share. Standard library only.

A worker reads an order's files, calls `prepare` once and then, again and again, `reset` (off the
clock), `run` (on the clock), `answer` and `receipt`. The worker without Rust calls `answer` off the
clock: its user already holds the Python objects. The one that embeds Python in Rust calls it on the
clock: bringing the result into another language is part of what it measures.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    Ids = Sequence[int] | np.ndarray
    Given = list[str] | Ids | None
    Mark = Callable[[], None]


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error
    """This peer sits the workload out: a visible row with its reason, no fault."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        """Keep the reason (one line) and what would change it (may be empty)."""
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Order:
    """One workload. `texts` and `ids` are what the order's files held, None where it named none."""

    task: dict[str, Any]
    threads: int = 1
    model: str | None = None
    vocabulary: str | None = None
    texts: list[str] | None = None
    ids: Ids | None = None

    @property
    def kind(self) -> str:
        """The task's kind: encode, prefill, and so on."""
        return self.task["kind"]

    def need(self, name: str) -> Any:  # noqa: ANN401 - one of the fields above
        """Return the field, or say that the order lacked it."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"the order names no {name} (files.{name})")
        return value


class Answer(NamedTuple):
    """What came out, in order: ids, text, both or (a load) nothing."""

    ids: Ids | None = None
    text: str | None = None


@dataclass(slots=True)
class Receipt:
    """How much work the last run did."""

    units: int
    unit: str = "tokens"
    #: B x V float32 of the last position, where the task has them.
    logits: np.ndarray | None = None
    #: False where the answer may differ from engine to engine (sampling): it is not digested.
    compare: bool = True


class Job(Protocol):
    """One workload, ready to run again and again."""

    #: What `run` is given each time: "texts", "ids" or "" (it holds all it needs).
    takes: str

    def reset(self) -> None:
        """Off the clock, before every run: back to where the run starts from."""

    def run(self, given: Given, mark: Mark) -> None:
        """Once, to the end. Calls `mark()` when each token id is known to the host."""

    def answer(self) -> Answer:
        """The last run's result: flat ids, text."""

    def receipt(self) -> Receipt:
        """Count and logits of the last run. Never timed."""


@dataclass(slots=True)
class Identity:
    """Who a peer is: stamped on every row."""

    #: Variant: the part after the slash of the engine's name; the whole name of a family of its own.
    name: str
    versions: dict[str, str]
    precision: str = ""
    settings: dict[str, str] = field(default_factory=dict)


class Peer(Protocol):
    """One contestant. `distributions` are the packages a user installs for it."""

    distributions: tuple[str, ...]

    def identity(self) -> Identity:
        """Name, versions, precision and settings in force."""

    def prepare(self, order: Order) -> Job:
        """Off the clock: load, compile, allocate. Raises Refused where this peer sits out."""


def refuse(peer: str, kind: str) -> Refused:
    """Return the refusal of a task that a peer does not know."""
    return Refused(f"{peer} does not offer the task {kind}")


def as_list(ids: Ids) -> list[int]:
    """Return ids as the list that most libraries' decode wants."""
    return ids if isinstance(ids, list) else ids.tolist()


_pool: int | None = None


def set_rayon_threads(threads: int) -> None:
    """Settle the size of rayon's pool, which the Rust wheels make once a process, at first use.

    One thread means no pool at all for Hugging Face's tokenizers: the calling thread does the work.
    Raises Refused when the pool already has another size.
    """
    global _pool  # noqa: PLW0603 - the pool is the process's too
    if _pool is None:
        os.environ["RAYON_NUM_THREADS"] = os.environ["RAYON_RS_NUM_CPUS"] = str(threads)
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
        _pool = threads
    elif _pool != threads:
        raise Refused(
            f"this process's thread pool has {_pool} threads; {threads} were asked for",
            "start a fresh process for each number of threads",
        )
