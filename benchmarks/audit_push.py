"""Ten thousand audit records into a real Argilla server, cut twice on the way, and back.

    python benchmarks/audit_push.py               # the table into benchmarks/results/audit_push.md

The server is the one `specdistill audit serve` starts, in a process of its own; push and pull are the commands. The run
is templated (`templated_run.py`): the texts say nothing, their number and size is the point. Half-way through a push
the client is killed with SIGKILL, then the server; what is there after the next push is compared with what was chosen.
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
    """What a command did: exit code, its JSON, seconds, peak memory of its process in MB."""

    code: int
    said: dict[str, Any]
    seconds: float
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
    began, most = time.monotonic(), 0
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    said: list[bytes] = []
    readers = [threading.Thread(target=lambda s=stream: said.append(s.read())) for stream in (process.stdout,)]
    readers += [threading.Thread(target=process.stderr.read)]
    for reader in readers:
        reader.start()
    while process.poll() is None:
        with suppress(psutil.Error):
            most = max(most, psutil.Process(process.pid).memory_info().rss)
        if until is not None and until():
            process.send_signal(signal.SIGKILL)
        time.sleep(0.1)
    for reader in readers:
        reader.join()
    text = b"".join(said).decode()
    found = json.loads(text[text.index("{") :]) if process.returncode == 0 else {}
    return Command(process.returncode, found, time.monotonic() - began, most / 2**20)


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


def renamed(run: Path, name: str) -> Path:
    """The same run under another name: its records go into datasets of their own."""
    import shutil

    copy = run.with_name(name)
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("audit"))
    recipe = copy / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: templated", f"name: {name}", 1))
    return copy


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
    say = [lambda what, result: (table.append((what, result)), sys.stderr.write(f"{what}: {result}\n"))][0]
    table: list[tuple[str, str]] = []
    ask = ("--rows", str(rows), "--pairs", str(pairs))
    argilla = Argilla(folder / "argilla")
    peak = Peak(argilla)
    peak.start()
    try:
        time.sleep(3)
        say("server before anything is there", f"{peak.now / 2**20:.0f} MB")
        first = command(argilla, "audit", "push", run, *ask)
        count = sent(first)[0]
        say(
            f"push of {count:,} records",
            f"{first.seconds:.0f} s, {count / first.seconds:.0f} records/s, client at most {first.mb:.0f} MB",
        )
        say("server during it", f"at most {peak.most / 2**20:.0f} MB")
        again = command(argilla, "audit", "push", run, *ask)
        say("the same push again", f"{again.seconds:.0f} s; {sent(again)[0]} sent, {sent(again)[1]:,} were there")
        cut = renamed(run, "clientkilled")
        killed = command(argilla, "audit", "push", cut, *ask, until=lambda: there(argilla, "clientkilled") > count // 2)
        left = there(argilla, "clientkilled")
        finished = command(argilla, "audit", "push", cut, *ask)
        say(
            "client killed (SIGKILL) half-way, then pushed again",
            f"exit {killed.code} with {left:,} there; {sent(finished)[0]:,} sent, {sent(finished)[1]:,} were there: "
            f"{whole(argilla, cut, 'clientkilled')}",
        )
        cut = renamed(run, "serverkilled")

        def kill_server() -> bool:
            if argilla.process.poll() is None and there(argilla, "serverkilled") > count // 2:
                argilla.kill()
            return False

        killed = command(argilla, "audit", "push", cut, *ask, until=kill_server)
        argilla.start()
        left = there(argilla, "serverkilled")
        finished = command(argilla, "audit", "push", cut, *ask)
        say(
            "server killed (SIGKILL) half-way, started and pushed again",
            f"exit {killed.code} with {left:,} there; {sent(finished)[0]:,} sent, {sent(finished)[1]:,} were there: "
            f"{whole(argilla, cut, 'serverkilled')}",
        )
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
            f"pull of {count:,} records",
            f"{pulled.seconds:.0f} s, {count / pulled.seconds:.0f} records/s, {got:,} answers, client at most "
            f"{pulled.mb:.0f} MB",
        )
        say("server with all three runs", f"at most {peak.most / 2**20:.0f} MB")
        size = sum(path.stat().st_size for path in (folder / "argilla").glob("*.db*"))
        say("its database, three times as many records", f"{size / 2**20:.0f} MB")
    finally:
        peak.over.set()
        argilla.stop()
    return table


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=9_700)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--answers", type=int, default=1_000, help="records that two people answer")
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
