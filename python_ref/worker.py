"""Assay's worker without Rust: one peer in one Python process, orders on stdin, replies on stdout.

    python worker.py PEER

The wire: one JSON object a line. The first line out is `hello`; then each order is answered.

| order (field `order`) | replies (field `reply`) |
| --- | --- |
| prepare: workload, task, files, threads | ready, refused (the peer sits it out) or failed |
| measure: samples, limit_ns | a sample a run, then done; failed where a run breaks |
| explain: answer, logits (paths) | done, after the last answer and logits were written |
| footprint | footprint: name and bytes of each part |
| release | done; the job is dropped |
| quit | none; the process ends, as it does when stdin ends |

An answer is written as its ids (little-endian u32), then its text (UTF-8); logits as little-endian
f32. Tasks and files are described in harness/FORMAT.md. Times are nanoseconds, sizes bytes. Clocks, memory
ladder and digests are those of the worker in Rust: CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID,
/proc/self/task/*/schedstat, VmHWM reset through clear_refs after `ready`, the first 16 hexadecimal
digits of SHA-256. Nothing but `Job.run` stands between the two clock readings. The garbage collector
stays on, as it is for everybody who runs Python. Standard library only: what a peer imports is its own.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import footprint
import peers
from peers.base import Answer, Job, Order, Peer, Receipt, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL = 1
CPU = time.CLOCK_PROCESS_CPUTIME_ID
REMEDY = "run scripts/setup"


def read_memory() -> dict[str, int]:
    """VmRSS, VmHWM, Pss and Anonymous of this process, in bytes; 0 where the kernel gives none."""
    status, rollup = _read("/proc/self/status"), _read("/proc/self/smaps_rollup")
    return {
        "rss_bytes": _kib(status, "VmRSS:"),
        "peak_bytes": _kib(status, "VmHWM:"),
        "pss_bytes": _kib(rollup, "Pss:"),
        "anonymous_bytes": _kib(rollup, "Anonymous:"),
    }


def reset_peak() -> None:
    """Start VmHWM anew from the present size, where the kernel lets us."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _kib(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def run_delay_ns() -> int:
    """Sum of the time this process's threads stood ready without a processor."""
    total = 0
    with contextlib.suppress(OSError), os.scandir("/proc/self/task") as tasks:
        for task in tasks:
            with contextlib.suppress(OSError, IndexError), open(f"{task.path}/schedstat") as file:  # noqa: PTH123
                total += int(file.read().split()[1])
    return total


