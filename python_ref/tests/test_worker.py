"""Conversations with worker.py as a process of its own: the wire, its faults, its receipts."""

from __future__ import annotations

import array
import hashlib
import json
import time

from conftest import NASTY, measure, prepare, write_texts

FOOTPRINT = {"order": "footprint"}
RELEASE = {"order": "release"}
QUIT = {"order": "quit"}


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def u32(ids):
    return array.array("I", ids).tobytes()


def test_an_order_is_measured_and_proved(talk, vocabulary, tmp_path):
    texts = write_texts(tmp_path / "texts", NASTY)
    order = prepare({"kind": "encode", "batch": False}, vocabulary=vocabulary, texts=texts)
    explain = {
        "order": "explain",
        "answer": str(tmp_path / "answer"),
        "logits": str(tmp_path / "logits"),
    }
    spawned = time.monotonic_ns()
    replies, done = talk("pure_bpe", order, measure(3), explain, RELEASE, QUIT, spawned_ns=spawned)
    assert done.returncode == 0, done.stderr
    words = [reply["reply"] for reply in replies]
    assert words == ["hello", "ready", "sample", "sample", "sample", "done", "done", "done"]
    hello, ready, *samples = replies[:5]
    assert hello["protocol"] == 1
    identity = hello["identity"]
    assert (identity["engine"], identity["language"]) == ("python-alone/pure-bpe", "python")
    assert {"python", "regex"} <= identity["versions"].keys()
    assert set(hello["memory"]) == {"rss_bytes", "peak_bytes", "pss_bytes", "anonymous_bytes"}
    assert all(value > 1 << 20 for value in hello["memory"].values())
    assert 0 < hello["since_spawn_ns"] < ready["since_spawn_ns"] < samples[0]["since_spawn_ns"]
    answer = (tmp_path / "answer").read_bytes()
    assert len(answer) == 4 * samples[0]["units"]
    assert [sample["first"] for sample in samples] == [True, False, False]
    for sample in samples:
        assert sample["digest"] == digest(answer)
        assert sample["wall_ns"] > 0
        assert sample["cpu_ns"] > 0
        assert (sample["unit"], sample["laps_ns"]) == ("tokens", [])
    assert not (tmp_path / "logits").exists()


def test_laps_logits_and_the_same_ids_from_both_loops(talk, model, tmp_path):
    ids = tmp_path / "ids"
    ids.write_bytes(u32([5, 17, 300, 8]))
    order = prepare({"kind": "decode", "context": 4, "tokens": 5, "batch": 1}, model=model, ids=ids)
    answers = []
    for peer in ("transformers_loop", "transformers_generate"):
        explain = {"order": "explain", "answer": f"{tmp_path}/{peer}", "logits": f"{tmp_path}/logits"}
        replies, _ = talk(peer, order, measure(2), explain)
        samples = [reply for reply in replies if reply["reply"] == "sample"]
        assert len(samples) == 2
        for sample in samples:
            assert len(sample["laps_ns"]) == sample["units"] == 5
            assert 0 < sum(sample["laps_ns"]) <= sample["wall_ns"]
            assert sample["digest"] == digest((tmp_path / peer).read_bytes())
        answers.append((tmp_path / peer).read_bytes())
        logits = array.array("f", (tmp_path / "logits").read_bytes())
        assert len(logits) == 900
        # The answer's last id is the likeliest of the logits that came with it.
        assert max(range(900), key=logits.__getitem__) == array.array("I", answers[-1])[-1]
    assert answers[0] == answers[1]


def test_generated_text_follows_its_ids(talk, model, vocabulary, tmp_path):
    from tokenizers import Tokenizer

    texts = write_texts(tmp_path / "texts", ["def answer"])
    files = {"model": model, "vocabulary": vocabulary, "texts": texts}
    explain = {"order": "explain", "answer": f"{tmp_path}/answer", "logits": f"{tmp_path}/logits"}
    sampling = {"temperature": 0.8, "top_k": 0, "top_p": 0.9, "seed": 1}
    replies, _ = talk(
        "transformers_loop",
        prepare({"kind": "generate", "tokens": 4}, **files),
        measure(),
        explain,
        prepare({"kind": "generate", "tokens": 4, "sampling": sampling}, **files),
        measure(),
    )
    data = (tmp_path / "answer").read_bytes()
    ids = array.array("I", data[:16]).tolist()
    tokenizer = Tokenizer.from_file(str(vocabulary / "tokenizer.json"))
    assert data[16:].decode() == tokenizer.decode(ids, skip_special_tokens=False)
    greedy, drawn = [reply for reply in replies if reply["reply"] == "sample"]
    assert greedy["digest"] == digest(data)
    assert (drawn["digest"], drawn["units"], len(drawn["laps_ns"])) == ("", 4, 4)


def test_every_way_of_crossing_is_called(talk):
    orders = []
    for crossing in ("empty", "list", "copy", "shared"):
        task = {"kind": "boundary", "crossing": crossing, "elements": 5, "repeat": 7}
        orders += [prepare(task), measure()]
    replies, _ = talk("boundary", *orders)
    samples = [reply for reply in replies if reply["reply"] == "sample"]
    assert [(sample["units"], sample["unit"]) for sample in samples] == [(7, "calls")] * 4
    crossed = digest(u32(range(5)))
    assert [sample["digest"] for sample in samples] == [digest(b""), crossed, crossed, crossed]


