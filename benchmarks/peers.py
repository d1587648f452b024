"""The same work by specdistill and its peers, side by side in one run, each in an environment of its own.

    python benchmarks/peers.py                # installs what is missing, writes results/peers.md; half an hour
    python benchmarks/peers.py --only ours --only bare --rounds 5 --to /tmp/two.md

The work: rows with a 2 kB system prompt, 1 kB answers, 256 requests at once, against one fake server that answers
after 200 ms (256 / 0.2 s = 1,280 rows/s is the most that allows) and does nothing else. The server is not what is
measured: the table says what it spent.

- rows/s: rows over the time from the first request at the server until the rows are on disk with their answers.
- CPU-s per 1,000 rows: of all processes of the contestant; *marginal*, that is the difference between a large and a
  small run over the difference in rows, so that starting up does not count.
- peak MB: sum over the contestant's processes of their VmHWM (most memory resident at once), at `--memory-rows` rows.
- start-up: seconds from the start of the process to the first request at the server.

Contestants take turns `--rounds` times; the table has medians, and ratios to ours within the same rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "peers"))

from environments import CONTESTANTS, cache_folder, python_of, versions_of  # noqa: E402
from measuring import Run, Server, one_run  # noqa: E402

RESULT = HERE / "results" / "peers.md"
GOALS = {"CPU": 0.4, "share": 0.9, "MB": 300.0, "start": 3.0}
"""What ours is to reach: CPU-seconds per 1,000 rows, share of the cap, peak MB, start-up seconds."""


def measure(args: argparse.Namespace) -> dict[str, dict[str, list[Run]]]:
    """Contestant to size (`small`, `large`, `memory`) to runs."""
    names = args.only or list(CONTESTANTS)
    pythons = {name: python_of(CONTESTANTS[name], args.cache) for name in names}
    sizes = {"small": args.small, "large": args.rows, "memory": args.memory_rows}
    found: dict[str, dict[str, list[Run]]] = {name: {size: [] for size in sizes} for name in names}
    server = Server(args.latency_ms, args.answer_bytes)
    try:
        for turn in range(args.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                for size, rows in sizes.items():
                    if size == "memory" and turn:
                        continue
                    run = one_run(CONTESTANTS[name], pythons[name], server, rows, args.concurrency, args.seconds)
                    found[name][size].append(run)
                    print(f"round {turn + 1} {name:<9} {size:<6} {run.rate:8.1f} rows/s  {run}", file=sys.stderr)
                    if run.answered != rows:
                        print(f"  only {run.answered} of {rows} rows have an answer", file=sys.stderr)
    finally:
        server.stop()
    return found


def figures(runs: dict[str, list[Run]], cap: float) -> dict[str, list[float]]:
    """Every figure of a contestant, one value a round."""
    pairs = list(zip(runs["small"], runs["large"], strict=True))
    return {
        "rows/s": [large.rate for _, large in pairs],
        "share": [large.rate / cap for _, large in pairs],
        "CPU": [(large.cpu - small.cpu) / (large.rows - small.rows) * 1000 for small, large in pairs],
        "MB": [run.peak for run in runs["memory"]],
        "start": [run.start for pair in pairs for run in pair],
        "server": [large.server / large.rows * 1000 for _, large in pairs],
        "calls": [large.calls / large.rows for _, large in pairs],
        "answered": [large.answered / large.rows for _, large in pairs],
    }


def page(args: argparse.Namespace, found: dict[str, dict[str, list[Run]]]) -> str:
    """The result as Markdown."""
    cap = args.concurrency / args.latency_ms * 1000
    every = {name: figures(runs, cap) for name, runs in found.items()}
    middle = {name: {key: statistics.median(values) for key, values in one.items()} for name, one in every.items()}
    ours = every.get("ours")
    lines = [
        "# The same work by specdistill and its peers",
        "",
        f"Written by `python benchmarks/peers.py` on {datetime.now(UTC).date()}: {args.rows:,} rows, a 2 kB system "
        f"prompt, {args.answer_bytes:,}-byte answers, {args.concurrency} requests at once, one fake server that "
        f"answers after {args.latency_ms:g} ms (cap: {cap:,.0f} rows/s); {platform.machine()}, {os.cpu_count()} "
        f"cores, Python {platform.python_version()}. Medians of {args.rounds} rounds in which the contestants took "
        f"turns; memory from one run of {args.memory_rows:,} rows. CPU is marginal, between {args.small:,} and "
        f"{args.rows:,} rows: starting up does not count. Load at the start: {args.load:.1f} on {os.cpu_count()} "
        "cores; above 1 a core, rows/s and start-up are what was left of the machine, and only ratios say something. "
        "What each figure is: the head of the script.",
        "",
        "| | rows/s | share of the cap | CPU-s per 1,000 rows | peak MB | start-up s "
        "| CPU, ours = 1 | rows/s, ours = 1 |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name, one in middle.items():
        cpu, rate = "", ""
        if ours:
            cpu = f"{statistics.median(a / b for a, b in zip(every[name]['CPU'], ours['CPU'], strict=True)):.2f}"
            rate = f"{statistics.median(a / b for a, b in zip(every[name]['rows/s'], ours['rows/s'], strict=True)):.2f}"
        lines.append(
            f"| {CONTESTANTS[name].title} | {one['rows/s']:,.0f} | {one['share']:.0%} | {one['CPU']:.2f} "
            f"| {one['MB']:,.0f} | {one['start']:.1f} | {cpu} | {rate} |"
        )
    lines += ["", "Range of the rounds: " + "; ".join(spread(name, one) for name, one in every.items()) + ".", ""]
    if "ours" in middle:
        lines += ["| goal for ours | found | plain script | |", "| --- | --: | --: | --- |"]
        lines += [*goals(middle["ours"], middle.get("bare"), args.memory_rows), ""]
    spent = max(one["server"] for one in middle.values())
    lines += [
        f"The server spent at most {spent:.2f} CPU-s per 1,000 rows, so alone on a core it could give "
        f"{1000 / spent:,.0f} rows/s; with {os.cpu_count()} cores it, the contestant and whatever else the machine "
        "does share them.",
        "",
        *odd(middle),
        "Versions: "
        + "; ".join(
            ", ".join(f"{package} {version}" for package, version in versions_of(CONTESTANTS[name], python).items())
            for name, python in ((name, python_of(CONTESTANTS[name], args.cache)) for name in found)
        )
        + ".",
    ]
    return "\n".join(lines) + "\n"


def spread(name: str, one: dict[str, list[float]]) -> str:
    """Least and most of the rounds, in words."""
    rate, cpu = one["rows/s"], one["CPU"]
    return (
        f"{CONTESTANTS[name].title} {min(rate):,.0f} to {max(rate):,.0f} rows/s, {min(cpu):.2f} to {max(cpu):.2f} CPU-s"
    )


def goals(ours: dict[str, float], bare: dict[str, float] | None, memory_rows: int) -> list[str]:
    """Each goal, whether it is met, and what the plain script had in the same run."""
    told = (
        ("CPU", f"at most {GOALS['CPU']} CPU-s per 1,000 rows, marginal", ".2f", ours["CPU"] <= GOALS["CPU"]),
        ("share", f"at least {GOALS['share']:.0%} of the cap", ".0%", ours["share"] >= GOALS["share"]),
        ("MB", f"under {GOALS['MB']:.0f} MB at {memory_rows:,} rows", ".0f", ours["MB"] < GOALS["MB"]),
        ("start", f"start-up under {GOALS['start']:.0f} s", ".1f", ours["start"] < GOALS["start"]),
    )
    return [
        f"| {goal} | {ours[key]:{form}} | {'' if bare is None else format(bare[key], form)} "
        f"| {'met' if met else '**missed**'} |"
        for key, goal, form, met in told
    ]


def odd(middle: dict[str, dict[str, float]]) -> list[str]:
    """Contestants that asked more than once a row, or left rows without an answer."""
    told = [
        f"{CONTESTANTS[name].title}: {one['calls']:.2f} requests a row, {one['answered']:.1%} of the rows answered."
        for name, one in middle.items()
        if abs(one["calls"] - 1) > 0.001 or one["answered"] < 1
    ]
    return [*told, ""] if told else []


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(CONTESTANTS), help="may be repeated; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--small", type=int, default=1000, help="rows of the small run")
    parser.add_argument("--memory-rows", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--latency-ms", type=float, default=200.0)
    parser.add_argument("--answer-bytes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=900.0, help="most seconds of one run")
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where the environments are")
    parser.add_argument("--to", type=Path, default=RESULT)
    args = parser.parse_args()
    args.load = os.getloadavg()[0]
    found = measure(args)
    text = page(args, found)
    args.to.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
