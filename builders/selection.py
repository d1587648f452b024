"""Selection: pure functions from stored rows to every published set. No model call, so thresholds are free to change.

Every candidate ends accepted or rejected with exactly one reason, the first that holds, in this order: the call or
its text (screens), people (an audit's verdict is the last word on what passed the screens), the arm, the judge's
verdict, the threshold, the quota.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import polars as pl

from specdistill.builders.audit.verdicts import People
from specdistill.builders.decisions import DECIDING, Decisions
from specdistill.builders.judging import aggregate_judgments
from specdistill.builders.keys import judge_digest
from specdistill.builders.pairs import mean_variance, outline, settled, widest_pairs
from specdistill.builders.screens import SpecFacts, screen_frame
from specdistill.builders.sets import make_sets, with_verdict
from specdistill.builders.splits import split_of
from specdistill.builders.steps import Step, nobody
from specdistill.builders.stored import Stored
from specdistill.builders.trimming import trim
from specdistill.schemas.files import working_folder
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.rows import CANDIDATES
from specdistill.schemas.vocabulary import Arm, RejectReason

Sets = dict[str, dict[str, pl.DataFrame]]
"""Config to split to rows."""


NOBODY = People()
"""No audit."""
GIVEN = ["judge_samples", "abstentions", "failed_calls"]
"""What became of a candidate's judge samples."""
KEYS = ["candidate_id", "prompt_id", "category", "parent_id", "arm", "sample_index"]
"""What is held of every candidate while a run is decided, besides its fate."""


def decide(
    candidates: pl.DataFrame, screened: pl.DataFrame, scores: pl.DataFrame, recipe: Recipe, people: People = NOBODY
) -> pl.DataFrame:
    """Every candidate with its scores and its fate.

    Args:
        candidates: rows of the candidates table.
        screened: from `screen_frame`.
        scores: from `aggregate_judgments`.

    Returns:
        The candidates with clauses, score columns, `passes` (people, threshold and screens, whatever the arm),
        `reason` (null when accepted, quotas not yet applied), `detail`, `complete`, and `audit`
        (`confirmed`, `corrected` or null).
    """
    threshold = recipe.judge.threshold
    confirmed, refused = (pl.col("candidate_id").is_in(list(ids)) for ids in (people.confirmed, people.rejected))
    good = ~refused & (confirmed | (pl.col("arm") == Arm.HUMAN) | (pl.col("complete") & (pl.col("score") >= threshold)))
    frame = (
        candidates.join(screened, on="candidate_id", how="left")
        .join(scores, on="candidate_id", how="left")
        .with_columns(pl.col(GIVEN).fill_null(0))
        .with_columns(complete(recipe))
        .with_columns(
            (pl.col("reason").is_null() & good).fill_null(False).alias("passes"),
            pl.when(confirmed)
            .then(pl.lit("confirmed"))
            .when(pl.col("arm") == Arm.HUMAN)
            .then(pl.lit("corrected"))
            .alias("audit"),
        )
    )
    verdict = (
        pl.when(pl.col("reason").is_not_null())
        .then("reason")
        .when(refused)
        .then(pl.lit(RejectReason.REJECTED_BY_AUDIT.value))
        .when(pl.col("arm") == Arm.CONTRAST)
        .then(pl.lit(RejectReason.CONTRAST_ARM.value))
        .when(pl.col("arm") == Arm.CONSTITUTION)
        .then(pl.lit(RejectReason.CONSTITUTION_ARM.value))
        .when(pl.col("passes"))
        .then(pl.lit(None, pl.String))
        .when(pl.col("score").is_null() | (~pl.col("complete") & (pl.col("score") >= threshold)))
        .then(pl.lit(RejectReason.NO_VERDICT.value))
        .when(pl.col("score") < threshold)
        .then(pl.lit(RejectReason.BELOW_THRESHOLD.value))
    )
    cut = pl.lit(f"; cut short before {recipe.judge.k}, under another threshold: build again to ask for the rest")
    more = pl.when("complete").then(pl.lit("")).otherwise(cut)
    detail = (
        pl.when(pl.col("detail").is_not_null())
        .then("detail")
        .when(verdict == RejectReason.NO_VERDICT.value)
        .then(pl.format("{} scores, {} abstentions, {} failed calls{}", *GIVEN, more))
        .when(verdict == RejectReason.BELOW_THRESHOLD.value)
        .then(pl.format("score {} is below {}", pl.col("score").round(3), pl.lit(threshold)))
    )
    return frame.with_columns(verdict.alias("reason"), detail.alias("detail"))


