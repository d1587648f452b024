"""The crash matrix: a build that is killed, stopped, starved of disk or robbed of its clock, and then run again.

Used by `test_crashes.py` (some moments) and `benchmarks/crashes.py` (every moment, and the soak).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import build_helpers
from fake_openai_server import FakeOpenAI
from fault_harness import what_is_missing, write_recipe
from forked_cli import Done, ForkedCLI, Trouble

SIGNALS = {signal.SIGKILL: "kill -9", signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
STOPPED = {signal.SIGKILL: (-9,), signal.SIGTERM: (130, -15), signal.SIGINT: (130,)}
"""Exit codes of a build that was told to stop. Outside the model work SIGTERM ends a process as it always does."""


@dataclass
class Bench:
    """A healthy server, its recipe, and the keys of an undisturbed run. State: folders used so far."""

    cli: ForkedCLI
    folder: Path
    server: FakeOpenAI
    recipe: Path
    reference: dict[str, list[str]] = field(default_factory=dict)
    made: int = 0
    seconds: float = 0.0
    """What an undisturbed build took."""

    def fresh(self) -> Path:
        """The path of a run that does not exist yet."""
        self.made += 1
        return self.folder / f"run{self.made}"

    def build(self, out: Path, trouble: Trouble | None = None) -> Done:
        """A whole build, or what is left of it."""
        return self.cli.run("build", self.recipe, "--out", out, trouble=trouble)

    def finish(self, out: Path) -> list[str]:
        """Build again without trouble; what is not as in an undisturbed run."""
        done = self.build(out)
        if done.code != 0:
            return [f"the rerun ended with {done.code}: {done.output}"]
        return self.differs(out)

    def differs(self, out: Path) -> list[str]:
        """What of a finished run is not as in an undisturbed one, by row key; nothing left behind."""
        wrong = []
        keys = build_helpers.keys(out)
        for table, known in self.reference.items():
            if len(keys[table]) != len(set(keys[table])):
                wrong.append(f"{table}: {len(keys[table]) - len(set(keys[table]))} rows doubled")
            if missing := set(known) - set(keys[table]):
                wrong.append(f"{table}: {len(missing)} rows lost")
            if more := set(keys[table]) - set(known):
                wrong.append(f"{table}: {len(more)} rows that nobody asked for")
        lost, doubled, failed = what_is_missing(self.cli, out)
        if lost or doubled or failed:
            wrong.append(f"derived: {lost} lost, {doubled} doubled, {failed} failed")
        if left := [path.name for path in out.rglob(".*.tmp")]:
            wrong.append(f"left behind: {left}")
        return wrong


@contextmanager
def bench(folder: Path, latency: float = 0.0) -> Iterator[Bench]:
    """A bench with its undisturbed run."""
    folder.mkdir(parents=True, exist_ok=True)
    with FakeOpenAI(latency=latency) as server, ForkedCLI(folder / "cli") as cli:
        made = Bench(cli, folder, server, write_recipe(folder, server.url, timeout=10))
        out = made.fresh()
        began = time.monotonic()
        done = made.build(out)
        made.seconds = time.monotonic() - began
        assert done.code == 0, done.output
        made.reference = build_helpers.keys(out)
        yield made


def durable_operations(made: Bench) -> list[str]:
    """What an undisturbed build makes durable, in order: `replace FILE` and `fsync FILE`, seen from the run folder."""
    out, log = made.fresh(), made.folder / "operations.txt"
    log.unlink(missing_ok=True)
    done = made.build(out, Trouble(log_operations=str(log)))
    assert done.code == 0, done.output
    return [line.replace(f"{out}/", "").replace(str(out), ".") for line in log.read_text().splitlines()]


def stage_of(operation: str) -> str:
    """The stage that an operation belongs to."""
    name = operation.partition(" ")[2]
    first = name.split("/")[0].lstrip(".")
    if first.startswith(("recipe.yaml", "manifest.json")):
        return first.split(".")[0]
    return first or "the run folder"


def damage(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


def crash_at(made: Bench, moment: int, number: int) -> tuple[Done, list[str]]:
    """Stop a build just before its durable operation `moment`, then finish it."""
    out = made.fresh()
    done = made.build(out, Trouble(kill_at=moment, signal=number))
    wrong = made.finish(out)
    if done.code not in STOPPED[signal.Signals(number)]:
        wrong.append(f"ended with {done.code}: {done.output}")
    if "Traceback" in done.output:
        wrong.append(f"a traceback: {done.output}")
    shutil.rmtree(out)
    return done, wrong


@dataclass
class Soak:
    """What a soak found.

    Attributes:
        stops: signal name to how many builds it stopped.
        finished: runs that came to their end, each compared with the undisturbed one.
        calls: calls that went out over all runs, and `repeated` those of them that had gone out before.
    """

    stops: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    wrong: list[str] = field(default_factory=list)
    calls: int = 0
    repeated: int = 0

    @property
    def stopped(self) -> int:
        """Builds that a signal ended."""
        return self.stops.total()

    def plus(self, other: Soak) -> Soak:
        """Both together."""
        return Soak(
            self.stops + other.stops,
            self.finished + other.finished,
            self.wrong + other.wrong,
            self.calls + other.calls,
            self.repeated + other.repeated,
        )


def soak(
    made: Bench,
    kills: int,
    seed: int = 0,
    *,
    enough: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda text: None,
) -> Soak:
    """Stop builds at random moments until `kills` were stopped; finish and compare every run on the way.

    Args:
        enough: asked before every build; ends the soak early, its run finished and compared like the others.
        say: told how every build ended.
    """
    chance = random.Random(seed)
    found = Soak()
    out = made.fresh()
    while found.stopped < kills and not enough():
        number = chance.choices(list(SIGNALS), weights=(4, 1, 1))[0]
        after = chance.uniform(0.0, made.seconds)
        made.cli.start("build", made.recipe, "--out", out)
        done = made.cli.stop(after, number)
        if done.code in STOPPED[number]:
            found.stops[SIGNALS[number]] += 1
            if "Traceback" in done.output:
                found.wrong.append(f"a traceback after {SIGNALS[number]}: {done.output}")
        elif done.code != 0:
            found.wrong.append(f"{SIGNALS[number]} after {after:.1f} s ended with {done.code}: {done.output[-2000:]}")
            say(found.wrong[-1])
        say(f"{out.name}: {SIGNALS[number]} after {after:.1f} s, exit {done.code}; {found.stopped} of {kills} stopped")
        if done.code == 0 or found.stopped >= kills:
            close_run(made, out, found)
            say(f"{out.name}: finished; {found.finished} runs compared, {len(found.wrong)} things wrong")
            out = made.fresh()
    if out.exists():
        close_run(made, out, found)
    return found


def close_run(made: Bench, out: Path, found: Soak) -> None:
    """Finish a run, compare it, count its calls, forget it."""
    found.wrong += made.finish(out)
    sent = [key for key, _ in build_helpers.sent(out)]
    found.calls += len(sent)
    found.repeated += len(sent) - len(set(sent))
    found.finished += 1
    shutil.rmtree(out)


@contextmanager
def read_only(folder: Path) -> Iterator[Path | None]:
    """A folder that cannot be written, by root neither; None where that cannot be had."""
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path | None]:
    """A file system of that size; None where this process may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
