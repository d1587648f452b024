"""Large prompt pools: time and peak memory of cleaning, grouping and splitting, and of decontamination.

    python benchmarks/prompts_scale.py            # both tables into benchmarks/results/prompts_scale.md

Every size runs in a process of its own, so that its peak memory is its own. The prompts are random sentences of the
words of the packaged policies; of each ten thousand 200 are copies with another punctuation and 300 have a word or two
changed. They show speed and memory, not how well doubles are found (`prompts_planted.py` does).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "prompts_scale.md"
CATEGORIES = ("violence", "harassment", "self-harm", "extremism")


def vocabulary() -> list[str]:
    """The words of the packaged policies and their seed prompts."""
    from specdistill.specs.loader import load_spec, seed_files

    found: set[str] = set()
    for name in ("safety", "support"):
        spec = load_spec(name)
        texts = [clause.text for clause in spec.clauses] + [path.read_text() for path in seed_files(spec)]
        found |= {word for text in texts for word in re.findall(r"[a-z]{3,}", text.lower())}
    return sorted(found)


def sentences(count: int, words: list[str], seed: int) -> list[str]:
    """Random prompts of 8 to 60 words, with copies and near-copies among them."""
    chance = random.Random(seed)
    found: list[str] = []
    for number in range(count):
        kind = number % 10_000
        if found and kind >= 9_800:
            found.append(chance.choice(found[-5_000:]).capitalize() + " ?!")
        elif found and kind >= 9_500:
            parts = chance.choice(found[-5_000:]).split()
            for _ in range(chance.randint(1, 2)):
                parts[chance.randrange(len(parts))] = chance.choice(words)
            found.append(" ".join(parts))
        else:
            found.append(" ".join(chance.choices(words, k=chance.randint(8, 60))))
    return found


def pool(folder: Path, count: int, sets: int, size: int) -> None:
    """A pool as JSONL, evaluation sets, and a recipe."""
    words = vocabulary()
    with open(folder / "p.jsonl", "w") as handle:
        for number, text in enumerate(sentences(count, words, 1)):
            handle.write(json.dumps({"prompt": text, "category": CATEGORIES[number % len(CATEGORIES)]}) + "\n")
    for at in range(sets):
        rows = sentences(size, words, 100 + at)
        (folder / f"e{at}.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in rows))


def measure(folder: Path, sets: int) -> dict[str, float]:
    """Run the pool of a folder; seconds of each step, rows, peak memory. For a process of its own."""
    from specdistill.builders.pool import make_prompts
    from specdistill.builders.splits import split_of
    from specdistill.schemas.recipe import Recipe

    steps: dict[str, float] = {}
    last = {"at": time.monotonic(), "cpu": time.process_time()}
    shown = {"at": 0.0}

    def step(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        steps[name] = steps.get(name, 0.0) + now - last["at"]
        last["at"] = now
        if now - shown["at"] > 2 or done == total:
            shown["at"] = now
            sys.stderr.write(f"\r{name}: {done:,} of {total:,}" + " " * 20)

    recipe = Recipe.model_validate(
        {
            "name": "scale",
            "spec": "safety",
            "prompts": [{"path": "p.jsonl"}],
            "decontaminate": [{"path": f"e{at}.jsonl"} for at in range(sets)],
            "generator": {"model": "none"},
            "judge": {"model": "none"},
        }
    )
    began, cpu = time.monotonic(), time.process_time()
    made = make_prompts(recipe, list(CATEGORIES), folder, [], step=step)
    grouped = time.monotonic()
    placed = split_of(made.table, recipe.split)
    ended = time.monotonic()
    sys.stderr.write("\n")
    return {
        "seconds": ended - began,
        "cpu": time.process_time() - cpu,
        "decontamination": sum(spent for name, spent in steps.items() if name.startswith("decontamination")),
        "split": ended - grouped,
        "rows": made.summary["rows"],
        "kept": made.table.height,
        "removed": sum(made.summary["removed"].values()),
        "test": int((placed["split"] == "test").sum()),
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def child(count: int, sets: int, size: int) -> dict[str, float]:
    """One size in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        pool(Path(scratch), count, sets, size)
        line = [sys.executable, __file__, "--child", scratch, "--sets", str(sets)]
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--sizes", default="50000,100000,200000")
    parser.add_argument("--against", type=int, default=100_000, help="prompts that meet the evaluation sets")
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(measure(Path(asked.child), asked.sets)))
        return
    lines = [
        "# Prompt pools: time and memory",
        "",
        f"Written by `benchmarks/prompts_scale.py` on {os.cpu_count()} cores that other work shared (load "
        f"{os.getloadavg()[0]:.1f} at the start), so wall time is an upper bound; CPU seconds are the process's own. "
        "Random sentences: speed and memory only.",
        "",
        "| prompts | evaluation sets | wall s | CPU s | decontam. s | split s | removed | kept | test | peak MB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    work = [(int(size), 0) for size in asked.sizes.split(",")] + [(asked.against, asked.sets)]
    for count, sets in work:
        found = child(count, sets, 1_000)
        lines.append(
            f"| {found['rows']:,} | {f'{sets} of 1,000' if sets else 'none'} | {found['seconds']:.0f} "
            f"| {found['cpu']:.0f} | {found['decontamination']:.0f} | {found['split']:.1f} | {found['removed']:,} "
            f"| {found['kept']:,} | {found['test']:,} | {found['mb']:,.0f} |"
        )
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join(lines) + "\n")
        print(lines[-1], flush=True)


if __name__ == "__main__":
    main()
