"""Feeds every parser inputs that are nearly right until the time is up; one line a target, one block a finding.

python benchmarks/fuzz.py --minutes 10                    # all targets in turn
python benchmarks/fuzz.py --minutes 600 --target ledger   # a night on one of them
python benchmarks/fuzz.py --replay FILE --target ledger   # a kept input again, with its traceback
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from fuzz_targets import Target, feed, mutated, targets  # noqa: E402

SLOW = 10.0
"""Seconds for one input of at most 200 kB beyond which it counts as a finding."""


def main() -> None:
    """Feed, and write down what came out."""
    known = targets()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="over all targets together")
    parser.add_argument("--target", action="append", choices=list(known))
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where inputs of findings are kept")
    parser.add_argument("--replay", type=Path, help="feed this input once")
    parser.add_argument("--to", type=Path, help="write the table there")
    args = parser.parse_args()
    names = args.target or list(known)
    if args.replay:
        with tempfile.TemporaryDirectory() as folder:
            known[names[0]].run(args.replay.read_bytes(), Path(folder))
        return
    silence_panics()
    seed = args.seed if args.seed is not None else time.time_ns()
    lines, found = [], 0
    for name in names:
        inputs, slowest, findings = fuzz(name, known[name], args.minutes * 60 / len(names), seed, args.keep)
        lines.append(f"| {name} | {inputs:,} | {slowest:.2f} | {len(findings)} |")
        print(lines[-1], *findings, sep="\n", flush=True)
        found += len(findings)
    if args.to:
        args.to.write_text(page(lines, args.minutes, seed, found))
    sys.exit(1 if found else 0)


def fuzz(name: str, target: Target, seconds: float, seed: int, keep: Path) -> tuple[int, float, list[str]]:
    """(inputs, seconds of the slowest, findings: one a place in the code)."""
    chance = random.Random(f"{name}/{seed}")
    seen: dict[str, str] = {}
    inputs, slowest = 0, 0.0
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < until:
            data = mutated(target.seeds, chance)
            began = time.process_time()
            error = feed(target, data, Path(folder))
            took = time.process_time() - began
            inputs, slowest = inputs + 1, max(slowest, took)
            if error is None and took > SLOW:
                error = TimeoutError(f"{took:.0f} s of processor time")
            if error is not None and (place := place_of(error)) not in seen:
                keep.mkdir(parents=True, exist_ok=True)
                file = keep / f"{name.replace(' ', '-')}-{blake2b(data, digest_size=6).hexdigest()}"
                file.write_bytes(data)
                seen[place] = f"  {place}\n  {str(error)[:200]}\n  kept as {file}"
    return inputs, slowest, list(seen.values())


def place_of(error: BaseException) -> str:
    """What went wrong where: the error's kind and the last lines of ours that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    return f"{type(error).__name__} at " + ", ".join(f"{Path(f.filename).name}:{f.lineno}" for f in ours[-2:])


def silence_panics() -> None:
    """Polars prints each of its panics; they come back as exceptions anyhow."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)


def page(lines: list[str], minutes: float, seed: int, found: int) -> str:
    """The result as Markdown."""
    return "\n".join(
        [
            "# Fuzzing\n",
            f"Written by `python benchmarks/fuzz.py --minutes {minutes:g} --seed {seed}` on "
            f"{datetime.now(UTC).date()}, specdistill {version('specdistill')}: **{found} findings.** A finding is any "
            f"end but success or one of our own errors, or {SLOW:g} s of processor time for one input.\n",
            "| parser | inputs | slowest, CPU-s | findings |",
            "| --- | --: | --: | --: |",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
