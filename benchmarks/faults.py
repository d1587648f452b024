"""Every fault at every place, in front of a whole build: what the build left, and what the rerun made of it.

python benchmarks/faults.py                     # all, about a quarter of an hour; writes results/faults.md
python benchmarks/faults.py --fault cut --place "one prompt"
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from fake_openai_server import FAULTS  # noqa: E402
from fault_harness import PLACES, Outcome, try_fault  # noqa: E402
from forked_cli import ForkedCLI  # noqa: E402

RESULT = HERE / "results" / "faults.md"
HEAD = """# Faults of the model server, and what a build makes of them

Written by `python benchmarks/faults.py` on {date}, specdistill {version}. A whole build (7 prompts, 14 candidates, 28
judgments; 8 requests at once; {retries} further tries, 3 s timeout, backoff with full jitter from 1 s) against a server
that serves the fault, then the same command against a healthy one.

- *served*: requests that got the fault. *tries*: requests for the hit prompt, with the seconds between them.
- *failed*: rows kept as failed calls; *neighbours*: bad rows of prompts that were not hit (only where one was).
- *lost*, *doubled*: rows missing, or there twice, after the rerun; *left*: rows still failed after it.

{count} builds with a fault: **{lost} rows lost, {doubled} doubled, {left} left failed, {neighbours} neighbours hurt.**
The longest took {longest} tries for one prompt. {seconds:.0f} s in all.
"""


def main() -> None:
    """Try the faults and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", action="append", choices=["refused", *FAULTS])
    parser.add_argument("--place", action="append", choices=PLACES)
    parser.add_argument("--retries", type=int, default=2)
    parser.add_argument("--to", type=Path, default=RESULT)
    args = parser.parse_args()
    began = time.monotonic()
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch, ForkedCLI(Path(scratch) / "cli") as cli:
        for place in args.place or PLACES:
            for fault in args.fault or ["refused", *FAULTS]:
                if fault == "refused" and place != "every request":
                    continue
                one = try_fault(cli, Path(scratch) / f"{fault}-{place[:12]}", fault, place, retries=args.retries)
                print(("whole" if one.whole else "NOT WHOLE"), one, flush=True)
                found.append(one)
                args.to.parent.mkdir(exist_ok=True)
                args.to.write_text(page(found, args.retries, time.monotonic() - began))
    print(args.to)
    sys.exit(0 if all(one.whole for one in found) else 1)


def page(found: list[Outcome], retries: int, seconds: float) -> str:
    """The result as Markdown."""
    lines = [
        HEAD.format(
            date=datetime.now(UTC).date(),
            version=version("specdistill"),
            retries=retries,
            count=len(found),
            lost=sum(one.lost for one in found),
            doubled=sum(one.doubled for one in found),
            left=sum(one.still_failed for one in found),
            neighbours=sum(one.neighbours for one in found),
            longest=max((one.tries for one in found), default=0),
            seconds=seconds,
        )
    ]
    for place in PLACES:
        rows = [one for one in found if one.place == place]
        if not rows:
            continue
        lines += [
            f"## Served to {place}\n",
            "| fault | what the build did | served | tries | failed | neighbours | lost | doubled | left | reason |",
            "| --- | --- | --: | --- | --: | --: | --: | --: | --: | --- |",
            *(row(one) for one in rows),
            "",
        ]
    return "\n".join(lines)


def row(one: Outcome) -> str:
    """One line of the table."""
    tries = f"{one.tries} ({', '.join(f'{wait:g}' for wait in one.waits)} s)" if one.waits else str(one.tries or "–")
    reason = "; ".join(one.reasons[:2]) or "–"
    ended = "finishes" if one.ended == "finished" else f"stops: {one.ended}"
    cells = [
        one.fault, text(ended), one.served, tries, one.failed, one.neighbours, one.lost, one.doubled,
        one.still_failed, text(reason),
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def text(words: str) -> str:
    """Words of an error as one cell; the port is another one each time."""
    import re

    short = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", words)
    for sign in "\\|<>[]*_`":
        short = short.replace(sign, "\\" + sign)
    return short if len(short) < 160 else short[:157] + "…"


if __name__ == "__main__":
    main()
