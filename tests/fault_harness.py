"""The fault harness: a whole build in front of a server that misbehaves, then the rerun, and what both left.

Used by `test_faults.py` (some faults) and `benchmarks/faults.py` (all of them; it writes the table).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import polars as pl
from fake_openai_server import FakeOpenAI, Rule
from forked_cli import ForkedCLI

RECIPE = """
name: faults
spec: safety
prompts: [{{library: seeds, per_category: 1}}]
generator: {{engine: openai, base_url: "{url}", model: fake, samples: 2, reasoning: guided, concurrency: 8,
             max_tokens: 300, timeout: {timeout}, retries: {retries}}}
judge: {{engine: openai, base_url: "{url}", model: fake, k: 2, threshold: 0.3, aggregate: mean, min_votes: 1,
         concurrency: 8, max_tokens: 300, timeout: {timeout}, retries: {retries}}}
preference: {{min_margin: 0.01}}
"""
JUDGING = "strict, fair judge"
"""Stands in every judge request and in no other."""
PLACES = ("one prompt", "one judged answer", "a third of all requests", "every request")
TABLES = (("candidates", "candidate_id"), ("judgments", "judgment_id"))
EMPTY = pl.DataFrame(schema={"candidate_id": pl.String, "judgment_id": pl.String, "error": pl.String})


@dataclass(frozen=True)
class Outcome:
    """What one fault did.

    Attributes:
        fault: name in FAULTS, or `refused`: nobody listens.
        place: where it was served, one of PLACES.
        ended: `finished`, or the error the build ended with.
        served: requests that got the fault.
        tries: requests for the hit prompt, over both of its samples; 0 where none was singled out.
        waits: seconds between its tries.
        failed: rows kept as failed calls, with their reason.
        reasons: the reasons, most frequent first.
        neighbours: failed or unreadable rows of prompts that were not hit.
        lost: rows that are missing after the rerun against a healthy server.
        doubled: finished rows that are there twice after the rerun.
        still_failed: failed rows that the rerun left.
    """

    fault: str
    place: str
    ended: str
    served: int
    tries: int
    waits: tuple[float, ...]
    failed: int
    reasons: tuple[str, ...]
    neighbours: int
    lost: int
    doubled: int
    still_failed: int

    @property
    def whole(self) -> bool:
        """Nothing lost, doubled or left failed, and no neighbour touched."""
        return not (self.lost or self.doubled or self.still_failed or self.neighbours)


def write_recipe(folder: Path, url: str, *, retries: int = 1, timeout: float = 3.0) -> Path:
    """The harness's recipe: 7 prompts, 14 candidates, 28 judgments."""
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(url=url, retries=retries, timeout=timeout))
    return path


def try_fault(cli: ForkedCLI, folder: Path, fault: str, place: str, *, retries: int = 1) -> Outcome:
    """Build with the fault, build again without it, and compare with what the recipe asks for."""
    folder.mkdir(parents=True)
    out = folder / "run"
    with FakeOpenAI() as healthy:
        prompt = a_prompt(cli, folder, healthy)
        with FakeOpenAI(*rules(fault, place, prompt), seed=1) as server:
            recipe = write_recipe(folder, server.url, retries=retries)
            if fault == "refused":
                server.stop()
            done = cli.run("build", recipe, "--out", out)
            hit = [asked for asked in server.asked if is_hit(asked, prompt, place)]
            served = server.calls - server.served["ok"]
            tries = max((server.asked[asked] for asked in hit), default=0)
            waits = [gap for asked in hit[:1] for gap in gaps(server.asked_at[asked])]
        assert "Traceback" not in done.output, done.output
        failed, neighbours, reasons = failures(out, prompt)
        again = cli.run("build", write_recipe(folder, healthy.url), "--out", out)
        assert again.code == 0, again.output
        lost, doubled, still = what_is_missing(cli, out)
    return Outcome(
        fault=fault,
        place=place,
        ended="finished" if done.code == 0 else error_line(done.output),
        served=served,
        tries=tries,
        waits=tuple(round(wait, 1) for wait in waits),
        failed=failed,
        reasons=tuple(reasons),
        neighbours=neighbours if place.startswith("one") else 0,
        lost=lost,
        doubled=doubled,
        still_failed=still,
    )


