"""Growing a prompt set: a model writes, our code dresses, doubles go, and every row says how it came to be."""

# No `from __future__ import annotations` here: distilabel reads the type hints of `process` at run time.

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from distilabel.pipeline import Pipeline
from distilabel.typing import FormattedInput
from pydantic import PrivateAttr

from specdistill.builders.cleaning.clean import clean, removal_counts
from specdistill.builders.engines.base import Completion
from specdistill.builders.engines.factory import EnginePool
from specdistill.builders.engines.foreign_code import foreign_code
from specdistill.builders.growing.asking import (
    TEMPLATE_VERSION,
    GrowParse,
    Written,
    grow_messages,
    grow_schema,
    read_written,
)
from specdistill.builders.growing.axes import Axes, covered, covering_rows, laid_out
from specdistill.builders.growing.dressing import dressed
from specdistill.builders.ledger import Ledger
from specdistill.builders.pipelines import ReadRows
from specdistill.builders.prompts import pool_frame, prompt_id
from specdistill.builders.runner import Hooks, run_to_end, walk
from specdistill.builders.steps import Step
from specdistill.builders.tasks import SampledTask
from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.loader import load_spec
from specdistill.specs.model import Spec

GROW = "grow"


@dataclass(frozen=True)
class Grown:
    """What came of it.

    Attributes:
        rows: prompt-set rows with lineage, as a prompt source reads them.
        asked: requests.
        faults: why replies gave nothing, with their number.
        removed: why prompts were dropped as doubles, with their number.
        pairs: (pairs of axis values that the rows cover, pairs there are).
    """

    rows: list[dict[str, Any]]
    asked: int
    faults: dict[str, int]
    removed: dict[str, int]
    pairs: tuple[int, int]


class GrowPrompt(SampledTask):
    """Writes a prompt that a clause decides, along given axes, and its benign twin.

    Attributes:
        spec: folder, file or library name of the spec.
        guided: whether the JSON schema is enforced by the engine.

    Input columns:
        - request (`int`), anchor (`str`), axes (`dict`)

    Output columns:
        - parse (`str`), prompt, twin, first, answer (`str` or None), error (`str`)
    """

    spec: str
    guided: bool = True

    _spec: Spec | None = PrivateAttr(None)

    @property
    def inputs(self) -> list[str]:
        """Columns needed."""
        return ["request", "anchor", "axes"]

    @property
    def outputs(self) -> list[str]:
        """Columns given."""
        return ["parse", "prompt", "twin", "first", "answer", "error"]

    @property
    def policy(self) -> Spec:
        """The spec; loaded on first use."""
        if self._spec is None:
            self._spec = load_spec(self.spec)
        return self._spec

    def format_input(self, input: dict[str, Any]) -> FormattedInput:
        """The messages of one call, with the reply's JSON schema in guided mode."""
        clause = self.policy.by_anchor[input["anchor"]]
        messages = grow_messages(self.policy, clause, input["axes"])
        return (messages, {"schema": grow_schema(clause, input["axes"])}) if self.guided else messages

    def row(self, row: Mapping[str, Any], index: int, completion: Completion) -> dict[str, Any]:
        """What one completion wrote."""
        found = Written(GrowParse.FAILED)
        if completion.error is None:
            clause = self.policy.by_anchor[row["anchor"]]
            anchors = self.policy.anchors
            found = read_written(completion.text, completion.finish_reason, clause, row["axes"], anchors)
        return dict(row) | vars(found) | {"parse": found.parse.value, "error": completion.error}


def grow(
    recipe: Recipe,
    existing: pl.DataFrame,
    ledger: Ledger,
    *,
    axes: Axes,
    per_clause: int,
    categories: list[str],
    step: Step,
    engines: EnginePool | None = None,
    trust_remote_code: bool = False,
) -> Grown:
    """New prompts for every clause of some categories.

    Args:
        recipe: for spec, generator and cleaning rules.
        existing: pool of the prompts there are; what doubles one of them is dropped.
        per_clause: requests for each clause, at least.
        categories: ids; empty for all.
        engines: where the generator's engine comes from; it is left open. Default is a pool of its own.
        trust_remote_code: let the generator's options run code that comes with a model.

    Raises:
        EngineError, EngineUnreachable: the generator cannot be used.
        RecipeError: its options could run foreign code, and `trust_remote_code` is not given.
        SpecError: no such category.
        Stopped: the user asked for a stop; a rerun goes on.
    """
    spec = load_spec(recipe.spec)
    chosen = [spec.category(name) for name in categories] or list(spec.categories)
    clauses = [clause.anchor for category in chosen for clause in category.clauses]
    plan = laid_out(clauses, covering_rows(axes), per_clause)
    requests = [{"request": at, "anchor": anchor, "axes": row} for at, (anchor, row) in enumerate(plan)]
    with foreign_code(trust_remote_code):
        replies = ask(requests, recipe, ledger, step, engines)
    faults = Counter(reply["parse"] for reply in replies if reply["parse"] != GrowParse.OK)
    rows = [row for reply in replies if reply["parse"] == GrowParse.OK for row in rows_of(reply, spec, recipe)]
    kept, removed = fresh(rows, existing, recipe, step)
    used = [json.loads(row["lineage"])["axes"] for row in kept]
    return Grown(kept, len(requests), dict(faults), removed, covered(used, axes))


