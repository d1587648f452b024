"""Ten thousand audit records into a real Argilla server, cut twice on the way, and back.

    python benchmarks/audit_push.py               # the table into benchmarks/results/audit_push.md

The server is the one `specdistill audit serve` starts, in a process of its own; push and pull are the commands. The run
is templated (`templated_run.py`): the texts say nothing, their number and size is the point. At a third of the
way the client is killed with SIGKILL, at two thirds the server; what is there after the next push is compared with what
was chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import psutil

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from audit_server import Argilla, respond  # noqa: E402
from templated_run import write_templated_run  # noqa: E402

RESULTS = HERE / "results" / "audit_push.md"
SAMPLES = 42
"""Candidates a seed prompt: enough for ten thousand that an annotator could be shown."""


@dataclass
class Command:
    """What a command did: exit code, its JSON, seconds, CPU seconds, peak memory of its process in MB."""

    code: int
    said: dict[str, Any]
    seconds: float
    cpu: float
    mb: float


class Peak(threading.Thread):
    """The most memory that the server's processes held. State: bytes seen so far."""

    def __init__(self, argilla: Argilla) -> None:
        super().__init__(daemon=True)
        self.argilla, self.most, self.now, self.over = argilla, 0, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.25):
            with suppress(psutil.Error):
                children = psutil.Process(self.argilla.process.pid).children(recursive=True)
                self.now = sum(child.memory_info().rss for child in children)
                self.most = max(self.most, self.now)


def command(argilla: Argilla, *words: str | Path, until: Any = None) -> Command:
    """Run a command to its end, or kill it with SIGKILL as soon as `until()` is true."""
    line = [sys.executable, "-m", "specdistill", *map(str, words), "--json"]
    env = os.environ | {"ARGILLA_API_URL": argilla.url, "ARGILLA_API_KEY": argilla.key()}
    began, most, cpu = time.monotonic(), 0, 0.0
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    said: list[bytes] = []
    readers = [threading.Thread(target=lambda s=stream: said.append(s.read())) for stream in (process.stdout,)]
    readers += [threading.Thread(target=process.stderr.read)]
    for reader in readers:
        reader.start()
    looked = 0.0
    while process.poll() is None:
        with suppress(psutil.Error):
            running = psutil.Process(process.pid)
            most, cpu = max(most, running.memory_info().rss), sum(running.cpu_times()[:2])
        if until is not None and time.monotonic() - looked > 1:
            looked = time.monotonic()
            if until():
                process.send_signal(signal.SIGKILL)
        time.sleep(0.1)
    for reader in readers:
        reader.join()
    text = b"".join(said).decode()
    found = json.loads(text[text.index("{") :]) if process.returncode == 0 else {}
    return Command(process.returncode, found, time.monotonic() - began, cpu, most / 2**20)


def server_cpu(argilla: Argilla) -> float:
    """CPU seconds of the server so far."""
    children = psutil.Process(argilla.process.pid).children(recursive=True)
    return sum(sum(child.cpu_times()[:2]) for child in children)


def total(argilla: Argilla, name: str) -> int:
    """Records of a dataset on the server; 0 before it is made or while the server is away."""
    import httpx

    try:
        known = argilla.datasets()
        if name not in known:
            return 0
        with argilla.http() as http:
            answer = http.get(f"/datasets/{known[name]}/records", params={"limit": 1})
            return int(answer.json()["total"])
    except (httpx.HTTPError, KeyError):
        return 0


def there(argilla: Argilla, name: str) -> int:
    """Records of a run on the server, rows and pairs."""
    return total(argilla, f"{name}-rows") + total(argilla, f"{name}-pairs")


def sent(done: Command) -> tuple[int, int]:
    """(sent, were there) of a push."""
    return sum(item["sent"] for item in done.said["datasets"]), sum(item["there"] for item in done.said["datasets"])


def whole(argilla: Argilla, run: Path, name: str) -> str:
    """`none lost, none doubled`, or what is wrong with the server's records of a run."""
    chosen = pl.read_parquet(run / "audit" / "records.parquet")["record_id"].to_list()
    found: list[str] = []
    for kind in ("rows", "pairs"):
        found += list(argilla.records(f"{name}-{kind}"))  # fails where an id is there twice
    lost = len(set(chosen) - set(found))
    return "none lost, none doubled" if sorted(found) == sorted(chosen) else f"{lost} lost, {len(found)} there"


