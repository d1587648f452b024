"""What a build still has to do: by keys, never by counting; range by range, so that it need not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from specdistill.builders.adaptive import rule_of, settled
from specdistill.builders.keys import judge_digest
from specdistill.builders.pipelines import GENERATE_OF, PARENT_OF, PROMPT_COLUMNS, judge_step
from specdistill.builders.runner import SAMPLES
from specdistill.builders.screens import repairable
from specdistill.builders.shards import Shard
from specdistill.builders.stored import Stored, samples_asked
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import Arm, JudgmentStatus, ParseOutcome, RejectReason

Row = dict[str, Any]
Wanted = Callable[[], Iterator[Row]]
"""Rows with the samples wanted of each step under `sample_indexes`; read when they are asked for."""
Spend = Mapping[str, Sequence[int]]
"""prompt_id to the samples that a round of a quota may ask for."""


def nothing() -> Iterator[Row]:
    """No rows."""
    return iter(())


@dataclass(frozen=True)
class Plan:
    """Rows still wanted.

    Attributes:
        candidates_wanted: candidates still to be generated.
        judgments_wanted: judgments still to be made of stored candidates.
        generate: prompt rows with the samples wanted of each generation step.
        judge: arm to stored candidates (with their prompt) with the judge samples wanted.
        rewrite: arm of rewrites to stored candidates (with their prompt) with the rewrites wanted.
    """

    candidates_wanted: int = 0
    judgments_wanted: int = 0
    generate: Wanted = nothing
    judge: Mapping[Arm, Wanted] = field(default_factory=dict)
    rewrite: Mapping[Arm, Wanted] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing is wanted."""
        return not (self.candidates_wanted or self.judgments_wanted)


def plan(stored: Stored, spend: Spend | None = None, *, judging: bool = True) -> Plan:
    """What has no finished row yet. A failed call is not finished.

    Args:
        spend: samples that may be asked for; None for all samples of all prompts.
        judging: whether stored candidates are to be judged and rewritten too.
    """
    recipe = stored.recipe
    arms = rewrites_of(recipe) if judging else {}
    candidates = sum(int(lacking(stored, shard, spend)["samples"].list.len().sum()) for shard in stored.shards)
    rewrites = {arm: sum(count(rewriting(stored, shard, arm)) for shard in stored.shards) for arm in arms}
    judgments = sum(unjudged(stored, shard).height for shard in stored.shards) if judging else 0

    def judge(arm: Arm) -> Wanted:
        return lambda: (row for shard in stored.shards for row in judge_rows(stored, shard, arm))

    def rewrite(arm: Arm) -> Wanted:
        return lambda: (row for shard in stored.shards for row in rewriting(stored, shard, arm))

    return Plan(
        candidates + sum(rewrites.values()),
        judgments,
        (lambda: (row for shard in stored.shards for row in generate_rows(stored, shard, spend)))
        if candidates
        else nothing,
        {arm: judge(arm) for arm in samples_asked(recipe)} if judgments else {},  # type: ignore[misc,arg-type]
        {arm: rewrite(arm) for arm, number in rewrites.items() if number},
    )


def rewrites_of(recipe: Recipe) -> dict[Arm, int]:
    """Arm of rewrites to samples a parent."""
    return {Arm(arm): samples for arm, samples in samples_asked(recipe).items() if Arm(arm) in PARENT_OF}


def finished(stored: Stored, shard: Shard) -> pl.LazyFrame:
    """Current candidates whose call did not fail."""
    return stored.candidates(shard).filter(pl.col("parse") != ParseOutcome.FAILED)


def indexes(samples: int) -> pl.LazyFrame:
    """sample_index, from 0."""
    return pl.LazyFrame({"sample_index": range(samples)}, schema={"sample_index": pl.Int32})


def lacking(stored: Stored, shard: Shard, spend: Spend | None) -> pl.DataFrame:
    """prompt_id, arm, samples: the samples of each prompt and arm that have no finished row."""
    prompts = shard.of(stored.prompts).lazy().select("prompt_id")
    if spend is not None:
        prompts = prompts.filter(pl.col("prompt_id").is_in(list(spend)))
    asked = {arm: n for arm, n in samples_asked(stored.recipe).items() if Arm(arm) not in PARENT_OF}
    everything = pl.concat(
        [prompts.with_columns(pl.lit(arm).alias("arm")).join(indexes(n), how="cross") for arm, n in asked.items()]
    )
    if spend is not None:
        allowed = [(prompt, index) for prompt, chosen in spend.items() for index in chosen]
        may = pl.LazyFrame(allowed, schema={"prompt_id": pl.String, "sample_index": pl.Int32}, orient="row")
        own = pl.col("arm") == Arm.SPEC
        everything = pl.concat(
            [everything.filter(~own), everything.filter(own).join(may, on=["prompt_id", "sample_index"], how="semi")]
        )
    done = finished(stored, shard).select("prompt_id", "arm", "sample_index")
    missing = everything.join(done, on=["prompt_id", "arm", "sample_index"], how="anti")
    return missing.group_by("prompt_id", "arm").agg(pl.col("sample_index").sort().alias("samples")).collect()


