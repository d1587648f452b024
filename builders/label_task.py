"""Categories for unlabelled prompts: a distilabel Task, and its walk over a pool through the run's ledger."""

# No `from __future__ import annotations` here: distilabel reads the type hints of `process` at run time.

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl
from distilabel.pipeline import Pipeline
from distilabel.typing import FormattedInput
from pydantic import PrivateAttr

from specdistill.builders.engines.base import Completion
from specdistill.builders.engines.factory import EnginePool, Host
from specdistill.builders.labelling import LabelStatus, Vote, label_messages, label_schema, one_label, read_label
from specdistill.builders.ledger import Ledger
from specdistill.builders.pipelines import ReadRows
from specdistill.builders.pool import Labelled, Labeller
from specdistill.builders.runner import Hooks, run_to_end, walk
from specdistill.builders.steps import Step
from specdistill.builders.tasks import SampledTask
from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Classifier, Recipe
from specdistill.schemas.vocabulary import UNION
from specdistill.specs.loader import load_spec
from specdistill.specs.model import Spec

LABEL = "label"


class LabelPrompt(SampledTask):
    """Names the categories of a prompt; every sample is a vote.

    Attributes:
        spec: folder, file or library name of the spec.
        guided: whether the JSON schema is enforced by the engine.

    Input columns:
        - prompt_id (`str`), prompt (list of messages)

    Output columns:
        - sample_index (`int`), status (`str`), categories (list of `str`), error (`str`)
    """

    spec: str
    guided: bool = True

    _spec: Spec | None = PrivateAttr(None)

    @property
    def inputs(self) -> list[str]:
        """Columns needed."""
        return ["prompt_id", "prompt"]

    @property
    def outputs(self) -> list[str]:
        """Columns given."""
        return ["sample_index", "status", "categories", "error"]

    @property
    def policy(self) -> Spec:
        """The spec; loaded on first use."""
        if self._spec is None:
            self._spec = load_spec(self.spec)
        return self._spec

    def format_input(self, input: dict[str, Any]) -> FormattedInput:
        """The messages of one call, with the reply's JSON schema."""
        messages = label_messages(self.policy, input["prompt"])
        return (messages, {"schema": label_schema(self.policy)}) if self.guided else messages

    def row(self, row: Mapping[str, Any], index: int, completion: Completion) -> dict[str, Any]:
        """The vote of one completion."""
        vote = Vote(LabelStatus.FAILED)
        if completion.error is None:
            known = [category.id for category in self.policy.categories]
            vote = read_label(completion.text, completion.finish_reason, known)
        return {
            "prompt_id": row["prompt_id"],
            "sample_index": index,
            "status": vote.status.value,
            "categories": list(vote.categories),
            "error": completion.error,
        }


def labeller(recipe: Recipe, ledger: Ledger, step: Step, host: Host | None = None) -> Labeller | None:
    """Gives unlabelled prompts their categories; None where the recipe names no classifier."""
    config = recipe.classifier
    if config is None:
        return None
    return lambda pool: label_pool(pool, config, recipe.spec, ledger, step, EnginePool(host=host))


def label_pool(
    pool: pl.DataFrame,
    config: Classifier,
    spec: str | Path,
    ledger: Ledger,
    step: Step,
    engines: EnginePool | None = None,
) -> Labelled:
    """Give the unlabelled rows of a pool their categories, and see how often given ones are agreed with.

    Args:
        pool: rows of `POOL_SCHEMA`.
        spec: where the policy is.
        engines: where the classifier's engine comes from; it is left open. Default is a pool of its own.

    Returns:
        The pool with `category` and `label_share` where the classifier is sure. A failed call leaves its row
        unlabelled; a rerun asks again.

    Raises:
        EngineError, EngineUnreachable: no row can be labelled.
        Stopped: the user asked for a stop.
    """
    known = [category.id for category in load_spec(spec).categories]
    nameless = pool.filter(pl.col("category").is_null())
    if nameless.is_empty():
        return Labelled(pool, {}, [])
    given = checked(pool, config.check)
    asked = pl.concat([nameless, given]).select("prompt_id", "prompt").unique("prompt_id", maintain_order=True)
    found = votes(asked, config, spec, ledger, step, engines)
    labels = {key: one_label(of, config.k, config.confidence, known) for key, of in found.items()}
    keys = pool["prompt_id"].to_list()
    empty = pool["category"].is_null().to_list()
    sure = [labels[key] if blank and labels[key].category else None for key, blank in zip(keys, empty, strict=True)]
    filled = pool.with_columns(
        pl.coalesce("category", pl.Series([one.category if one else None for one in sure], dtype=pl.String)),
        pl.Series("label_share", [one.share if one else None for one in sure], dtype=pl.Float64),
    )
    unsure = [
        {"prompt": turns, "category": None, "suggested": list(labels[key].votes), "votes": dict(labels[key].votes)}
        for key, turns in nameless.select("prompt_id", "prompt").iter_rows()
        if labels[key].category is None
    ]
    status = [vote.status for of in found.values() for vote in of]
    agreed = sum(
        set((labels[key].category or "").split(UNION)) == set(category.split(UNION))
        for key, category in given.select("prompt_id", "category").iter_rows()
    )
    summary = {
        "model": config.model,
        "k": config.k,
        "confidence": config.confidence,
        "asked": nameless.height,
        "labelled": nameless.height - len(unsure),
        "unsure": len(unsure),
        "checked": given.height,
        "agreed": agreed,
        "samples": {name.value: status.count(name) for name in LabelStatus if name in status},
    }
    return Labelled(filled, summary, unsure)


def checked(pool: pl.DataFrame, number: int) -> pl.DataFrame:
    """Rows with a given category that are classified too: categories in turn, in a fixed order."""
    given = pool.filter(pl.col("category").is_not_null())
    order = pl.Series("order", [digest("check", key) for key in given["prompt_id"].to_list()], dtype=pl.String)
    turns = given.with_columns(order).sort("order").with_columns(pl.int_range(pl.len()).over("category").alias("turn"))
    return turns.sort("turn", "category").head(number).drop("order", "turn")


def votes(
    asked: pl.DataFrame,
    config: Classifier,
    spec: str | Path,
    ledger: Ledger,
    step: Step,
    engines: EnginePool | None = None,
) -> dict[str, list[Vote]]:
    """prompt_id to the votes of its k samples."""
    found: dict[str, list[Vote]] = {key: [] for key in asked["prompt_id"].to_list()}
    total, done = asked.height * config.k, 0

    def sink(rows: list[dict[str, Any]]) -> None:
        nonlocal done
        done += len(rows)
        for row in rows:
            found[row["prompt_id"]].append(Vote(LabelStatus(row["status"]), tuple(row["categories"])))
        step("labelling", done, total)

    with nullcontext(engines) if engines else EnginePool() as pool:
        with Pipeline(name="specdistill-label", description="Categories for unlabelled prompts") as pipeline:
            root = ReadRows(name="prompts", folder=".", columns=["prompt_id", "prompt"])
            root.give(lambda: asked.iter_rows(named=True))
            task = LabelPrompt(
                name=LABEL,
                llm=pool.engine(config),
                spec=str(spec),
                guided=config.reasoning == "guided",
                num_generations=config.k,
                input_batch_size=config.concurrency,
            )
            root >> task
        run_to_end(walk(pipeline, ledger, Hooks({LABEL: sink})))
    return found
