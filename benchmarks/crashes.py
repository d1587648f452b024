"""The crash matrix: a signal before every durable operation of a build, full disks, jumping clocks, damaged parts,
and a soak of random kills. Every run is finished afterwards and compared with an undisturbed one by row key.

    python benchmarks/crashes.py                # writes results/crashes.md; most of an hour on a busy 2-core machine
    python benchmarks/crashes.py --kills 1000 --every 0      # only the soak, longer
    python benchmarks/crashes.py --every 0 --minutes 20      # only the soak, as far as it comes

Ctrl-C or the end of `--minutes` ends the soak early: the runs at work are finished and compared like the others, and
the table says how far it came.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from build_helpers import finished  # noqa: E402
from crash_matrix import (  # noqa: E402
    SIGNALS,
    Bench,
    Soak,
    bench,
    crash_at,
    damage,
    durable_operations,
    read_only,
    small_disk,
    soak,
    stage_of,
)
from forked_cli import Trouble  # noqa: E402

RESULT = HERE / "results" / "crashes.md"
Line = tuple[str, str, int, list[str]]
"""What was done, how the build ended, builds, what was wrong."""


def main() -> None:
    """Crash, finish, compare, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="random kills of the soak")
    parser.add_argument("--every", type=int, default=1, help="try every n-th durable operation; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lanes", type=int, default=2, help="builds of the soak side by side, each with its server")
    parser.add_argument("--minutes", type=float, help="end the soak after this time, however far it is")
    parser.add_argument("--to", type=Path, default=RESULT)
    args = parser.parse_args()
    began = time.monotonic()
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as scratch:
        if args.every:
            with bench(Path(scratch), latency=0.02) as made:
                for step in (lambda: boundaries(made, args.every), lambda: disks(made), lambda: others(made)):
                    lines += step()
                    print(lines[-3:], flush=True)
        args.to.parent.mkdir(exist_ok=True)
        args.to.write_text(page(lines, "The soak is still to come.", time.monotonic() - began))
        over = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: over.set())
        until = time.monotonic() + args.minutes * 60 if args.minutes else float("inf")
        found = lanes(
            Path(scratch), args.kills, args.lanes, args.seed, lambda: over.is_set() or time.monotonic() > until
        )
    stops = ", ".join(f"{count} × {name}" for name, count in sorted(found.stops.items()))
    lines.append((f"soak: {stops} at random moments", "stopped", found.finished, found.wrong))
    early = "" if found.stopped >= args.kills else f" It was ended early: {args.kills} stops were asked for."
    note = (
        f"The soak (seed {args.seed}) stopped builds {found.stopped} times; {found.finished} runs came to their end, "
        f"each compared. {found.calls} calls went out, {found.repeated} of them a second time (in flight or not yet "
        f"journalled at a stop).{early}"
    )
    args.to.write_text(page(lines, note, time.monotonic() - began))
    print(args.to)
    sys.exit(1 if any(wrong for *_, wrong in lines) else 0)


def lanes(scratch: Path, kills: int, count: int, seed: int, enough: Callable[[], bool]) -> Soak:
    """Soaks side by side, each with its own server, its own undisturbed run and its share of the kills."""

    def lane(number: int) -> Soak:
        def say(text: str) -> None:
            print(f"{datetime.now(UTC):%H:%M:%S} lane {number}, {text}", flush=True)

        share = kills // count + (number < kills % count)
        with bench(scratch / f"lane{number}", latency=0.02) as made:
            return soak(made, share, seed * count + number, enough=enough, say=say)

    with ThreadPoolExecutor(count) as pool:
        found = Soak()
        for one in pool.map(lane, range(count)):
            found = found.plus(one)
    return found