def complete(recipe: Recipe) -> pl.Expr:
    """Whether a candidate was given all its judge samples; under adaptive k certain rejections are not."""
    if recipe.judge.adaptive is None:
        return pl.lit(True).alias("complete")
    asked = pl.sum_horizontal(GIVEN)
    return (asked >= recipe.judge.k).alias("complete")


def select(
    prompts: pl.DataFrame,
    candidates: pl.DataFrame,
    judgments: pl.DataFrame,
    clauses: pl.DataFrame,
    recipe: Recipe,
    people: People = NOBODY,
    comparisons: pl.DataFrame | None = None,
) -> Sets:
    """All published sets from stored rows, in memory; `sets_of_run` does the same range by range.

    Args:
        prompts: the recipe's prompts.
        candidates: candidates of the recipe's generator and spec.
        judgments: judgments of the recipe's judge and spec.
        clauses: the clause table of the spec.
        people: what an audit said.
        comparisons: pairwise judgments of the recipe's judge; None gives the pairs that are to be compared.

    Returns:
        Config to split to rows, valid by schema; a split without rows is left out, `train` is always there.
    """
    decided = decide_all(prompts, candidates, judgments, clauses, recipe, people)
    pairs = pairs_of([decided], recipe, people, comparisons)
    return split_sets(make_sets(prompts, decided, judgments, clauses, pairs, recipe), split_of(prompts, recipe.split))


def sets_of_run(
    stored: Stored,
    decided: Decisions,
    people: People = NOBODY,
    comparisons: pl.DataFrame | None = None,
    step: Step = nobody,
) -> Iterator[Sets]:
    """`select` of a run, one range of prompts after the other.

    Args:
        decided: from `decide_run`.
    """
    recipe = stored.recipe
    pairs = pairs_of(decided, recipe, people, comparisons)
    splits = split_of(stored.prompts, recipe.split)
    for shard in stored.walk("deriving sets", step):
        candidates = stored.candidates(shard).select(CANDIDATES.names).collect()
        candidates = pl.concat([candidates, people.written(candidates).select(CANDIDATES.names)])
        found = decided.of(shard)
        fate = [name for name in found.columns if name not in CANDIDATES.names]
        rows = candidates.join(found.select("candidate_id", *fate), on="candidate_id", how="inner")
        judgments = stored.judgments(shard).collect()
        sets = make_sets(stored.prompt_rows(shard), rows, judgments, stored.clauses, shard.of(pairs), recipe)
        yield split_sets(sets, splits)


