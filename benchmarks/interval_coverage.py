"""Do the intervals hold what they say? Simulated data of known truth, and the share of intervals that hold it.

    python benchmarks/interval_coverage.py

Writes `benchmarks/results/interval_coverage.md`. `tests/test_eval_intervals.py` runs a smaller, seeded part of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specdistill.train.evaluation.intervals import Clustered, clustered, difference_interval, mean_interval

RESULT = Path(__file__).parent / "results" / "interval_coverage.md"


@dataclass(frozen=True)
class Case:
    """One kind of data.

    Attributes:
        truth: the value intervals are to hold.
        draw: data of one simulation; a pair for differences.
    """

    name: str
    truth: float
    draw: Callable[[np.random.Generator], tuple[Clustered, ...]]
    paired: bool = False


def shares(rng: np.random.Generator, chances: np.ndarray, sizes: np.ndarray) -> Clustered:
    """Answers right or wrong: each prompt has its own chance and number of answers."""
    names = np.repeat(np.arange(len(sizes)), sizes)
    return clustered((rng.random(len(names)) < chances[names]).astype(float).tolist(), [str(n) for n in names])


def one_each(prompts: int, chance: float) -> Case:
    """One answer a prompt."""

    def draw(rng: np.random.Generator) -> tuple[Clustered, ...]:
        return (shares(rng, np.full(prompts, chance), np.ones(prompts, dtype=int)),)

    return Case(f"share {chance:g}, {prompts} prompts, 1 answer each", chance, draw)


def several(prompts: int, a: float, b: float) -> Case:
    """One to five answers a prompt, alike within a prompt: chances are beta distributed."""

    def draw(rng: np.random.Generator) -> tuple[Clustered, ...]:
        return (shares(rng, rng.beta(a, b, prompts), rng.integers(1, 6, prompts)),)

    return Case(f"share {a / (a + b):.2g}, {prompts} prompts, 1-5 answers each, alike", a / (a + b), draw)


def lengths(prompts: int) -> Case:
    """Skewed lengths: lognormal words of an answer."""

    def draw(rng: np.random.Generator) -> tuple[Clustered, ...]:
        return (clustered(rng.lognormal(4, 0.6, prompts).tolist(), [str(n) for n in range(prompts)]),)

    return Case(f"skewed lengths, {prompts} prompts", float(np.exp(4 + 0.18)), draw)


def pair(prompts: int, gap: float, paired: bool) -> Case:
    """Two models: on the same prompts (which are hard or easy for both), or on different ones."""

    def draw(rng: np.random.Generator) -> tuple[Clustered, ...]:
        hard = rng.beta(1, 1, prompts) * (1 - gap)
        other = hard if paired else rng.beta(1, 1, prompts) * (1 - gap)
        sizes = rng.integers(1, 4, prompts)
        return shares(rng, hard + gap, sizes), shares(rng, other, sizes)

    how = "the same prompts" if paired else "different prompts"
    return Case(f"difference {gap:g}, {how}, {prompts} each", gap, draw, paired)


def alike(prompts: int, gap: float) -> Case:
    """Two models that agree on most prompts, one answer each: one is right half the time, the other a little less."""

    def draw(rng: np.random.Generator) -> tuple[Clustered, ...]:
        names = [str(n) for n in range(prompts)]
        right = rng.random(prompts) < 0.5
        spoilt = right & (rng.random(prompts) < 2 * gap)
        return tuple(clustered(side.astype(float).tolist(), names) for side in (right, right & ~spoilt))

    return Case(f"difference {gap:g}, models that mostly agree, {prompts} prompts", gap, draw, paired=True)


CASES = (
    one_each(100, 0.5), one_each(100, 0.9), one_each(60, 0.8), one_each(200, 0.95), several(60, 2, 2),
    several(100, 0.5, 0.5), several(100, 4, 1), lengths(100), pair(60, 0.1, True), pair(100, 0.0, True),
    pair(100, 0.2, True), pair(100, 0.1, False), alike(100, 0.1),
)  # fmt: skip
HARD = (one_each(20, 0.9), one_each(50, 0.98), one_each(12, 0.5), lengths(15), alike(20, 0.02), alike(20, 0.1))
"""Few prompts, shares near the end: where a bootstrap is known to be weak. Shown, not promised."""


def holds(case: Case, rng: np.random.Generator, resamples: int, *, by_prompt: bool = True) -> bool:
    """Whether the interval of one simulation holds the truth.

    Args:
        by_prompt: False resamples answers as if they were independent, for comparison.
    """
    data = case.draw(rng)
    if not by_prompt:
        data = tuple(apart(one) for one in data)
    seed = int(rng.integers(2**31))
    if len(data) == 1:
        found = mean_interval(data[0], resamples=resamples, seed=seed)
    else:
        same = case.paired and by_prompt
        found = difference_interval(data[0], data[1], paired=same, resamples=resamples, seed=seed)
    return found.low is not None and found.high is not None and found.low <= case.truth <= found.high


def apart(data: Clustered) -> Clustered:
    """Every answer a cluster of its own. Shares only: hits and misses of each prompt, taken apart."""
    hits, counts = int(data.sums.sum()), int(data.counts.sum())
    values = [1.0] * hits + [0.0] * (counts - hits) if data.share else data.sums.tolist()
    return clustered(values, [str(at) for at in range(len(values))])


def coverage(case: Case, simulations: int, resamples: int, seed: int = 0, *, by_prompt: bool = True) -> float:
    """Share of simulations whose interval holds the truth."""
    rng = np.random.default_rng(seed)
    return sum(holds(case, rng, resamples, by_prompt=by_prompt) for _ in range(simulations)) / simulations


def main(simulations: int = 2000, resamples: int = 1000) -> None:
    """Simulate and write the table."""
    began = time.process_time()
    error = 100 * (0.95 * 0.05 / simulations) ** 0.5
    lines = [
        "# Coverage of the intervals",
        "",
        f"{simulations:,} simulations a row, {resamples:,} resamples, 95 % intervals; one standard error of a coverage "
        f"is {error:.1f} points. *As if independent*: answers resampled, not prompts.",
        "",
        "| data | coverage | as if independent |",
        "| --- | ---: | ---: |",
    ]
    worst = 0.0
    for case in CASES:
        found, naive = (coverage(case, simulations, resamples, by_prompt=by) for by in (True, False))
        worst = max(worst, abs(found - 0.95))
        lines.append(f"| {case.name} | {100 * found:.1f} % | {100 * naive:.1f} % |")
        print(lines[-1], flush=True)
    lines += ["", f"Largest distance from 95 %: {100 * worst:.1f} points.", "", "## Where a bootstrap is weak", "",
              "Few prompts, or shares near 0 or 1. Nothing is promised here; the page of a comparison says how many "
              "prompts a number stands on.", "", "| data | coverage |", "| --- | ---: |"]  # fmt: skip
    for case in HARD:
        lines.append(f"| {case.name} | {100 * coverage(case, simulations, resamples):.1f} % |")
        print(lines[-1], flush=True)
    lines += ["", f"{time.process_time() - began:.0f} CPU seconds. Written by `benchmarks/interval_coverage.py`."]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