def measure(folder: Path, rows: int, pairs: int, answers: int, samples: int) -> list[tuple[str, str]]:
    """Every step, as (what, result)."""
    run = write_templated_run(folder / "templated", samples=samples).root
    table: list[tuple[str, str]] = []

    def say(what: str, result: str) -> None:
        table.append((what, result))
        sys.stderr.write(f"{what}: {result}\n")

    push = ("audit", "push", run, "--rows", str(rows), "--pairs", str(pairs))
    argilla = Argilla(folder / "argilla")
    peak = Peak(argilla)
    peak.start()
    asked, spent = rows + pairs, 0.0

    def kill_server() -> bool:
        nonlocal spent
        if argilla.process.poll() is None and there(argilla, "templated") > 2 * asked // 3:
            spent += server_cpu(argilla)
            argilla.kill()
        return False

    try:
        time.sleep(3)
        say("server before anything is there", f"{peak.now / 2**20:.0f} MB")
        before = server_cpu(argilla)
        cut = command(argilla, *push, until=lambda: there(argilla, "templated") > asked // 3)
        left = there(argilla, "templated")
        say("client killed (SIGKILL) at a third", f"exit {cut.code}; {left:,} there; {pace(cut, left)}")
        cut = command(argilla, *push, until=kill_server)
        argilla.start()
        held = there(argilla, "templated")
        say(
            "pushed again, server killed (SIGKILL) at two thirds",
            f"exit {cut.code}; after its restart {held:,} there; {pace(cut, held - left)}",
        )
        restarted = server_cpu(argilla)
        last = command(argilla, *push)
        count = sum(sent(last))
        spent += server_cpu(argilla) - restarted - before
        say(
            "pushed again to the end",
            f"{sent(last)[0]:,} sent, {sent(last)[1]:,} were there; {pace(last, sent(last)[0])}, client at most "
            f"{last.mb:.0f} MB",
        )
        say(f"of {count:,} records", whole(argilla, run, "templated"))
        say("server while pushing", f"at most {peak.most / 2**20:.0f} MB; {spent / count * 1000:.1f} CPU ms a record")
        again = command(argilla, *push)
        say("the same push again", f"{again.seconds:.0f} s; {sent(again)[0]} sent, {sent(again)[1]:,} were there")
        records = argilla.records("templated-rows")
        with argilla.http("ann") as ann, argilla.http("bob") as bob:
            began = time.monotonic()
            for number, key in enumerate(sorted(records)[:answers]):
                for http in (ann, bob):
                    respond(http, records[key]["id"], verdict="reject" if number % 7 == 0 else "accept")
            say(
                f"{2 * answers:,} answers over the API",
                f"{(time.monotonic() - began) / answers / 2 * 1000:.0f} ms each",
            )
        pulled = command(argilla, "audit", "pull", run)
        got = sum(pulled.said["statuses"].values())
        say(
            f"pull of {count:,} records with {got:,} answers",
            f"{pulled.seconds:.0f} s wall, {pulled.cpu:.0f} CPU s of the command, client at most {pulled.mb:.0f} MB",
        )
        size = sum(path.stat().st_size for path in (folder / "argilla").glob("*.db*"))
        say("server at the end", f"at most {peak.most / 2**20:.0f} MB; its database {size / 2**20:.0f} MB")
    finally:
        peak.over.set()
        argilla.stop()
    return table


def pace(done: Command, records: int) -> str:
    """Records a second over the whole command, and what it cost."""
    return f"{records:,} in {done.seconds:.0f} s ({records / done.seconds:.0f}/s; {done.cpu:.0f} CPU s of the command)"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=9_700)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--answers", type=int, default=500, help="records that two people answer")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--to", type=Path, default=RESULTS)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        table = measure(Path(scratch), asked.rows, asked.pairs, asked.answers, asked.samples)
    lines = [
        "# Pushing ten thousand records to Argilla",
        "",
        f"Written by `benchmarks/audit_push.py` on {os.cpu_count()} cores that other work shared (load {load:.1f} at "
        "the start): times are upper bounds. Seconds are of the whole command, start and choice included. The "
        "run is templated; the server is the real one, on SQLite.",
        "",
        "| step | result |",
        "| --- | --- |",
        *(f"| {what} | {result} |" for what, result in table),
    ]
    asked.to.parent.mkdir(exist_ok=True)
    asked.to.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