def rules(fault: str, place: str, prompt: str) -> list[Rule]:
    """The server's rule for a place."""
    if fault == "refused":
        return []
    match place:
        case "one prompt":
            return [Rule(fault, contains=prompt)]
        case "one judged answer":
            return [Rule(fault, contains=(prompt, JUDGING))]
        case "a third of all requests":
            return [Rule(fault, share=1 / 3)]
        case _:
            return [Rule(fault)]


def a_prompt(cli: ForkedCLI, folder: Path, server: FakeOpenAI) -> str:
    """The text of one prompt of the recipe: of a build against a healthy server, made once."""
    known = cli.folder / "prompt.txt"
    if not known.exists():
        done = cli.run("build", write_recipe(folder, server.url), "--out", folder / "first")
        assert done.code == 0, done.output
        known.write_text(pl.read_parquet(folder / "first/prompts/*.parquet")["prompt"][3][-1]["content"])
        shutil.rmtree(folder / "first")
    return known.read_text()


def is_hit(asked: str, prompt: str, place: str) -> bool:
    """Whether a request is one that the fault is for."""
    if place == "one prompt":
        return asked == prompt
    return place == "one judged answer" and prompt in asked and asked != prompt


def gaps(times: list[float]) -> list[float]:
    """Seconds between tries."""
    return [later - earlier for earlier, later in pairwise(times)]


def failures(out: Path, prompt: str) -> tuple[int, int, list[str]]:
    """(failed rows, failed or unreadable rows of other prompts, reasons) of a run as it is on disk."""
    if not (out / "prompts").exists():
        return 0, 0, []
    prompts = pl.read_parquet(out / "prompts/*.parquet")
    hit = prompts.filter(pl.col("prompt").list.last().struct.field("content") == prompt)["prompt_id"].item()
    reasons: Counter[str] = Counter()
    failed = neighbours = 0
    for table, _ in TABLES:
        if not list((out / table).glob("*.parquet")):
            continue
        rows = pl.read_parquet(out / table / "*.parquet")
        bad = rows.filter(pl.col("error").is_not_null())
        reasons.update(bad["error"].to_list())
        failed += bad.height
        if table == "candidates":
            unreadable = rows.filter((pl.col("parse") != "ok") & pl.col("error").is_null())
            reasons.update(f"read as {parse}" for parse in unreadable["parse"])
        else:
            unreadable = rows.filter(pl.col("abstain_reason").is_in(["not_json", "wrong_shape", "truncated"]))
            reasons.update(f"abstains: {reason}" for reason in unreadable["abstain_reason"])
        neighbours += (
            pl.concat([bad.select("prompt_id"), unreadable.select("prompt_id")])
            .filter(pl.col("prompt_id") != hit)
            .height
        )
    return failed, neighbours, [reason for reason, _ in reasons.most_common()]


def what_is_missing(cli: ForkedCLI, out: Path) -> tuple[int, int, int]:
    """(lost, doubled, still failed) rows of a run that claims to be complete.

    Lost: candidates and judgments that the recipe asks for and nobody has, and candidates that the derived sets do
    not know. Doubled: finished rows with one key, in the stored parts and in the derived sets.
    """
    status = json.loads(cli.run("status", out, "--json").output)
    assert status["complete"], status
    stages = status["stages"]
    lost = sum(stages[name]["pending"] for name in ("candidates", "judgments"))
    doubled = 0
    keys = {}
    for table, key in TABLES:
        parts = sorted((out / table).glob("*.parquet"))  # none of the judgments where no answer could be read
        rows = pl.concat(
            [pl.read_parquet(part, columns=[key, "error"]) for part in parts] or [EMPTY.select(key, "error")]
        )
        rows = rows.filter(pl.col("error").is_null())
        keys[table] = set(rows[key].to_list())
        doubled += rows.height - len(keys[table])
    derived = [
        pl.read_parquet(path)["id"].to_list()
        for config in ("sft", "rejected")
        for path in sorted((out / "datasets" / config).glob("*.parquet"))
    ]
    ids = [one for part in derived for one in part]
    doubled += len(ids) - len(set(ids))
    lost += len(keys["candidates"] - set(ids)) + max(0, 14 - len(keys["candidates"]))
    return lost, doubled, sum(stages[name]["failed"] for name in ("candidates", "judgments"))


def error_line(output: str) -> str:
    """The line of the error that a command ended with."""
    return next((line.removeprefix("error ") for line in output.splitlines() if line.startswith("error ")), output)
