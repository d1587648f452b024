"""The rows of a run that belong to its current recipe and spec, read range by range and column by column.

What a run holds may be far larger than memory: rows come as lazy frames over the stored parts, so a reader pays for the
columns and the range of prompts it asks for. The parts are those that were there when the run was opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from specdistill.builders.contexts import SpecContexts
from specdistill.builders.kept_screens import KeptScreens
from specdistill.builders.keys import generator_digest, judge_digest, rewrite_digest
from specdistill.builders.parts import Part, scan_parts, whole_parts
from specdistill.builders.screens import LOOKED_AT, SpecFacts, screen_frame
from specdistill.builders.shards import SHARD_ROWS, WHOLE, Shard, shards_of
from specdistill.builders.steps import Step
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.rows import CANDIDATES, CLAUSES, JUDGMENTS, PROMPTS
from specdistill.schemas.vocabulary import Arm, ParseOutcome, RejectReason

LIGHT_PROMPT = ["prompt_id", "category", "outcome_hint", "group_id"]
"""What is held of every prompt."""


@dataclass(frozen=True)
class Rows:
    """Rows of a run, in memory."""

    prompts: pl.DataFrame
    candidates: pl.DataFrame
    judgments: pl.DataFrame
    clauses: pl.DataFrame


class Stored:
    """The rows of one run.

    State: the parts as they were when it was opened, and the prompts without their text.

    A candidate is current when its prompt is in the run, its generator is the recipe's, its rendered spec is today's
    and its sample index is asked for; a judgment when its candidate is and its judge and spec are.

    Args:
        shard_rows: stored rows that a range of prompts should hold, about.

    Raises:
        RunError: a part cannot be read.
    """

    def __init__(self, layout: RunLayout, recipe: Recipe, shard_rows: int = SHARD_ROWS) -> None:
        self.layout, self.recipe, self.shard_rows = layout, recipe, shard_rows
        self._prompts = whole_parts(layout.prompts, PROMPTS)
        self._candidates = whole_parts(layout.candidates, CANDIDATES)
        self._judgments = whole_parts(layout.judgments, JUDGMENTS)
        self.clauses = pl.read_parquet(layout.clauses) if layout.clauses.exists() else CLAUSES.empty()
        self.contexts = SpecContexts.load(layout.spec, examples=recipe.context.examples)
        self.prompts = scan_parts(self._prompts, PROMPTS).select(LIGHT_PROMPT).collect()
        """Every prompt, in the order of the run: prompt_id, category, outcome_hint, group_id."""

    @cached_property
    def shards(self) -> list[Shard]:
        """Ranges of prompts that fit into memory with all that belongs to them, once it is there: what is asked for
        range by range is stored range by range, and a range is then found in few parts."""
        judged = sum(one.k for one in self.recipe.judge.judges)
        expected = self.prompts.height * sum(samples_asked(self.recipe).values()) * max(1, judged)
        longest = max(expected, *(sum(part.rows for part in parts) for parts in (self._candidates, self._judgments)))
        return shards_of(self.prompts["prompt_id"], longest, self.shard_rows)

    def walk(self, name: str, step: Step) -> Iterator[Shard]:
        """Every range of prompts; `step` is told after each."""
        done = 0
        for shard in self.shards:
            yield shard
            done += shard.of(self.prompts).height
            step(name, done, self.prompts.height)

    @property
    def candidate_parts(self) -> list[Part]:
        """Parts of the candidates table."""
        return self._candidates

    @cached_property
    def facts(self) -> SpecFacts:
        """What the screens need to know of the spec."""
        return SpecFacts.of(self.clauses, self.recipe.screens.copied_words)

    @cached_property
    def screens(self) -> KeptScreens:
        """What the run keeps of what the screens said."""
        return KeptScreens(self.layout.screens, self.facts, self.recipe.screens)

    @cached_property
    def _shown(self) -> pl.LazyFrame:
        """category, and digest of what its models are shown today."""
        categories = self.prompts["category"].unique().sort().to_list()
        digests = [self.contexts.digest(category) for category in categories]
        schema = {"category": pl.String, "shown": pl.String}
        return pl.LazyFrame({"category": categories, "shown": digests}, schema=schema)

    def prompt_rows(self, shard: Shard = WHOLE) -> pl.DataFrame:
        """Rows of the prompts table, in the order of the run."""
        return scan_parts(self._prompts, PROMPTS, shard).collect()

    def candidates(self, shard: Shard = WHOLE) -> pl.LazyFrame:
        """Current rows of the candidates table."""
        recipe = self.recipe
        by_generator, by_rewriting = generator_digest(recipe.generator), rewrite_digest(recipe.generator)
        asked = samples_asked(recipe)
        wanted = pl.col("arm").replace_strict(asked, default=0, return_dtype=pl.Int32)
        known = pl.when(pl.col("parent_id").is_null()).then(pl.lit(by_generator)).otherwise(pl.lit(by_rewriting))
        prompts = shard.of(self.prompts).lazy().select("prompt_id", "category")
        current = (
            scan_parts(self._candidates, CANDIDATES, shard)
            .join(prompts, on=["prompt_id", "category"], how="semi")
            .join(self._shown, on="category", how="left")
            .filter(
                (pl.col("generator_digest") == known)
                & (pl.col("spec_digest").is_null() | (pl.col("spec_digest") == pl.col("shown")))
                & (pl.col("sample_index") < wanted)
            )
            .drop("shown")
        )
        first = current.filter(pl.col("parent_id").is_null())
        if not (recipe.repair or recipe.constitution):
            return first
        made = current.join(first.select(pl.col("candidate_id").alias("parent_id")), on="parent_id", how="semi")
        return pl.concat([first, made])

    def judgments(self, shard: Shard = WHOLE) -> pl.LazyFrame:
        """Current rows of the judgments table."""
        judges = {judge_digest(one): one.k for one in self.recipe.judge.judges}
        samples = pl.col("judge_digest").replace_strict(judges, default=0, return_dtype=pl.Int32)
        return (
            scan_parts(self._judgments, JUDGMENTS, shard)
            .join(self.candidates(shard).select("candidate_id"), on="candidate_id", how="semi")
            .join(self._shown, on="category", how="left")
            .filter((pl.col("spec_digest") == pl.col("shown")) & (pl.col("sample_index") < samples))
            .drop("shown")
        )

    def with_prompt(self, candidates: pl.LazyFrame | pl.DataFrame, shard: Shard = WHOLE) -> pl.DataFrame:
        """Candidates with their `prompt` and `outcome_hint`, in their order."""
        prompts = self.prompt_rows(shard).select("prompt_id", "prompt", "outcome_hint")
        rows = candidates.lazy().collect()
        return rows.join(prompts, on="prompt_id", how="inner", maintain_order="left")

    def screened(self, shard: Shard = WHOLE) -> pl.DataFrame:
        """What the screens say of current candidates: candidate_id, reason (null when it passes), detail, clauses."""
        parts = [part for part in self._candidates if shard.meets(part.low, part.high)]
        current = self.candidates(shard)
        ids = current.select("candidate_id", "parse").collect()
        # A call that failed and later succeeded has two rows with one id, and so may have two findings.
        failed = pl.col("parse") == ParseOutcome.FAILED
        found_failed = pl.col("reason").eq_missing(pl.lit(RejectReason.CALL_FAILED.value))
        kept = (
            self.screens.of(parts)[0]
            .join(ids.lazy(), on="candidate_id", how="inner")
            .filter(found_failed == failed)
            .drop("parse")
            .unique("candidate_id", keep="first", maintain_order=True)
            .collect()
        )
        if kept.height == ids.height:
            return kept  # without reading a text
        others = current.join(kept.lazy(), on="candidate_id", how="anti").select(LOOKED_AT).collect()
        looked = screen_frame(others, self.prompt_rows(shard), self.facts, self.recipe.screens)
        return pl.concat([kept, looked])

    def unscreened(self) -> Iterator[tuple[Part, pl.DataFrame]]:
        """Parts of candidates without kept findings, each with its candidates whose prompt is in the run, and that."""
        others = self.screens.of(self._candidates)[1]
        while others:
            few = [others.pop(0)]
            while others and sum(part.rows for part in (*few, others[0])) <= self.shard_rows:
                few.append(others.pop(0))
            asked = scan_parts(few, CANDIDATES).select("prompt_id").unique()
            prompts = scan_parts(self._prompts, PROMPTS).join(asked, on="prompt_id", how="semi")
            texts = prompts.select("prompt_id", "prompt").collect()
            for part in few:
                rows = scan_parts([part], CANDIDATES).select(LOOKED_AT).collect()
                yield part, rows.join(texts, on="prompt_id", how="inner", maintain_order="left")

    def rows(self, shard: Shard = WHOLE) -> Rows:
        """All of a range, in memory, candidates and judgments ordered by id."""
        return Rows(
            self.prompt_rows(shard),
            self.candidates(shard).sort("candidate_id").collect(),
            self.judgments(shard).sort("judgment_id").collect(),
            self.clauses,
        )

    def failed_calls(self) -> int:
        """Current candidates and judgments whose call failed."""
        failed = pl.col("error").is_not_null()
        return sum(
            height_of(rows(shard).filter(failed)) for shard in self.shards for rows in (self.candidates, self.judgments)
        )

    def stale(self) -> tuple[int, int]:
        """Stored candidates and judgments that are not current."""
        current = [sum(height_of(rows(shard)) for shard in self.shards) for rows in (self.candidates, self.judgments)]
        kept = scan_parts(self._candidates, CANDIDATES), scan_parts(self._judgments, JUDGMENTS)
        return height_of(kept[0]) - current[0], height_of(kept[1]) - current[1]

    def orphans(self) -> tuple[set[str], set[str]]:
        """Ids of finished rows whose origin has no finished row, because a part was lost: rewritten candidates, and
        judgments. Their origin comes back from the ledger, and they with it: they must not be written again."""
        done = pl.col("error").is_null()
        candidates = scan_parts(self._candidates, CANDIDATES).filter(done)
        judgments = scan_parts(self._judgments, JUDGMENTS).filter(done)
        known = candidates.select("candidate_id")
        made = candidates.filter(pl.col("parent_id").is_not_null()).select("candidate_id", "parent_id")
        rewritten = made.join(known, left_on="parent_id", right_on="candidate_id", how="anti")
        judged = judgments.select("judgment_id", "candidate_id").join(known, on="candidate_id", how="anti")
        return tuple(set(frame.collect().to_series(0).to_list()) for frame in (rewritten, judged))  # type: ignore[return-value]


def samples_asked(recipe: Recipe) -> dict[str, int]:
    """Arm to the samples that the recipe asks for."""
    asked = {Arm.SPEC.value: recipe.generator.samples}
    if recipe.contrast:
        asked[Arm.CONTRAST.value] = recipe.contrast.samples
    if recipe.repair:
        asked[Arm.REPAIR.value] = recipe.repair.samples
    if recipe.contrast and recipe.constitution:
        asked[Arm.CONSTITUTION.value] = recipe.constitution.samples
    return asked


def height_of(rows: pl.LazyFrame) -> int:
    """Rows of a lazy frame."""
    return int(rows.select(pl.len()).collect().item())


def read_rows(layout: RunLayout, recipe: Recipe) -> Rows:
    """All rows of a run, in memory.

    Raises:
        RunError: a part cannot be read.
    """
    return Stored(layout, recipe).rows()