def ask(
    requests: list[dict[str, Any]], recipe: Recipe, ledger: Ledger, step: Step, engines: EnginePool | None = None
) -> list[dict[str, Any]]:
    """The replies, in the order of the requests."""
    found: list[dict[str, Any]] = []

    def sink(rows: list[dict[str, Any]]) -> None:
        found.extend(rows)
        step("growing", len(found), len(requests))

    with nullcontext(engines) if engines else EnginePool() as pool:
        with Pipeline(name="specdistill-grow", description="New prompts from clauses") as pipeline:
            root = ReadRows(name="clauses", folder=".", columns=["request", "anchor", "axes"])
            root.give(lambda: requests)
            task = GrowPrompt(
                name=GROW,
                llm=pool.engine(recipe.generator),
                spec=recipe.spec,
                guided=recipe.generator.reasoning == "guided",
                num_generations=1,
                input_batch_size=recipe.generator.concurrency,
            )
            root >> task
        run_to_end(walk(pipeline, ledger, Hooks({GROW: sink})))
    return sorted(found, key=lambda row: row["request"])


def rows_of(reply: dict[str, Any], spec: Spec, recipe: Recipe) -> list[dict[str, Any]]:
    """The prompt and its twin as prompt-set rows; `plain` is the undressed text that doubles are looked for in."""
    clause = spec.by_anchor[reply["anchor"]]
    stated = None if clause.outcome is Outcome.UNSPECIFIED else clause.outcome.value
    lineage = {
        "model": recipe.generator.model,
        "template": TEMPLATE_VERSION,
        "spec": f"{spec.id}@{spec.version}",
        "clause": clause.anchor,
        "clause_digest": clause.digest,
        "axes": reply["axes"],
    }
    earlier = [
        {"role": role, "content": reply[name]}
        for role, name in (("user", "first"), ("assistant", "answer"))
        if reply[name]
    ]
    texts = [("prompt", reply["prompt"], stated)]
    texts += [("twin", reply["twin"], Outcome.COMPLY.value)] if reply["twin"] else []
    ids = {role: digest("grown", reply["anchor"], reply["axes"], role, text) for role, text, _ in texts}
    return [
        {
            "id": ids[role],
            "prompt": [*earlier, {"role": "user", "content": dressed(text, reply["axes"])}],
            "category": clause.category,
            "outcome_hint": outcome,
            "twin_id": next((ids[other] for other in ids if other != role), None),
            "lineage": json.dumps(lineage | {"role": role}, ensure_ascii=False, sort_keys=True),
            "plain": [*earlier, {"role": "user", "content": text}],
        }
        for role, text, outcome in texts
    ]


def fresh(
    rows: list[dict[str, Any]], existing: pl.DataFrame, recipe: Recipe, step: Step
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The rows that double nothing that is there nor each other, and why others went. A pair goes together."""
    plain = pool_frame(
        row | {"prompt": row["plain"], "source": f"grown:{at}", "source_id": row["id"]} for at, row in enumerate(rows)
    )
    found = clean(pl.concat([existing, plain]), recipe.clean, step)
    gone = found.removed.filter(pl.col("source").str.contains(r"^grown:\d+$"))
    lost = {rows[int(source.partition(":")[2])]["id"] for source in gone["source"].to_list()}
    orphans = {row["id"] for row in rows if row["twin_id"] in lost} - lost
    kept: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["id"] not in lost | orphans:
            twin = row["twin_id"] if row["twin_id"] not in lost else None
            kept.setdefault(
                prompt_id(row["prompt"]),
                {name: value for name, value in row.items() if name != "plain"} | {"twin_id": twin},
            )
    counts = removal_counts(gone) | ({"without_its_twin": len(orphans)} if orphans else {})
    return list(kept.values()), counts


def write_grown(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the rows as JSONL, as a prompt source reads it.

    Raises:
        DiskError: it cannot be written.
    """
    from specdistill.schemas.files import write_whole

    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