def pairs_of(
    decided: Iterable[pl.DataFrame], recipe: Recipe, people: People = NOBODY, comparisons: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Preference pairs of decided candidates, without texts, with what people said of them in `audit`.

    Args:
        decided: `Decisions`, or all candidates in a list; looked at twice.
    """
    asked = recipe.preference
    variance = mean_variance(sides(frame, recipe) for frame in decided)
    found = [widest_pairs(sides(frame, recipe), asked, variance, people.rejected_pairs) for frame in decided]
    pairs = settled(pl.concat(found), asked, comparisons)
    confirmed = pl.col("id").is_in(list(people.confirmed_pairs))
    return pairs.with_columns(pl.when(confirmed).then(pl.lit("confirmed")).alias("audit"))


def sides(decided: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """The candidates that a pair may be made of. The least of some samples is at least that of all: the margin over
    such a side is understated, never overstated."""
    return with_verdict(decided).filter(pl.col("complete") | pl.lit(recipe.judge.aggregate == "min"))


@contextmanager
def decide_run(stored: Stored, people: People = NOBODY, step: Step = nobody) -> Iterator[Decisions]:
    """Every candidate of a run with its scores and its fate, as `decide_all`, but without any text, on disk for the
    time of the block.

    Raises:
        DiskError: the disk is full or the run cannot be written.
    """
    recipe = stored.recipe
    with working_folder(stored.layout.root, DECIDING) as folder:
        decided = Decisions(folder, stored.prompts, recipe.quota)
        for shard in stored.walk("deciding", step):
            candidates = stored.candidates(shard).select(*KEYS, *outline()).collect()
            screened, scores = stored.screened(shard), scores_of(stored.judgments(shard), recipe)
            originals = pl.col("candidate_id").is_in([correction[0] for correction in people.corrections])
            written = people.written(stored.candidates(shard).filter(originals).collect())
            if written.height:
                found = screen_frame(written, stored.prompt_rows(shard), stored.facts, recipe.screens)
                candidates = pl.concat([candidates, written.select(*KEYS, *outline())])
                screened = pl.concat([screened, found])
            decided.add(shard, fates(candidates, screened, scores, written, recipe, people))
        decided.finish()
        yield decided


def decide_all(
    prompts: pl.DataFrame,
    candidates: pl.DataFrame,
    judgments: pl.DataFrame,
    clauses: pl.DataFrame,
    recipe: Recipe,
    people: People = NOBODY,
) -> pl.DataFrame:
    """`decide` from stored rows; what people wrote is among the candidates and passes the same screens;
    then the quotas.

    Returns:
        As `decide`, with `corrected_from`: the candidate that a person's answer replaces; ordered by candidate_id.
    """
    facts = SpecFacts.of(clauses, recipe.screens.copied_words)
    scores = scores_of(judgments.lazy(), recipe)
    written = people.written(candidates)
    candidates = pl.concat([candidates.select(CANDIDATES.names), written.select(CANDIDATES.names)])
    screened = screen_frame(candidates, prompts, facts, recipe.screens)
    decided = fates(candidates.with_columns(*outline()), screened, scores, written, recipe, people)
    return trim(decided, prompts, recipe.quota)


def fates(
    candidates: pl.DataFrame,
    screened: pl.DataFrame,
    scores: pl.DataFrame,
    written: pl.DataFrame,
    recipe: Recipe,
    people: People,
) -> pl.DataFrame:
    """`decide`, and `corrected_from` of what people wrote."""
    origin = written.select("candidate_id", "corrected_from")
    return decide(candidates, screened, scores, recipe, people).join(origin, on="candidate_id", how="left")


def scores_of(judgments: pl.LazyFrame, recipe: Recipe) -> pl.DataFrame:
    """`aggregate_judgments` as a recipe asks."""
    return aggregate_judgments(
        judgments,
        aggregate=recipe.judge.aggregate,
        weights=recipe.judge.weights,
        votes_needed=votes_needed(recipe),
        vote=recipe.judge.vote,
    )


def votes_needed(recipe: Recipe) -> int | dict[str, int]:
    """Least scores of a verdict: of the judge, or of each judge of a panel by its digest."""
    judges = recipe.judge.judges
    return judges[0].votes_needed if len(judges) == 1 else {judge_digest(one): one.votes_needed for one in judges}


def split_sets(sets: Mapping[str, pl.DataFrame], splits: pl.DataFrame) -> Sets:
    """Divide every set by its rows' prompt.

    Args:
        sets: config to rows; the prompt is in `prompt_id`, or in `id` for prompts.
        splits: prompt_id, split.
    """
    result: Sets = {}
    for config, frame in sets.items():
        key = "prompt_id" if "prompt_id" in frame.columns else "id"
        placed = frame.join(splits.rename({"prompt_id": key}), on=key, how="left", maintain_order="left")
        parts = placed.partition_by("split", as_dict=True, include_key=False)
        named = {str(split): rows for (split,), rows in parts.items()}
        result[config] = {"train": named.pop("train", frame.clear()), **dict(sorted(named.items()))}
    return result
