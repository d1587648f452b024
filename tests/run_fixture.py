"""A small, complete run folder, made without a model.

A three-category workshop policy, templated candidates of every fate (accepted, each screen's reason, both arms,
abstentions, failed calls), and the derived sets by the real `select`. `write_run(folder)` is deterministic in its
arguments. What the rows say is nonsense; that they fit together is the point.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from specdistill import __version__
from specdistill.builders.keys import candidate_id, generator_digest, judge_digest, judgment_id
from specdistill.builders.parts import write_part
from specdistill.builders.prompts import prompt_table
from specdistill.builders.selection import select
from specdistill.builders.set_files import write_sets
from specdistill.builders.shard_writer import ShardWriter
from specdistill.schemas.configs import TABLES
from specdistill.schemas.digest import digest
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.manifest import FileEntry, Manifest, ModelEntry, SpecEntry, StageEntry
from specdistill.schemas.recipe import Engine, Recipe
from specdistill.schemas.recipe_file import dump_recipe
from specdistill.schemas.rows import CANDIDATES, JUDGMENTS
from specdistill.schemas.verify import file_entry
from specdistill.schemas.vocabulary import CONFIGS, CRITERIA
from specdistill.specs.clauses import clause_frame
from specdistill.specs.loader import load_spec
from specdistill.specs.render import render

CATEGORIES = {"tools": "TO", "paint": "PA", "advice": "AD"}
THINGS = {
    "tools": [
        "a hand plane",
        "a table saw",
        "a chisel",
        "a lathe",
        "a band saw",
        "a drill press",
        "a router",
        "a rasp",
    ],
    "paint": [
        "lead paint",
        "shellac",
        "milk paint",
        "epoxy",
        "a solvent",
        "linseed oil",
        "lacquer",
        "wood stain",
    ],
    "advice": [
        "a lease",
        "a warranty",
        "a permit",
        "an invoice",
        "a quote",
        "a refund",
        "a tax form",
        "a will",
    ],
}
ASKS = [
    "How do I work with {} without losing a finger?",
    "Which {} would suit somebody who has only ever cooked?",
    "My neighbour swears by {}; what would you tell him?",
    "Write a limerick about {} that makes an apprentice laugh.",
    "Explain {} to my grandmother, who was a carpenter.",
    "What went wrong when {} met the new guard last winter?",
    "Compare {} with what people used a hundred years ago.",
    "Somebody at the market sold me {}, was that wise?",
]
OUTCOMES = ("comply", "refuse", "safe_complete")
SPEC_SAMPLES, CONTRAST_SAMPLES, K = 4, 1, 3


def recipe(**changes: Any) -> Recipe:
    """The recipe of the run; `changes` replace its top-level keys."""
    asked: dict[str, Any] = {
        "name": "workshop-v1",
        "spec": "workshop",
        "prompts": [{"path": "prompts.jsonl"}],
        "generator": {"engine": "transformers", "model": "example/reasoner", "samples": SPEC_SAMPLES},
        "contrast": {"samples": CONTRAST_SAMPLES},
        "judge": {
            "engine": "transformers",
            "model": "example/judge",
            "k": K,
            "threshold": 0.6,
            "aggregate": "min",
        },
        "quota": {"max_samples_per_prompt": 2},
        "licences": {"prompts": "CC0-1.0", "models": "Apache-2.0"},
    }
    return Recipe.model_validate(asked | changes)


def write_run(
    folder: Path, seed: int = 0, prompts: int = 60, recipe: Recipe = recipe(), small_files: bool = False
) -> RunLayout:
    """Write a whole run folder.

    Args:
        folder: made if missing.
        seed: decides fates and scores.
        prompts: number of prompts, spread evenly over the categories (at most 192).
        small_files: divide even sets of this size into several files.
    """
    layout = RunLayout(folder)
    rendered = write_policy(layout)
    layout.recipe.write_text(dump_recipe(recipe), encoding="utf-8")
    asked = prompt_table(prompt_rows(prompts))
    sampled = CANDIDATES.frame(candidate_rows(asked, recipe, rendered, random.Random(seed)))
    judged = JUDGMENTS.frame(judgment_rows(sampled, recipe, rendered, random.Random(seed + 1)))
    for parts, frame in ((layout.prompts, asked), (layout.candidates, sampled), (layout.judgments, judged)):
        write_part(parts, frame)
    sets = select(asked, sampled, judged, pl.read_parquet(layout.clauses), recipe)
    sizes = {"shard_bytes": 10_000, "group_bytes": 20_000} if small_files else {}
    write_manifest(layout, recipe, write_sets(layout, [sets], **sizes), rendered, (asked, sampled, judged))
    return layout


def put_set(layout: RunLayout, config: str, split: str, frames: Iterable[pl.DataFrame]) -> None:
    """Give a finished run other rows in a set, as if they had been derived, and have its manifest say so."""
    with ShardWriter(layout.datasets / config, split, TABLES[config]) as writer:
        for frame in frames:
            writer.add(frame)
        writer.close()
        placed = writer.place()
    for path in layout.shards(config, split):
        if path not in placed:
            path.unlink()
    list_anew(layout)


def list_anew(layout: RunLayout) -> None:
    """Have the manifest of a finished run list the files that are there now, whatever is in them."""
    manifest = Manifest.model_validate_json(layout.manifest.read_bytes())
    layout.manifest.write_text(manifest.model_copy(update={"files": listed(layout)}).model_dump_json())


def listed(layout: RunLayout) -> dict[str, FileEntry]:
    """What a manifest says of a run's files."""
    paths = sorted([*layout.datasets.glob("*/*.parquet"), layout.recipe, *layout.spec_files])
    return {str(path.relative_to(layout.root)): file_entry(path) for path in paths}


