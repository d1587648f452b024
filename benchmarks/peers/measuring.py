"""One process of a contestant from start to end: its time, CPU and memory, and what the server saw of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import Contestant

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    """One process of a contestant.

    Attributes:
        rows: asked for; `answered` of them came to disk with an answer.
        start: seconds to the first request.
        working: seconds from the first request to the rows on disk.
        cpu: CPU-seconds of all its processes.
        peak: MB, see the module.
        server: CPU-seconds of the server meanwhile.
        calls, in_flight: requests that the server saw, and the most at once.
    """

    rows: int
    answered: int
    start: float
    working: float
    cpu: float
    peak: float
    server: float
    calls: int
    in_flight: int

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.working


class Server:
    """The fast server in a process of its own.

    State: the process and its port.
    """

    def __init__(self, latency_ms: float, answer_bytes: int) -> None:
        line = [sys.executable, str(HERE / "server.py"), "--port", "0"]
        line += ["--latency-ms", str(latency_ms), "--answer-bytes", str(answer_bytes)]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def get(self, path: str) -> dict[str, Any]:
        """A JSON answer of the server about itself."""
        with urllib.request.urlopen(f"{self.url}/{path}", timeout=10) as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        with suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                waiting += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
    return found


def peak_mb(pid: int) -> float:
    """VmHWM of a process, in MB; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


class Watch(threading.Thread):
    """Looks at the memory of a process tree, four times a second.

    State: the largest sum so far.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.most, self.over = pid, 0.0, threading.Event()

    def run(self) -> None:
        """threading's hook."""
        while not self.over.wait(0.25):
            self.most = max(self.most, sum(map(peak_mb, tree(self.pid))))


def one_run(one: Contestant, python: Path, server: Server, rows: int, concurrency: int, seconds: float) -> Run:
    """A contestant's process from start to end.

    Raises:
        SystemExit: it failed, or took longer than `seconds`.
    """
    out = Path(tempfile.mkdtemp(prefix=f"peer-{one.name}-"))
    try:
        server.get("reset")
        spent = server.get("stats")["cpu"]
        line = [str(python), str(HERE / one.worker), "--url", server.url, "--rows", str(rows)]
        line += ["--concurrency", str(concurrency), "--out", str(out)]
        quiet = {"HOME": str(out), "OPENAI_API_KEY": "none", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        with (out / "log").open("wb") as log:
            began = time.monotonic()
            process = subprocess.Popen(
                line, env=os.environ | quiet, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            watch, guard = Watch(process.pid), threading.Timer(seconds, os.killpg, (process.pid, 9))
            watch.start()
            guard.start()
            _, status, usage = os.wait4(process.pid, 0)
            guard.cancel()
            watch.over.set()
            watch.join()
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not (out / "done.json").exists():
            said = (out / "log").read_text(errors="replace")[-3000:]
            raise SystemExit(f"{one.name} ended with {process.returncode}:\n{said}")
        done, seen = json.loads((out / "done.json").read_text()), server.get("stats")
        return Run(
            rows,
            done["rows"],
            seen["first"] - began,
            done["done"] - seen["first"],
            usage.ru_utime + usage.ru_stime,
            watch.most,
            seen["cpu"] - spent,
            seen["calls"],
            seen["most_in_flight"],
        )
    finally:
        shutil.rmtree(out, ignore_errors=True)