def generate_rows(stored: Stored, shard: Shard, spend: Spend | None) -> Iterator[Row]:
    """Prompt rows of a range, by category, with the samples wanted of each generation step."""
    missing = lacking(stored, shard, spend).with_columns(
        pl.col("arm").replace_strict(GENERATE_OF, return_dtype=pl.String)
    )
    if missing.is_empty():
        return
    wanted = missing.pivot("arm", index="prompt_id", values="samples")
    prompts = stored.prompt_rows(shard).select(PROMPT_COLUMNS)
    for row in prompts.join(wanted, on="prompt_id", how="inner", maintain_order="left").iter_rows(named=True):
        steps = {name: row[name] for name in wanted.columns[1:] if row[name]}
        yield {**{name: row[name] for name in PROMPT_COLUMNS}, SAMPLES: steps}


def rewriting(stored: Stored, shard: Shard, arm: Arm) -> Iterator[Row]:
    """Stored candidates that lack rewrites: leaking answers that can be mended, and answers of the contrast arm."""
    screened = stored.screened(shard)
    leak = pl.col("reason") == RejectReason.LEAK
    may = screened.filter(leak if arm == Arm.REPAIR else pl.col("reason").is_null()).select("candidate_id")
    made = finished(stored, shard).filter(pl.col("arm") == arm)
    done = made.group_by("parent_id").agg(pl.col("sample_index").alias("there"))
    parents = (
        stored.candidates(shard)
        .filter(pl.col("arm") == PARENT_OF[arm])
        .join(may.lazy(), on="candidate_id", how="semi")
        .join(done, left_on="candidate_id", right_on="parent_id", how="left")
        .sort("category", "candidate_id")
    )
    step, samples = GENERATE_OF[arm], rewrites_of(stored.recipe)[arm]
    for row in stored.with_prompt(parents, shard).iter_rows(named=True):
        there = row.pop("there") or ()
        missing = [index for index in range(samples) if index not in there]
        fits = arm != Arm.REPAIR or repairable(row, stored.facts, stored.recipe.screens)
        if missing and fits:
            yield {**row, SAMPLES: {step: missing}}


def count(rows: Iterator[Row]) -> int:
    """Samples wanted by rows."""
    return sum(len(wanted) for row in rows for wanted in row[SAMPLES].values())


def unjudged(stored: Stored, shard: Shard) -> pl.DataFrame:
    """candidate_id, number, sample_index: judge samples that passing candidates of a range lack, by judge's number."""
    judges = stored.recipe.judge.judges
    finished_ones = stored.judgments(shard).filter(pl.col("status") != JudgmentStatus.FAILED)
    samples = finished_ones.group_by("candidate_id").len()
    whole = samples.filter(pl.col("len") >= sum(one.k for one in judges)).select("candidate_id")
    screened = stored.screened(shard).filter(pl.col("reason").is_null()).select("candidate_id").lazy()
    passing = screened.join(whole, on="candidate_id", how="anti")
    everything = pl.concat(
        [
            passing.with_columns(pl.lit(judge_digest(one)).alias("judge_digest"), pl.lit(number).alias("number")).join(
                indexes(one.k), how="cross"
            )
            for number, one in enumerate(judges)
        ]
    )
    key = ["candidate_id", "judge_digest", "sample_index"]
    done = finished_ones.select(key)
    missing = everything.join(done, on=key, how="anti")
    if rule := rule_of(stored.recipe):
        missing = missing.join(settled(stored.judgments(shard), rule).lazy(), on="candidate_id", how="anti")
    return missing.select("candidate_id", "number", "sample_index").collect()


def judge_rows(stored: Stored, shard: Shard, arm: Arm) -> Iterator[Row]:
    """Stored candidates of an arm and range that lack judge samples, by category."""
    missing = unjudged(stored, shard).group_by("candidate_id", "number").agg(pl.col("sample_index").sort())
    if missing.is_empty():
        return
    wanted = missing.with_columns(pl.col("number").cast(pl.String)).pivot(
        "number", index="candidate_id", values="sample_index"
    )
    numbers = wanted.columns[1:]
    rows = (
        stored.candidates(shard)
        .filter(pl.col("arm") == arm)
        .join(wanted.lazy(), on="candidate_id", how="inner")
        .sort("category", "candidate_id")
    )
    for row in stored.with_prompt(rows, shard).iter_rows(named=True):
        steps = {judge_step(arm, int(number)): lacks for number in numbers if (lacks := row.pop(number))}
        yield {**row, SAMPLES: steps}