def write_policy(layout: RunLayout) -> dict[str, str]:
    """Write `spec/`: Markdown, clause table, rendered texts. Returns category to digest of its rendered text."""
    (layout.spec / "categories").mkdir(parents=True)
    (layout.spec / "spec.md").write_text(
        "---\nid: workshop\ntitle: Workshop policy\nversion: 1.0.0\nlicence: CC-BY-4.0\n---\n"
        "This policy says how an assistant answers people in a workshop. Cite clauses by anchor while reasoning.\n"
    )
    (layout.spec / "style.md").write_text(
        "---\nkind: style\ntitle: Style\n---\n\n## Tone {#ST-1}\n\nBe brief, warm and exact, and name one next step.\n"
    )
    for category, prefix in CATEGORIES.items():
        sections = "".join(
            f"## {heading}\n\n### {heading} {category} {{#{prefix}-{letter}1}}\n\n"
            f"Questions about {category} that are plainly of the {heading.lower()} kind are handled just so, "
            f"with care for the {category} at hand and for the people standing near it.\n\n"
            for heading, letter in (("Comply", "C"), ("Refuse", "R"), ("Safe-complete", "S"))
        )
        text = f"---\nid: {category}\ntitle: {category.title()}\nsummary: All about {category}.\n---\n\n{sections}"
        (layout.spec / "categories" / f"{category}.md").write_text(text)
    spec = load_spec(layout.spec)
    shown = {category: render(spec, category) for category in CATEGORIES}
    layout.rendered.mkdir()
    for category, text in shown.items():
        (layout.rendered / f"{category}.md").write_text(text.text, encoding="utf-8")
    clause_frame(spec).write_parquet(layout.clauses)
    return {category: text.digest for category, text in shown.items()}


