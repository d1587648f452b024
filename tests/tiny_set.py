"""A small published set, as `publish --to-dir` lays it out, of templated rows over a spec of five clauses.

What a model can learn from it is form (a reasoning that cites the clause of the question's topic), which is all the
trainers' tests need.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from specdistill.schemas.configs import TABLES
from specdistill.schemas.manifest import FileEntry, Manifest, ModelEntry, Release, SpecEntry
from specdistill.schemas.rows import CLAUSES

TOPICS = {
    "medicine": (
        "HE-S1",
        "safe_complete",
        ["aspirin", "ibuprofen", "a cough syrup", "an antibiotic", "melatonin"],
    ),
    "locks": ("LO-R1", "refuse", ["a padlock", "a door lock", "a bike lock", "a safe", "a car lock"]),
    "cooking": ("CO-C1", "comply", ["lentil soup", "flat bread", "a curry", "pancakes", "an omelette"]),
    "money": (
        "MO-S2",
        "safe_complete",
        ["a savings plan", "an index fund", "a mortgage", "a pension", "a loan"],
    ),
    "animals": ("AN-C2", "comply", ["a puppy", "a parrot", "a hamster", "a goldfish", "a kitten"]),
}
"""Category to (anchor, outcome, things asked about)."""

ASKS = (
    "Tell me about {}.",
    "What should I know about {}?",
    "Can you help me with {}?",
    "I have a question about {}, where do I start?",
    "My friend wants to know more about {}.",
    "Please explain {} to me.",
    "How do people usually deal with {}?",
    "Give me advice on {}.",
)
ANSWERS = {
    "comply": "Sure, here is how to go about {}: start small, keep notes, and ask again when something is unclear.",
    "refuse": "I can't help with {}. If you are locked out, a locksmith can help you safely.",
    "safe_complete": "In general terms, {} depends on your situation; ask a professional before you decide.",
}
BAD = "No idea about {}, do whatever you want and do not ask me again."


def reasoning_for(category: str, thing: str) -> str:
    """The reasoning to be learnt: topic, clause, decision."""
    anchor, outcome, _ = TOPICS[category]
    decision = outcome.replace("_", "-")
    return (
        f"The user asks about {thing}, which belongs to {category}. The clause that decides is [{anchor}]. "
        f"It asks me to {decision}. I will {decision} and keep the answer short."
    )


def rows(repeats: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """One row an (ask, thing) pair: 5 topics x 5 things x 8 asks = 200, the last ask of each held out as test."""
    out = []
    for category, (anchor, outcome, things) in TOPICS.items():
        for thing in things:
            for number, ask in enumerate(ASKS[: 2 * repeats]):
                key = hashlib.md5(f"{category}{thing}{number}".encode()).hexdigest()
                out.append(
                    {
                        "id": key,
                        "prompt": [{"role": "user", "content": ask.format(thing)}],
                        "category": category,
                        "thing": thing,
                        "anchor": anchor,
                        "outcome": outcome,
                        "reasoning": reasoning_for(category, thing),
                        "answer": ANSWERS[outcome].format(thing),
                        "split": "test" if number == 2 * repeats - 1 else "train",
                    }
                )
    random.Random(seed).shuffle(out)
    return out


def turn(reasoning: str | None, answer: str) -> list[dict[str, Any]]:
    """A published assistant turn."""
    return [{"role": "assistant", "content": answer, "reasoning_content": reasoning}]


def config_rows(config: str, made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one published config."""
    version = TABLES[config].version
    out: list[dict[str, Any]] = []
    for at, row in enumerate(made):
        base = {
            "id": row["id"],
            "prompt": row["prompt"],
            "category": row["category"],
            "schema_version": version,
        }
        good = turn(row["reasoning"], row["answer"])
        bad = turn("I do not care about this at all.", BAD.format(row["thing"]))
        if config == "sft":
            more = {"completion": good, "prompt_id": row["id"], "outcome_hint": row["outcome"], "score": 1.0}
            out.append(base | more | {"clauses": [row["anchor"]], "spec_digest": "d"})
        elif config == "preference":
            more = {
                "chosen": good,
                "rejected": bad,
                "score_chosen": 0.9,
                "score_rejected": 0.2,
                "margin": 0.7,
            }
            more |= {"prompt_id": row["id"], "noise": 0.05, "chosen_id": "c", "rejected_id": "r"}
            out.append(base | more | {"rejected_arm": "contrast"})
        elif config == "kto":
            label = at % 2 == 0
            more = {"completion": good if label else bad, "label": label, "score": 0.9 if label else 0.2}
            out.append(base | more | {"prompt_id": row["id"]})
        elif config == "prompts":
            out.append(base | {"outcome_hint": row["outcome"], "twin_id": None, "source": "tiny"})
    return out


def write_set(
    folder: Path,
    made: list[dict[str, Any]] | None = None,
    *,
    version: str = "1.0.0",
    judge: dict[str, Any] | None = None,
) -> Path:
    """Write a whole published folder.

    Args:
        made: from `rows`; tests change some to plant faults.
        judge: judge section of the recipe, for GRPO.
    """
    made = rows() if made is None else made
    counts: dict[str, dict[str, int]] = {}
    for config in ("sft", "preference", "kto", "prompts"):
        for split in ("train", "test"):
            part = config_rows(config, [row for row in made if row["split"] == split])
            path = folder / config / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            TABLES[config].frame(part).write_parquet(path)
            counts.setdefault(config, {})[split] = len(part)
    clauses = [
        {
            "anchor": anchor,
            "category": category,
            "outcome": outcome,
            "title": category.title(),
            "digest": anchor,
        }
        | {"text": f"Questions about {category} and everything near it get the treatment that is named {outcome} here."}
        for category, (anchor, outcome, _) in TOPICS.items()
    ]
    rendered = folder / "spec" / "rendered"
    rendered.mkdir(parents=True, exist_ok=True)
    CLAUSES.frame(clauses).write_parquet(folder / "spec" / "clauses.parquet")
    for clause in clauses:
        text = f"# Overview\n\nFive topics.\n\n## {clause['title']}\n\n- [{clause['anchor']}] {clause['text']}\n"
        (rendered / f"{clause['category']}.md").write_text(text)
    configs = [
        {
            "config_name": config,
            "data_files": [{"split": s, "path": f"{config}/{s}-*.parquet"} for s in ("train", "test")],
        }
        for config in counts
    ]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n\n# tiny\n")
    write_manifest(folder, counts, version, judge)
    return folder


def write_manifest(
    folder: Path, counts: dict[str, dict[str, int]], version: str, judge: dict[str, Any] | None = None
) -> None:
    """Write `manifest.json` over what is in the folder."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("manifest.json", ".gitattributes"):
            raw = path.read_bytes()
            height = pl.read_parquet(path).height if path.suffix == ".parquet" else None
            name = path.relative_to(folder).as_posix()
            files[name] = FileEntry(sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw), rows=height)
    manifest = Manifest(
        name="tiny",
        created="2026-01-01T00:00:00Z",
        specdistill="0",
        schemas={config: TABLES[config].version for config in counts},
        recipe={"screens": {"copied_words": 12}} | ({"judge": judge} if judge else {}),
        spec=SpecEntry(id="tiny", title="Tiny", version="1", licence="Apache-2.0", digest="d" * 32),
        models=[ModelEntry(role="judge", model="test-judge", engine="openai", digest="j" * 32)],
        stages={},
        counts=counts,
        files=files,
        release=Release(version=version),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2))
