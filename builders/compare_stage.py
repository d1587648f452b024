"""The pairwise stage of a build: preference pairs are judged again, both answers side by side, in both orders."""

# No `from __future__ import annotations` here: distilabel reads the type hints of `process` at run time.

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import polars as pl
from distilabel.pipeline import Pipeline
from distilabel.typing import FormattedInput

from specdistill.builders.audit.stage import people_of
from specdistill.builders.comparing import COMPARE_VERSION, choice_schema, compare_messages, read_choice
from specdistill.builders.contexts import SpecContexts
from specdistill.builders.engines.base import Completion, Engine
from specdistill.builders.engines.factory import EnginePool, Host
from specdistill.builders.keys import judge_digest, missing_indexes
from specdistill.builders.ledger import Ledger
from specdistill.builders.parts import PartWriter, read_parts
from specdistill.builders.pipelines import ReadRows
from specdistill.builders.runner import SAMPLES, Hooks, run_to_end, walk
from specdistill.builders.selection import decide_run, pairs_of
from specdistill.builders.stored import Stored
from specdistill.builders.tasks import SpecTask
from specdistill.schemas.comparisons import COMPARISONS
from specdistill.schemas.digest import digest
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.text import storable, without_folder
from specdistill.schemas.vocabulary import JudgmentStatus

ORDERS = ("compare", "compare_swapped")
COLUMNS = ["prompt_id", "prompt", "category", "chosen_id", "rejected_id", "chosen", "rejected"]
"""Of a pair: ids and answers."""
PAIR = ["prompt_id", "category", "chosen_id", "rejected_id"]
"""Of a pair without its texts."""


class ComparePair(SpecTask):
    """Says which of two answers follows the spec better; every sample is a choice or an abstention.

    Attributes:
        spec, examples: as for `SpecTask`.
        compare_digest: digest of model, sampling and template, on every row.
        justification_chars: most characters of the justification.
        guided: whether the JSON schema is enforced by the engine.
        swapped: whether the rejected answer stands first.

    Input columns:
        - prompt_id, prompt, category, chosen_id, rejected_id, chosen, rejected (the answers)

    Output columns: those of the comparisons table.
    """

    compare_digest: str = ""
    justification_chars: int = 240
    guided: bool = True
    swapped: bool = False

    @property
    def inputs(self) -> list[str]:
        """Columns needed."""
        return COLUMNS

    @property
    def outputs(self) -> list[str]:
        """Columns given."""
        return [name for name in COMPARISONS.names if name not in COLUMNS]

    def sides(self, row: Mapping[str, Any]) -> tuple[str, str]:
        """`chosen` and `rejected` in the order they are shown."""
        return ("rejected", "chosen") if self.swapped else ("chosen", "rejected")

    def format_input(self, input: dict[str, Any]) -> FormattedInput:
        """The messages of one pairwise call."""
        first, second = self.sides(input)
        text = self.contexts.text(input["category"])
        messages = compare_messages(text, input["prompt"], input[first], input[second])
        if not self.guided:
            return messages  # type: ignore[return-value]
        return messages, {"schema": choice_schema(self.justification_chars)}  # type: ignore[return-value]

    def row(self, row: Mapping[str, Any], index: int, completion: Completion) -> dict[str, Any]:
        """The comparison as read from one completion."""
        first, second = (row[f"{side}_id"] for side in self.sides(row))
        spec_digest = self.contexts.digest(row["category"])
        failed = completion.error is not None
        text = storable(completion.text)
        verdict, better = read_choice(text, completion.finish_reason)
        reason = verdict.abstain_reason
        return {
            "comparison_id": comparison_id(first, second, self.compare_digest, spec_digest, index),
            "prompt_id": row["prompt_id"],
            "category": row["category"],
            "first_id": first,
            "second_id": second,
            "judge": without_folder(self.llm.model_name),
            "judge_digest": self.compare_digest,
            "spec_digest": spec_digest,
            "sample_index": index,
            "status": JudgmentStatus.FAILED.value if failed else verdict.status.value,
            "abstain_reason": None if failed or reason is None else reason.value,
            "better": None if failed else better,
            "justification": None if failed else verdict.justification,
            "raw": None if failed else text,
            "error": completion.error,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
        }


def comparison_id(first: str, second: str, judge: str, spec: str, index: int) -> str:
    """Key of a comparison in this order."""
    return digest("comparison", first, second, judge, spec, index)


def compare_digest(recipe: Recipe) -> str:
    """Digest on every comparison: the first judge's, and the version of what it is asked."""
    return digest("compare", judge_digest(recipe.judge), COMPARE_VERSION)


