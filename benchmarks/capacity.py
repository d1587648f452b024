"""The capacity model against two small builds: what it says beforehand, and what ledger and disk say afterwards.

    python benchmarks/capacity.py            # writes results/capacity.md and the section of docs/scale.md; some minutes

A fake server answers with words drawn from the packaged seed prompts, so that text compresses about as text does; it
says nothing about how long a real model's answers are. A build of 14 prompts and one of all packaged seed prompts are
made with the same recipe. The larger one is predicted twice: from its recipe alone (`--dry-run`) and like the smaller
one (`--like`). Then the recipe is reckoned for 10,000, 1 million and 100 million prompts.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from textwrap import fill
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests"))

from build_helpers import build_alone  # noqa: E402
from fake_openai_server import FakeOpenAI  # noqa: E402

from specdistill.specs.loader import load_spec, seed_files  # noqa: E402
from specdistill.specs.tokens import estimate  # noqa: E402

RESULT, SCALE = HERE / "results" / "capacity.md", ROOT / "docs" / "scale.md"
RECIPE = """
name: capacity
spec: safety
prompts: [{{library: seeds{more}}}]
generator: {{engine: openai, base_url: "{url}", model: fake, samples: 3, reasoning: guided, concurrency: 64,
             max_tokens: 1000, reasoning_chars: 4000, answer_chars: 4000}}
contrast: {{samples: 1}}
judge: {{engine: openai, base_url: "{url}", model: fake, k: 3, threshold: 0.4, aggregate: mean, min_votes: 1,
         concurrency: 64, max_tokens: 180}}
