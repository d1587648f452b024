"""The call ledger: finished calls are final, failed ones are retried, a kill loses at most what is in flight."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time

import pytest

from specdistill.builders.ledger import Call, Ledger, session_seconds, stage_totals
from specdistill.errors import DiskError, RunError


def call(key, ok=True, text="hello", **more):
    return Call(key, "generate", ok, {"text": text}, prompt_tokens=3, completion_tokens=2, seconds=0.5, **more)


def test_a_finished_call_answers_and_is_final(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record(call("a"))
    ledger.record(call("a", text="another"))
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    assert again.lookup(["a", "b"]) == {"a": {"text": "hello"}}
    again.close()


def test_a_call_answers_as_soon_as_it_is_recorded(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number in range(20_000):  # over many commits
        ledger.record(call(f"k{number}", ok=number % 2 == 0, text=str(number)))
        ledger.record(call(f"k{number}", text="late"))
        if number % 100 == 0:
            assert ledger.lookup([f"k{number}", f"k{number + 1}"]) == {f"k{number}": {"text": str(number)}}
    ledger.flush()
    assert ledger.lookup(["k0", "k1", "k19998"]) == {
        "k0": {"text": "0"},
        "k1": {"text": "late"},
        "k19998": {"text": "19998"},
    }
    assert ledger._uncommitted == {}
    ledger.close()


def test_a_failed_call_never_answers_and_can_be_mended(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.record(call("a", ok=False))
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    assert again.lookup(["a"]) == {}
    again.record(call("a", text="mended"))
    again.close()
    third = Ledger(tmp_path / "ledger.sqlite")
    assert third.lookup(["a"]) == {"a": {"text": "mended"}}
    third.close()
    totals = stage_totals(tmp_path / "ledger.sqlite")["generate"]
    assert (totals["calls"], totals["failed_calls"], totals["completion_tokens"]) == (1, 0, 2)


def test_lookup_takes_more_keys_than_sqlite_takes_parameters(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number in range(1200):
        ledger.record(call(f"k{number}"))
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    assert len(again.lookup([f"k{number}" for number in range(2000)])) == 1200
    again.close()


def test_kill_keeps_what_was_committed(tmp_path):
    path = tmp_path / "ledger.sqlite"
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from specdistill.builders.ledger import Call, Ledger
        ledger = Ledger(Path(sys.argv[1]))
        for number in range(100_000):
            ledger.record(Call(f"k{number}", "s", True, {"text": "x" * 500}))
            time.sleep(0.001)
        """
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)])
    seen = 0
    for _ in range(200):
        time.sleep(0.05)
        if path.exists() and (seen := stage_totals_or_none(path)) > 200:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    ledger = Ledger(path)
    kept = ledger.lookup([f"k{number}" for number in range(100_000)])
    ledger.close()
    assert len(kept) >= seen > 200
    assert set(kept) == {f"k{number}" for number in range(len(kept))}, "a prefix, without holes"
    assert session_seconds(path) > 0


def stage_totals_or_none(path):
    try:
        return stage_totals(path).get("s", {}).get("calls", 0)
    except (DiskError, RunError):
        return 0


def test_a_file_that_is_no_ledger_is_named(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is not a database, it is a text of some length" * 50)
    with pytest.raises(RunError, match=r"ledger\.sqlite: The call ledger is damaged"):
        Ledger(path)


def test_a_write_that_fails_is_told_to_the_caller(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    other = sqlite3.connect(tmp_path / "ledger.sqlite")
    other.execute("DROP TABLE calls")
    other.commit()
    other.close()
    ledger.record(call("a"))
    with pytest.raises(DiskError, match="no such table"):
        ledger.close()


def test_a_clock_set_back_makes_no_negative_time(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    ledger = sqlite3.connect(path)
    ledger.execute("UPDATE sessions SET ended = NULL, started = 2000000000")
    ledger.execute("INSERT INTO calls VALUES ('k', 's', 1, 1, 1900000000, 1, 1, 1, '{}')")
    ledger.commit()
    ledger.close()
    assert session_seconds(path) == 0


def test_what_is_flushed_is_found_at_once(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number in range(700):  # more than one commit takes
        ledger.record(Call(f"k{number}", "s", ok=True, result={"n": number}))
    ledger.flush()
    assert len(ledger.lookup([f"k{number}" for number in range(700)])) == 700
    ledger.flush()
    ledger.close()
