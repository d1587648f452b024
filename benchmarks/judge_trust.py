"""Whether the judge's numbers can be trusted: 100 runs with a simulated judge whose errors are known exactly.

    python benchmarks/judge_trust.py --write

Each run has its own bias, noise, abstention rate and order effect (tests/simulated_judge.py), 480 candidates of 120
prompts with 5 judge samples each, and 150 human labels, in every third run mostly of borderline rows. Counted is how
often the interval that the report prints holds the truth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
RESULT = ROOT / "benchmarks" / "results" / "judge_trust.md"
RUNS = 100


def measure(runs: int, target: float | None) -> dict[str, tuple[int, float]]:
    """Name to (runs whose interval holds the truth, mean width of the interval)."""
    from judge_trials import held, trial

    right: dict[str, int] = defaultdict(int)
    width: dict[str, float] = defaultdict(float)
    for seed in range(runs):
        for name, found in trial(seed, target=target).items():
            right[name] += held(found)
            width[name] += ((found[1] or 1.0) - (found[0] or 0.0)) / runs
    return {name: (right[name], width[name]) for name in right}


def main() -> None:
    """Measure and print, and with --write keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    started = time.monotonic()
    plain = measure(asked.runs, None)
    chosen = measure(asked.runs, 0.75)["precision of the accepted"]
    lines = [
        "# Do the judge's numbers hold?",
        "",
        f"{asked.runs} runs with a simulated judge of known error (`benchmarks/judge_trust.py`; a fake, no model). "
        "Runs whose 95 % interval holds the truth:",
        "",
        "| number | intervals that hold the truth | mean width |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {right} of {asked.runs} | {width:.3f} |" for name, (right, width) in plain.items()),
        f"| precision, threshold chosen from the same labels | {chosen[0]} of {asked.runs} | {chosen[1]:.3f} |",
    ]
    print("\n".join(lines))
    print(f"\n{time.monotonic() - started:.0f} s")
    if asked.write:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