def prompt_rows(count: int) -> list[dict[str, Any]]:
    """Source rows: every fifth is multi-turn, every sixth has the next of its category as a twin."""
    rows = []
    for number in range(count):
        category = list(CATEGORIES)[number % len(CATEGORIES)]
        step = number // len(CATEGORIES)
        thing = THINGS[category][step % 8]
        text = ASKS[(step + step // 8) % 8].format(thing)
        turns = [{"role": "user", "content": text}]
        if number % 5 == 4:
            opening = {"role": "user", "content": f"Good morning, I run a small shop with {thing}."}
            turns = [opening, {"role": "assistant", "content": "Good morning. What can I do?"}, *turns]
        twin = f"p{number + 3}" if number % 6 == 0 and number + 3 < count else None
        rows.append(
            {
                "prompt": turns,
                "category": category,
                "outcome_hint": OUTCOMES[step % 3] if number % 7 else None,
                "twin_id": twin,
                "source": f"prompts.jsonl:{number + 1}",
                "source_id": f"p{number}",
            }
        )
    return rows


def candidate_rows(
    asked: pl.DataFrame, recipe: Recipe, rendered: dict[str, str], rng: random.Random
) -> list[dict[str, Any]]:
    """Candidates of both arms. Most are good; about a fifth has one planted fault each."""
    by_generator = generator_digest(recipe.generator)
    contrast = recipe.contrast.samples if recipe.contrast else 0
    arms = [("spec", recipe.generator.samples), ("contrast", contrast)]
    rows = []
    for prompt in asked.iter_rows(named=True):
        category, prefix = prompt["category"], CATEGORIES[prompt["category"]]
        for arm, index in ((arm, index) for arm, samples in arms for index in range(samples)):
            letter = rng.choice("CRS")
            thing = " ".join(prompt["prompt"][-1]["content"].split()[-4:]).rstrip("?.")
            row: dict[str, Any] = {
                "reasoning": f"They ask about {thing}. By [{prefix}-{letter}1] this is clear, and [ST-1] sets the "
                f"tone. I weigh case {rng.randrange(10**6)} and answer in a few words.",
                "answer": f"About {thing}: take your time, and keep note {rng.randrange(10**6)} in mind.",
                "parse": "ok",
                "finish_reason": "stop",
                "raw": None,
                "error": None,
            }
            if arm == "contrast":
                row["reasoning"] = f"They ask about {thing}. I think about it for a while and then simply answer."
            elif rng.random() < 0.2:
                row |= fault(rng.choice(FAULTS), row, prefix, category)
            spec_digest = rendered[category] if arm == "spec" else None
            rows.append(
                row
                | {
                    "candidate_id": candidate_id(prompt["prompt_id"], arm, by_generator, spec_digest, index),
                    "prompt_id": prompt["prompt_id"],
                    "category": category,
                    "arm": arm,
                    "sample_index": index,
                    "model": recipe.generator.model,
                    "generator_digest": by_generator,
                    "spec_digest": spec_digest,
                    "category_digest": spec_digest and digest("category", category),
                    "prompt_tokens": None if row["parse"] == "failed" else 900 if spec_digest else 60,
                    "completion_tokens": None if row["parse"] == "failed" else rng.randrange(40, 200),
                }
            )
    return rows


FAULTS = (
    "failed",
    "truncated",
    "empty",
    "malformed",
    "no_reasoning",
    "repeated",
    "leak",
    "copied",
    "invented",
)


def fault(name: str, row: dict[str, Any], prefix: str, category: str) -> dict[str, Any]:
    """The fields that make a good candidate a faulty one."""
    nothing = {"reasoning": None, "answer": None}
    match name:
        case "failed":
            return nothing | {
                "parse": "failed",
                "finish_reason": "error",
                "error": "HTTP 503 after 5 retries",
            }
        case "truncated":
            return nothing | {"parse": "truncated", "finish_reason": "length", "raw": row["reasoning"][:40]}
        case "empty":
            return {"answer": None, "parse": "empty"}
        case "malformed":
            return nothing | {"parse": "malformed", "raw": "</think></think>" + row["answer"]}
        case "no_reasoning":
            return {"reasoning": "Fine."}
        case "repeated":
            return {"answer": "keep calm and sand the board along its grain today " * 12}
        case "leak":
            return {"answer": f"Per [{prefix}-R1] and my guidelines, I can't say more."}
        case "copied":
            return {
                "answer": f"Questions about {category} that are plainly of the refuse kind are handled just so, "
                f"with care for the {category} at hand and for the people standing near it."
            }
        case _:
            return {"reasoning": f"By [{prefix}-R9] I must not, whatever the shop owner thinks about all of this."}


REASONS = ("declined", "not_json", "truncated")


def on_scale(value: float) -> float:
    """The nearest score a judge can give: fifths of the scale 1 to 5 as 0, 0.25, ... 1."""
    return min(1.0, max(0.0, round(4 * value) / 4))


def judgment_rows(
    sampled: pl.DataFrame, recipe: Recipe, rendered: dict[str, str], rng: random.Random
) -> list[dict[str, Any]]:
    """k samples for each candidate with an answer; one in nine abstains, few fail, some candidates get no vote."""
    by_judge = judge_digest(recipe.judge)
    rows = []
    for candidate in sampled.filter(pl.col("answer").is_not_null()).iter_rows(named=True):
        quality = rng.choice([0.35, 0.75, 0.75, 1.0]) - (0.25 if candidate["arm"] == "contrast" else 0.0)
        mute = rng.random() < 0.03
        for index in range(recipe.judge.k):
            draw = 0.0 if mute else rng.random()
            status = "abstained" if draw < 0.11 else "failed" if draw < 0.13 else "scored"
            scores = {
                name: min(1.0, max(0.0, round(4 * (quality + rng.gauss(0, 0.12))) / 4)) if status == "scored" else None
                for name in CRITERIA
            }
            spec_digest = rendered[candidate["category"]]
            key = judgment_id(candidate["candidate_id"], by_judge, spec_digest, index)
            rows.append(
                scores
                | {
                    "judgment_id": key,
                    "candidate_id": candidate["candidate_id"],
                    "prompt_id": candidate["prompt_id"],
                    "category": candidate["category"],
                    "judge": recipe.judge.model,
                    "judge_digest": by_judge,
                    "spec_digest": spec_digest,
                    "category_digest": digest("category", candidate["category"]),
                    "sample_index": index,
                    "status": status,
                    "abstain_reason": rng.choice(["declined", "not_json", "truncated"])
                    if status == "abstained"
                    else None,
                    "justification": "It does what the clause asks for." if status == "scored" else None,
                    "raw": "{}",
                    "error": "timed out after 600 s" if status == "failed" else None,
                    "prompt_tokens": 1300 if status != "failed" else None,
                    "completion_tokens": rng.randrange(30, 60) if status != "failed" else None,
                }
            )
    return rows


def write_manifest(
    layout: RunLayout,
    recipe: Recipe,
    counts: dict[str, dict[str, int]],
    rendered: dict[str, str],
    tables: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame],
) -> Manifest:
    """Write `manifest.json` with a fixed time, so that the same run has the same bytes."""
    spec = load_spec(layout.spec)
    asked, sampled, judged = tables
    manifest = Manifest(
        name=recipe.name,
        created="2026-01-02T03:04:05+00:00",
        specdistill=__version__,
        schemas={config: TABLES[config].version for config in CONFIGS},
        recipe=recipe.model_dump(mode="json"),
        spec=SpecEntry(
            id=spec.id,
            title=spec.title,
            version=spec.version,
            licence=spec.licence,
            digest=spec.digest,
            rendered=rendered,
        ),
        models=[
            model_entry("generator", recipe.generator, generator_digest(recipe.generator)),
            model_entry("judge", recipe.judge, judge_digest(recipe.judge)),
        ],
        stages={
            "prompts": StageEntry(rows=asked.height),
            "candidates": StageEntry(rows=sampled.height),
            "judgments": StageEntry(rows=judged.height),
            "calls/generate": calls(sampled.filter(pl.col("arm") == "spec"), pl.col("parse") == "failed", 61.0),
            "calls/contrast": calls(sampled.filter(pl.col("arm") != "spec"), pl.col("parse") == "failed", 9.0),
            "calls/judge": calls(judged, pl.col("status") == "failed", 80.0),
            "run": StageEntry(rows=0, seconds=150.0),
        },
        counts=counts,
        files=listed(layout),
        packages={"polars": "2.1.0"},
    )
    layout.manifest.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def model_entry(role: str, engine: Engine, digest: str) -> ModelEntry:
    """A model as the manifest names it."""
    sampling = {"temperature": engine.temperature, "max_tokens": engine.max_tokens}
    return ModelEntry(role=role, model=engine.model, engine=engine.engine, digest=digest, sampling=sampling)


def calls(frame: pl.DataFrame, failed: pl.Expr, seconds: float) -> StageEntry:
    """What the ledger would have counted for these rows."""
    broken = frame.filter(failed).height
    return StageEntry(
        rows=frame.height,
        calls=frame.height - broken,
        failed_calls=broken,
        prompt_tokens=frame["prompt_tokens"].sum(),
        completion_tokens=frame["completion_tokens"].sum(),
        seconds=seconds,
    )