preference: {{min_margin: 0.05}}
"""
PLANNED = (10_000, 1_000_000, 100_000_000)
SPEED, GPU_PRICE = 2500.0, 3.0
"""Completion tokens a second of one replica and the price of its hour, for the table; yours will differ."""
BEGIN, END = "<!-- capacity: written by benchmarks/capacity.py -->", "<!-- capacity: end -->"


class Wordy(FakeOpenAI):
    """Answers with drawn words instead of one sentence over and over. Serves text of a plausible size only."""

    def _answer(self, body: dict[str, Any], *, fault: str = "") -> bytes:
        asked = "\n".join(str(turn["content"]) for turn in body["messages"])
        choices = []
        for index in range(body.get("n", 1)):
            mark = int.from_bytes(blake2b(f"{index}/{asked}".encode(), digest_size=8).digest())
            chance = random.Random(mark)
            fields = body["response_format"]["json_schema"]["schema"]["properties"]
            if "reasoning" in fields:
                said: dict[str, Any] = {"reasoning": text(chance, 190), "answer": text(chance, 140)}
            else:
                scores = {name: chance.randint(1, 5) for name in fields if name not in ("justification", "abstain")}
                said = {"justification": text(chance, 40), "abstain": False} | scores
            message = {"role": "assistant", "content": json.dumps(said)}
            choices.append({"index": index, "message": message, "finish_reason": "stop"})
        usage = {
            "prompt_tokens": sum(estimate(turn["content"]) + 4 for turn in body["messages"]),
            "completion_tokens": sum(estimate(choice["message"]["content"]) for choice in choices),
        }
        return json.dumps({"id": "fake", "model": "fake", "choices": choices, "usage": usage}).encode()


def text(chance: random.Random, words: int) -> str:
    """About so many words, in sentences."""
    drawn = chance.choices(WORDS, k=max(12, round(chance.gauss(words, words / 4))))
    lines = [" ".join(drawn[start : start + 13]).capitalize() for start in range(0, len(drawn), 13)]
    return ". ".join(lines) + "."


def vocabulary() -> list[str]:
    """Words of the packaged seed prompts as often as they occur, without those that look like talk of a policy."""
    found = " ".join(file.read_text() for file in seed_files(load_spec("safety")))
    left_out = {"policy", "policies", "rule", "rules", "guideline", "guidelines", "clause", "category", "prompt"}
    return [word for word in re.findall(r"[a-z]{2,}", found) if word not in left_out]


WORDS = vocabulary()


def dry_run(recipe: Path, *more: str) -> dict[str, Any]:
    """What `build --dry-run` says."""
    line = [sys.executable, "-m", "specdistill.cli.app", "build", str(recipe), "--dry-run", "--json", *more]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(run: Path) -> dict[str, float]:
    """The figures of a finished run."""
    with sqlite3.connect(run / "ledger.sqlite") as connection:
        asked = connection.execute(
            "SELECT stage, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens) FROM calls GROUP BY 1"
        ).fetchall()
    connection.close()
    found: dict[str, float] = {f"calls of {step}": calls for step, calls, *_ in asked}
    found |= {"prompt tokens": sum(row[2] for row in asked), "completion tokens": sum(row[3] for row in asked)}
    found["bytes of ledger"] = (run / "ledger.sqlite").stat().st_size
    for name in ("candidates", "judgments", "datasets"):
        found[f"bytes of {name}"] = sum(path.stat().st_size for path in (run / name).rglob("*.parquet"))
    return found


def predicted(said: dict[str, Any]) -> dict[str, float]:
    """The same figures, from a dry run."""
    found: dict[str, float] = {f"calls of {one['step']}": one["calls"] for one in said["steps"]}
    found |= {name.replace("_", " "): said["total"][name] for name in ("prompt_tokens", "completion_tokens")}
    return found | {f"bytes of {name}": size for name, size in said["bytes"].items() if name != "prompts"}


def compare(folder: Path) -> tuple[list[str], Path]:
    """(lines of the table, the larger build's recipe)."""
    with Wordy() as server:
        small, large = folder / "small.yaml", folder / "large.yaml"
        small.write_text(RECIPE.format(url=server.url, more=", per_category: 2"))
        large.write_text(RECIPE.format(url=server.url, more=""))
        for recipe in (small, large):
            done = build_alone(recipe, folder / recipe.stem, timeout=3000)
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
    alone, like = predicted(dry_run(large)), predicted(dry_run(large, "--like", str(folder / "small")))
    again = predicted(dry_run(large, "--like", str(folder / "large")))
    lines = [
        "| figure | measured | from the recipe | like 14 prompts | like itself |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, value in measured(folder / "large").items():
        three = (f"{said[name]:,.0f} ({said[name] / value - 1:+.1%})" for said in (alone, like, again))
        lines.append(f"| {name} | {value:,.0f} | {' | '.join(three)} |")
    return lines, large


def planned(recipe: Path, like: Path) -> list[str]:
    """The table of what larger builds would take."""
    lines = [
        "| prompts | calls | prompt tokens | of it cached | completion tokens | GPU-hours | GPU cost | on disk |",
        "| --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for prompts in PLANNED:
        more = ["--prompts", str(prompts), "--tokens-per-second", str(SPEED), "--gpu-price", str(GPU_PRICE)]
        said = dry_run(recipe, "--like", str(like), *more)
        total, disk = said["total"], sum(said["bytes"].values())
        lines.append(
            f"| {prompts:,} | {total['calls']:,} | {total['prompt_tokens'] / 1e9:,.2f} G "
            f"| {total['cached_tokens'] / total['prompt_tokens']:.0%} | {total['completion_tokens'] / 1e9:,.3f} G "
            f"| {said['gpu_hours']:,.0f} | {said['cost']['gpus']:,.0f} | {disk / 1e9:,.1f} GB |"
        )
    return lines


def write_section(path: Path, lines: list[str]) -> None:
    """Put the lines between the marks of a page; at its end where it has none."""
    page = path.read_text() if path.exists() else "# Scale\n"
    section = "\n".join([BEGIN, *(line if line.startswith("|") else fill(line, 120) for line in lines), END])
    if BEGIN in page:
        page = page[: page.index(BEGIN)] + section + page[page.index(END) + len(END) :]
    else:
        page = f"{page.rstrip()}\n\n{section}\n"
    path.write_text(page)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=RESULT)
    parser.add_argument("--section", type=Path, default=SCALE, help="the page that gets the section")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        checked, recipe = compare(folder)
        plan = planned(recipe, folder / "large")
    made = f"Written by `python benchmarks/capacity.py` on {datetime.now(UTC).date()}"
    what = (
        "3 samples with the policy and 1 without, a judge with k = 3; all packaged seed prompts of the safety policy; "
        "answers of drawn words, about 500 tokens, verdicts of about 85"
    )
    args.to.write_text("\n".join([f"# The capacity model, checked\n\n{made}: {what}.\n", *checked, "\n", *plan, ""]))
    write_section(
        args.section,
        [
            "## Capacity",
            "",
            "`specdistill build RECIPE --dry-run` says what a recipe will ask for before it asks. The recipe gives "
            "the calls by multiplication, the messages that would be sent give the prompt tokens and the shared "
            "prefix, and an earlier run (`--like RUN`) gives what nobody knows beforehand: how long answers are, how "
            "many pass the filters, what a row takes on disk. Without one a sample is taken to be half of "
            "`max_tokens`, and all candidates to pass.",
            "",
            f"{made}: {what}. {SPEED:,.0f} completion tokens a second a replica and a price of {GPU_PRICE:g} an "
            "hour are examples, to be replaced by yours:",
            "",
            *plan,
            "",
            "Checked against a build of all packaged seed prompts (in brackets the error; `like 14 prompts` is "
            "predicted from a build of two prompts a category, whose small files compress less well, `like itself` "
            "from the run that is predicted, so that only the arithmetic is left). Calls are exact where the filters "
            "let through what was assumed. What a row takes on disk without `--like` was set by such a build, so there "
            "the bytes are a fit and no prediction; from a run of 14 prompts they come out too large.",
            "",
            *checked,
        ],
    )
    print("\n".join([*checked, "", *plan]))


if __name__ == "__main__":
    main()