def test_a_spent_limit_still_takes_one_sample(talk, tmp_path):
    texts = write_texts(tmp_path / "texts", ["a b"])
    replies, _ = talk("word_split", prepare({"kind": "word_split"}, texts=texts), measure(9, limit_ns=0))
    assert [reply["reply"] for reply in replies] == ["hello", "ready", "sample", "done"]
    assert (replies[2]["units"], replies[2]["unit"], replies[2]["digest"]) == (2, "words", digest(u32([2])))


def test_faults_are_one_line_and_the_worker_stays(talk, vocabulary, tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b'"fine"\n"lone \\ud800"\n')
    ragged = tmp_path / "ragged"
    ragged.write_bytes(b"\x01\x02\x03")
    encode = {"kind": "encode"}
    replies, done = talk(
        "pure_bpe",
        measure(),
        prepare(encode, vocabulary=tmp_path / "nowhere", texts=write_texts(tmp_path / "texts", [])),
        prepare(encode, vocabulary=vocabulary),
        prepare(encode, texts=tmp_path / "texts"),
        prepare(encode, vocabulary=vocabulary, texts=broken),
        prepare({"kind": "detokenize"}, vocabulary=vocabulary, ids=ragged),
        prepare({"kind": "load"}),
        prepare(encode, vocabulary=vocabulary, texts=tmp_path / "texts"),
        measure(),
    )
    assert done.returncode == 0, done.stderr
    errors = [reply["error"] for reply in replies if reply["reply"] == "failed"]
    expected = [
        "nothing is prepared",
        "nowhere/vocab.json",
        "the order names no texts (files.texts)",
        "the order names no vocabulary (files.vocabulary)",
        "broken line 2: not a JSON string",
        "3 bytes are no whole number of u32 ids",
    ]
    assert len(errors) == len(expected)
    for error, part in zip(errors, expected, strict=True):
        assert part in error
        assert "\n" not in error
    refused = [reply for reply in replies if reply["reply"] == "refused"]
    assert [reply["reason"] for reply in refused] == ["pure-bpe does not offer the task load"]
    # No text at all is work of no units, not a fault.
    assert replies[-2]["units"] == 0
    assert replies[-2]["digest"] == digest(b"")


def test_a_run_that_breaks_leaves_the_worker_alive(talk, vocabulary, tmp_path):
    ids = tmp_path / "ids"
    ids.write_bytes(u32([4_000_000_000]))
    order = prepare({"kind": "detokenize"}, vocabulary=vocabulary, ids=ids)
    replies, done = talk("pure_bpe", order, measure(), RELEASE)
    assert [reply["reply"] for reply in replies] == ["hello", "ready", "failed", "done"]
    assert "4000000000" in replies[2]["error"]
    assert done.returncode == 0


def test_a_missing_model_folder_is_named(talk, tmp_path):
    replies, _ = talk(
        "transformers_loop", prepare({"kind": "load"}, model=tmp_path / "nowhere"), measure(), RELEASE
    )
    assert [reply["reply"] for reply in replies] == ["hello", "ready", "failed", "done"]
    assert "nowhere: no config.json" in replies[2]["error"]


def test_an_unknown_peer_is_told_the_names(talk):
    replies, done = talk("pure_bep")
    assert (replies, done.returncode) == ([], 1)
    assert "pure_bpe, pure_bpe_nocache" in done.stderr


def test_garbage_ends_the_worker_with_its_words(talk):
    replies, done = talk("word_split", "garbage")
    assert [reply["reply"] for reply in replies] == ["hello"]
    assert done.returncode == 1
    assert 'not an order: "garbage"' in done.stderr


def test_what_libraries_print_is_no_reply(talk, tmp_path):
    """A stand-in for a library that prints when it is imported."""
    texts = write_texts(tmp_path / "texts", ["a"])
    (tmp_path / "regex.py").write_text("import re\ncompile = re.compile\nprint('chatter')\n")
    order = prepare({"kind": "word_split"}, texts=texts)
    replies, done = talk("pure_bpe", order, environment={"PYTHONPATH": str(tmp_path)})
    assert [reply["reply"] for reply in replies] == ["hello", "refused"]
    assert "chatter" in done.stderr


def test_a_missing_library_is_refused_with_the_remedy(talk, tmp_path):
    (tmp_path / "tiktoken.py").write_text("raise ModuleNotFoundError(\"No module named 'tiktoken'\")\n")
    replies, _ = talk(
        "tiktoken_peer", prepare({"kind": "encode"}), FOOTPRINT, environment={"PYTHONPATH": str(tmp_path)}
    )
    assert [reply["reply"] for reply in replies] == ["hello", "refused", "failed"]
    assert replies[1]["reason"] == "ModuleNotFoundError: No module named 'tiktoken'"
    assert replies[1]["remedy"] == "run scripts/setup"


def test_the_footprint_is_the_closure_of_what_is_needed(talk):
    parts = {}
    for peer in ("word_split", "pure_bpe", "transformers_loop"):
        replies, _ = talk(peer, FOOTPRINT)
        assert replies[1]["reply"] == "footprint"
        parts[peer] = {part["name"]: part["bytes"] for part in replies[1]["parts"]}
        assert all(size > 0 for size in parts[peer].values())
        assert any("standard library" in name for name in parts[peer])
        assert json.dumps(parts[peer]).count("/") == 0, "names carry no path"
    assert parts["word_split"].keys() < parts["pure_bpe"].keys()
    heavy = parts["transformers_loop"]
    assert {"torch", "transformers", "numpy", "sympy"} <= {name.split()[0] for name in heavy}
    assert not any(name.startswith(("pytest", "ruff", "gigatoken")) for name in heavy)
    assert sum(heavy.values()) > 5 * sum(parts["pure_bpe"].values())