def threads_seen() -> int:
    """Threads this process has."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208


def read_texts(path: str) -> list[str]:
    """A texts file: one JSON string a line, lines ended by a newline alone."""
    texts = []
    for number, line in enumerate(Path(path).read_bytes().removesuffix(b"\n").split(b"\n"), start=1):
        if not line and number == 1:
            return []
        try:
            text = json.loads(line)
            text.encode()  # a lone surrogate is no text
        except (ValueError, AttributeError):
            raise ValueError(f"{path} line {number}: not a JSON string") from None
        texts.append(text)
    return texts


def read_ids(path: str) -> list[int]:
    """An ids file: little-endian u32."""
    data = Path(path).read_bytes()
    if len(data) % 4:
        raise ValueError(f"{path}: {len(data)} bytes are no whole number of u32 ids")
    ids = array.array("I", data)
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tolist()


def to_bytes(answer: Answer) -> bytes:
    """What digests and answer files are made of: ids as little-endian u32, then text as UTF-8."""
    ids = b""
    if answer.ids is not None:
        ids = (
            answer.ids.tobytes() if hasattr(answer.ids, "tobytes") else array.array("I", answer.ids).tobytes()
        )
    return ids + (answer.text or "").encode()


def one_line(error: BaseException) -> str:
    """Return the chain of causes on one line, outermost first."""
    chain, cause = [], error
    while cause is not None:
        chain.append(f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return ": ".join(chain).replace("\n", " | ")


class Session:
    """One peer, its job in hand, and the pipe that replies go to."""

    def __init__(self, name: str, replies: TextIO, spawned_ns: int) -> None:
        """Import the peer; where a library is missing, every workload will be refused with the reason."""
        self._replies = replies
        self._spawned_ns = spawned_ns
        self._missing: ImportError | None = None
        self._peer: Peer | None = None
        try:
            self._peer = peers.load(name)
            identity = self._peer.identity()
            name = identity.name
            who = {
                "engine": name if "/" in name else f"python-alone/{name}",
                "language": "python",
                "precision": identity.precision,
                "versions": {"python": sys.version.split()[0], **identity.versions},
                "settings": identity.settings,
            }
        except ImportError as error:
            self._missing = error
            who = {"engine": f"python-alone/{name}", "language": "python"}
        self.say("hello", protocol=PROTOCOL, identity=who, since_spawn_ns=self._since(), memory=read_memory())
        self._job: Job | None = None
        self._given: Any = None
        self._first = True

    def say(self, reply: str, **fields: Any) -> None:  # noqa: ANN401 - JSON
        """Write one reply."""
        self._replies.write(json.dumps({"reply": reply, **fields}, separators=(",", ":")) + "\n")
        self._replies.flush()

    def _since(self) -> int:
        return max(0, time.monotonic_ns() - self._spawned_ns)

    def done(self) -> None:
        """Write the reply to an order that went to its end."""
        self.say("done", memory=read_memory(), threads_seen=threads_seen())

    def prepare(self, order: dict[str, Any]) -> None:
        """Read the files and hand the order to the peer."""
        began = time.monotonic_ns()
        self._job = self._given = None
        if self._missing is not None:
            self.say("refused", reason=one_line(self._missing), remedy=REMEDY)
            return
        files = order["files"]
        texts, ids = files.get("texts"), files.get("ids")
        prepared = Order(
            task=order["task"],
            threads=order["threads"],
            model=files.get("model"),
            vocabulary=files.get("vocabulary"),
            texts=None if texts is None else read_texts(texts),
            ids=None if ids is None else read_ids(ids),
        )
        try:
            job = self._peer.prepare(prepared)
        except Refused as refusal:
            self.say("refused", reason=refusal.reason, remedy=refusal.remedy)
            return
        except ImportError as error:
            self.say("refused", reason=one_line(error), remedy=REMEDY)
            return
        self._given = prepared.need(job.takes) if job.takes else None
        self._job, self._first = job, True
        memory = read_memory()
        self.say(
            "ready",
            prepare_ns=time.monotonic_ns() - began,
            since_spawn_ns=self._since(),
            memory=memory,
            threads_seen=threads_seen(),
        )
        reset_peak()

    def measure(self, order: dict[str, Any]) -> None:
        """Take samples until there are enough or the time is spent; one at least."""
        job, given = self.need_job(), self._given
        deadline = time.monotonic_ns() + order["limit_ns"]
        for number in range(max(1, order["samples"])):
            if number and time.monotonic_ns() >= deadline:
                break
            job.reset()
            ends: list[int] = []
            stamp, now = ends.append, time.monotonic_ns

            def mark() -> None:
                stamp(now())  # noqa: B023 - used within this turn of the loop

            delay = run_delay_ns()
            cpu = time.clock_gettime_ns(CPU)
            wall = now()
            job.run(given, mark)
            end = now()
            cpu = time.clock_gettime_ns(CPU) - cpu
            delay = max(0, run_delay_ns() - delay)
            receipt, data = self.prove()
            self.say(
                "sample",
                first=self._first,
                wall_ns=end - wall,
                cpu_ns=cpu,
                run_delay_ns=delay,
                since_spawn_ns=max(0, (ends[-1] if ends else end) - self._spawned_ns),
                laps_ns=[b - a for a, b in zip([wall, *ends], ends, strict=False)],
                units=receipt.units,
                unit=receipt.unit,
                digest=hashlib.sha256(data).hexdigest()[:16] if data is not None else "",
            )
            self._first = False
        self.done()

    def prove(self) -> tuple[Receipt, bytes | None]:
        """Return the last run's receipt and answer; None where there is none to compare."""
        job = self.need_job()
        receipt, answer = job.receipt(), job.answer()
        nothing = not receipt.compare or (answer.ids is None and answer.text is None)
        return receipt, None if nothing else to_bytes(answer)

    def explain(self, order: dict[str, Any]) -> None:
        """Write the last answer and logits to files."""
        receipt, data = self.prove()
        Path(order["answer"]).write_bytes(data or b"")
        if receipt.logits is not None:
            Path(order["logits"]).write_bytes(receipt.logits.astype("<f4", copy=False).tobytes())
        self.done()

    def need_job(self) -> Job:
        """Return the job in hand."""
        if self._job is None:
            raise LookupError("nothing is prepared")
        return self._job

    def obey(self, order: dict[str, Any]) -> bool:
        """Carry out one order; False ends the process."""
        match order["order"]:
            case "prepare":
                self.prepare(order)
            case "measure":
                self.measure(order)
            case "explain":
                self.explain(order)
            case "footprint":
                self.release()
                if self._peer is None:
                    raise LookupError(f"{one_line(self._missing)}; {REMEDY}")
                self.say("footprint", parts=footprint.parts(self._peer.distributions))
            case "release":
                self.release()
                self.done()
            case "quit":
                return False
            case other:
                raise SystemExit(f"not an order: {other!r}")
        return True

    def release(self) -> None:
        """Drop the job and what it holds."""
        self._job = self._given = None


def orders() -> Iterator[dict[str, Any]]:
    """Read stdin line by line until it ends."""
    for line in sys.stdin.buffer:
        try:
            order = json.loads(line)
            order["order"]
        except (ValueError, TypeError, KeyError):
            raise SystemExit(f"not an order: {line.decode(errors='replace').strip()}") from None
        yield order


def main() -> None:
    """Serve one peer until `quit` or the end of stdin."""
    if len(sys.argv) != 2 or sys.argv[1] not in peers.names():
        raise SystemExit(f"usage: worker.py PEER, where PEER is one of: {', '.join(peers.names())}")
    # Replies go to a private copy of stdout; fd 1 becomes stderr, because libraries print.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        spawned_ns = int(os.environ["ASSAY_SPAWNED_NS"])
    except (KeyError, ValueError):
        spawned_ns = time.monotonic_ns()
    try:
        session = Session(sys.argv[1], replies, spawned_ns)
        for order in orders():
            try:
                if not session.obey(order):
                    return
            except BrokenPipeError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a peer raises is a row
                session.say("failed", error=one_line(error))
    except BrokenPipeError:
        raise SystemExit("the harness is gone") from None


if __name__ == "__main__":
    main()