def boundaries(made: Bench, every: int) -> list[Line]:
    """kill -9 before every durable operation; the other signals before the first one of each stage."""
    operations = durable_operations(made)
    by_stage: dict[tuple[str, str], list[tuple[int, list[str]]]] = defaultdict(list)
    seen: set[str] = set()
    for moment, operation in enumerate(operations, start=1):
        stage = stage_of(operation)
        numbers = [signal.SIGKILL] if moment % every == 0 else []
        if stage not in seen:
            seen.add(stage)
            numbers += [signal.SIGTERM, signal.SIGINT]
        for number in numbers:
            done, wrong = crash_at(made, moment, number)
            by_stage[stage, SIGNALS[number]].append((done.code, wrong))
            print(moment, operation, SIGNALS[number], done.code, wrong, flush=True)
    return [
        (
            f"{name} while writing {stage}",
            "exit " + ", ".join(sorted({str(code) for code, _ in found})),
            len(found),
            [one for _, wrong in found for one in wrong],
        )
        for (stage, name), found in by_stage.items()
    ]


def disks(made: Bench) -> list[Line]:
    """File systems of several sizes, and limits on the size of a file."""
    lines: list[Line] = []
    for kilobytes in (40, 150, 250, 300, 350, 400):
        with small_disk(made.folder / f"disk{kilobytes}", kilobytes) as disk:
            if disk is None:
                continue
            done = made.build(disk / "run")
            out = made.fresh()
            shutil.copytree(disk / "run", out)  # the space that was freed
        wrong = [] if "Traceback" not in done.output else [done.output]
        lines.append((f"a disk of {kilobytes} kB", ending(done.code, done.output), 1, wrong + made.finish(out)))
    for size in (500, 5_000, 20_000, 30_000, 50_000):
        out = made.fresh()
        done = made.build(out, Trouble(file_bytes=size))
        wrong = [] if "Traceback" not in done.output else [done.output]
        lines.append((f"no file over {size:,} bytes", ending(done.code, done.output), 1, wrong + made.finish(out)))
    return lines


def others(made: Bench) -> list[Line]:
    """A read-only folder, jumping clocks, two builds, damaged parts."""
    lines: list[Line] = []
    with read_only(made.folder / "fixed") as folder:
        if folder is not None:
            done = made.build(folder / "run")
            lines.append(("a read-only folder", ending(done.code, done.output), 1, traceback_in(done.output)))
    for seconds in (-4e7, 4e8):
        out = made.fresh()
        done = made.build(out, Trouble(clock_jump=seconds))
        what = f"a clock that jumps by {seconds:+.0e} s and back"
        lines.append((what, ending(done.code, done.output), 1, made.differs(out)))
    for table in made.reference:
        out = made.fresh()
        made.build(out)
        part = sorted((out / table).glob("part-*.parquet"))[0]
        damage(part)
        calls = finished(out)
        done = made.build(out)
        named = "named, " if part.with_suffix(".damaged").name in done.output.replace("\n", "") else "NOT NAMED, "
        asked = "no call" if finished(out) == calls else "CALLS"
        lines.append((f"a bit flipped in a part of {table}", f"{named}rebuilt with {asked}", 1, made.differs(out)))
    return lines


def traceback_in(output: str) -> list[str]:
    """The output, if it is a traceback."""
    return [output] if "Traceback" in output else []


def ending(code: int, output: str) -> str:
    """How a build ended, in a few words."""
    if code == 0:
        return "finished"
    line = next((line for line in output.splitlines() if line.startswith("error ")), "no message")
    place, _, cause = line.removeprefix("error ").rpartition(": ")
    return f"exit {code}: {Path(place).parent.name}/{Path(place).name}: {cause}" if place else f"exit {code}: {cause}"


def page(lines: list[Line], note: str, seconds: float) -> str:
    """The result as Markdown."""
    bad = [one for *_, wrong in lines for one in wrong]
    builds = sum(count for _, _, count, _ in lines)
    rows = [
        f"| {what} | {ended} | {count} | {'; '.join(wrong)[:200] or 'as undisturbed'} |"
        for what, ended, count, wrong in lines
    ]
    return "\n".join(
        [
            "# Crashes, and what is left after the rerun\n",
            f"Written by `python benchmarks/crashes.py` on {datetime.now(UTC).date()}, specdistill "
            f"{version('specdistill')}. {builds} runs were disturbed, finished by the same command, and compared with "
            "an undisturbed run by row key (stored parts and derived sets, nothing left behind): "
            f"**{len(bad)} differ.** {seconds:.0f} s in all.\n",
            note + "\n",
            "| what happened | the build | runs | after the rerun |",
            "| --- | --- | --: | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