def compare_pipeline(
    recipe: Recipe, layout: RunLayout, judge: Engine, pairs: Callable[[], Iterable[dict[str, Any]]]
) -> Pipeline:
    """Pairs to comparisons, one branch an order."""
    asked = recipe.preference.pairwise
    with Pipeline(name=f"specdistill-compare-{recipe.name}", description="Pairs, judged in both orders") as pipeline:
        root = ReadRows(name="pairs", folder=str(layout.comparisons), columns=COLUMNS)
        root.give(pairs)
        for swapped, name in enumerate(ORDERS):
            root >> ComparePair(
                name=name,
                llm=judge,
                spec=str(layout.spec),
                examples=recipe.context.examples,
                compare_digest=compare_digest(recipe),
                justification_chars=recipe.judge.justification_chars,
                guided=recipe.judge.reasoning == "guided",
                swapped=bool(swapped),
                num_generations=asked.samples if asked else 1,
                input_batch_size=recipe.judge.concurrency,
            )
    return pipeline


def wanted_comparisons(
    recipe: Recipe, contexts: SpecContexts, pairs: Iterable[Mapping[str, Any]], done: set[str]
) -> list[dict[str, Any]]:
    """Pairs that lack comparisons, without texts, with the samples wanted of each order."""
    asked = recipe.preference.pairwise
    judge, samples = compare_digest(recipe), range(asked.samples if asked else 0)
    wanted = []
    for pair in pairs:
        shown = contexts.digest(pair["category"])
        missing = {}
        for name, sides in zip(ORDERS, (("chosen", "rejected"), ("rejected", "chosen")), strict=True):
            first, second = (pair[f"{side}_id"] for side in sides)
            missing[name] = missing_indexes((comparison_id(first, second, judge, shown, i) for i in samples), done)
        if any(missing.values()):
            wanted.append({name: pair[name] for name in PAIR} | {SAMPLES: missing})
    return wanted


def with_texts(stored: Stored, pairs: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Pairs with their prompt and both answers, read range by range."""
    rows = sorted(pairs, key=lambda pair: pair["prompt_id"])
    for shard in stored.shards:
        mine = [row for row in rows if shard.contains(row["prompt_id"])]
        ids = {row[f"{side}_id"] for row in mine for side in ("chosen", "rejected")}
        texts = stored.candidates(shard).filter(pl.col("candidate_id").is_in(list(ids)))
        said = dict(texts.select("candidate_id", "answer").collect().iter_rows())
        asked = {row["prompt_id"]: row["prompt"] for row in stored.prompt_rows(shard).iter_rows(named=True)}
        for row in mine:
            answers = {side: said[row[f"{side}_id"]] for side in ("chosen", "rejected")}
            yield {**row, **answers, "prompt": asked[row["prompt_id"]]}


def stored_comparisons(layout: RunLayout, recipe: Recipe) -> pl.DataFrame:
    """The comparisons of a run that belong to its recipe's judge and today's spec; none without `pairwise`."""
    asked = recipe.preference.pairwise
    if asked is None:
        return COMPARISONS.empty()
    rows = read_parts(layout.comparisons, COMPARISONS)
    contexts = SpecContexts.load(layout.spec, examples=recipe.context.examples)
    categories = rows["category"].unique().to_list()
    shown = {category: contexts.digest(category) for category in categories}
    current = pl.col("spec_digest") == pl.col("category").replace_strict(shown, default=None, return_dtype=pl.String)
    return rows.filter(
        current & (pl.col("judge_digest") == compare_digest(recipe)) & (pl.col("sample_index") < asked.samples)
    ).sort("comparison_id")


def compare_pairs(recipe: Recipe, layout: RunLayout, ledger: Ledger, host: Host | None = None) -> int:
    """Ask for every comparison that the run's pairs lack; parts are written even when it ends early.

    Returns:
        Pairs that were asked about.
    """
    stored, people = Stored(layout, recipe), people_of(layout, recipe)
    with decide_run(stored, people) as decided:
        pairs = pairs_of(decided, recipe, people)
    done = read_parts(layout.comparisons, COMPARISONS).filter(pl.col("error").is_null())
    finished = set(done["comparison_id"].to_list())
    wanted = wanted_comparisons(recipe, stored.contexts, pairs.iter_rows(named=True), finished)
    if not wanted:
        return 0
    writer = PartWriter(layout.comparisons, COMPARISONS, finished)
    with EnginePool(host=host) as pool:
        pipeline = compare_pipeline(recipe, layout, pool.engine(recipe.judge), lambda: with_texts(stored, wanted))
        try:
            run_to_end(walk(pipeline, ledger, Hooks(dict.fromkeys(ORDERS, writer.add))))
        finally:
            writer.flush()
    return len(wanted)
