"""Promises that a row keeps or breaks by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from specdistill.schemas.citations import cited_series
from specdistill.schemas.copying import copied_series, shingles_of
from specdistill.schemas.invariants import Check, Facts, Invariant, Sets, Violation, each, found, rows_of
from specdistill.schemas.leak import leak_series
from specdistill.schemas.seen import Seen
from specdistill.schemas.vocabulary import CRITERIA, Arm, JudgmentStatus

ROLES = ("system", "user", "assistant")
SIDES = {
    "sft": ("completion",),
    "preference": ("chosen", "rejected"),
    "kto": ("completion",),
    "reward": ("completion",),
}
"""Columns that hold a completion."""
GOOD = {"sft": "completion", "preference": "chosen", "kto": "completion", "reward": "completion"}
"""Columns that hold a training target, or a completion labelled as good."""
HELD = 8_000_000
"""Bytes of prompts that are looked through at once."""
SCORES = ("score", "score_chosen", "score_rejected", "margin", *CRITERIA)


def targets(sets: Sets) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Training targets as (config, split, frame of id, asked, answer, reasoning, revision)."""
    for config, split, frame in each(sets, *GOOD):
        good = frame.filter(pl.col("label")) if "label" in frame.columns else frame
        turn = pl.col(GOOD[config]).list.last().struct
        asked = pl.col("prompt").list.last().struct.field("content")
        yield (
            config,
            split,
            good.select(
                "id",
                asked.alias("asked"),
                turn.field("content").alias("answer"),
                turn.field("reasoning_content").alias("reasoning"),
                revision(good).alias("revision"),
            ),
        )


def revision(frame: pl.DataFrame) -> pl.Expr:
    """Whether a row's target is a constitutional revision, which has no reasoning of its own."""
    if "chosen_arm" not in frame.columns:  # other configs, and pairs before 1.3.0
        return pl.lit(False)
    return (pl.col("chosen_arm") == Arm.CONSTITUTION).fill_null(False)


def prompt_turns(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.PROMPT_TURNS`."""
    for config, split, frame in each(sets):
        if "prompt" not in frame.columns:
            continue
        roles = pl.col("prompt").list.eval(pl.element().struct.field("role"))
        empty = pl.col("prompt").list.eval(
            pl.element().struct.field("content").fill_null("").str.strip_chars().str.len_bytes() == 0
        )
        yield from found(
            Invariant.PROMPT_TURNS,
            config,
            split,
            frame.filter(roles.list.last().ne_missing(pl.lit("user"))),
            "the last turn is not the user's",
        )
        strange = roles.list.eval(~pl.element().is_in(ROLES).fill_null(False)).list.any()
        yield from found(Invariant.PROMPT_TURNS, config, split, frame.filter(strange), "a role is unknown")
        yield from found(Invariant.PROMPT_TURNS, config, split, frame.filter(empty.list.any()), "a turn is empty")


def prompt_clean(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.PROMPT_CLEAN`: looked for once per distinct conversation, however many rows and configs hold it."""
    shown = shingles_of([*facts.clauses["text"].to_list(), *facts.rendered], facts.copied_words)
    wrong: dict[str, list[pl.Series]] = {"the prompt holds spec text": [], "the prompt cites a clause": []}
    for texts in together_new(text for _, _, frame in each(sets) for text in conversations(frame)):
        copied = copied_series(texts, shown).is_not_null()
        cited = cited_series(texts, facts.anchors)["known"].list.len() > 0
        for hits, hit in zip(wrong.values(), (copied, cited), strict=True):
            hits.append(texts.filter(hit))
    for detail, hits in wrong.items():
        bad = pl.concat(hits) if hits else pl.Series(dtype=pl.String)
        for config, split, frame in each(sets) if len(bad) else ():
            for texts in conversations(frame):
                rows = frame.filter(texts.is_in(bad.implode()))
                yield from found(Invariant.PROMPT_CLEAN, config, split, rows, detail)


def conversations(frame: pl.DataFrame) -> Iterator[pl.Series]:
    """The texts of each row's prompt as one; nothing where a config has no prompts."""
    if "prompt" in frame.columns:
        turns = pl.col("prompt").list.eval(pl.element().struct.field("content")).list.join("\n")
        yield frame.select(turns.alias("text"))["text"]


def together_new(texts: Iterable[pl.Series]) -> Iterator[pl.Series]:
    """Texts that come for the first time, enough of them at once that looking for many patterns is worth its start."""
    seen, held, size = Seen(), [pl.Series("text", dtype=pl.String)], 0
    for part in texts:
        new = part.filter(seen.new(part) & part.is_not_null())
        held.append(new)
        size += int(new.str.len_bytes().sum())
        if size > HELD:
            yield pl.concat(held)
            held, size = held[:1], 0
    yield pl.concat(held)


def completions(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.COMPLETION`."""
    for config, split, frame in each(sets, *SIDES):
        for side in SIDES[config]:
            turns = pl.col(side)
            role = turns.list.last().struct.field("role")
            wrong = (turns.list.len() != 1) | role.ne_missing(pl.lit("assistant"))
            yield from found(
                Invariant.COMPLETION,
                config,
                split,
                frame.filter(wrong),
                f"{side} is not one assistant message",
            )
            bare = _blank(turns.list.last().struct.field("content"))
            yield from found(Invariant.COMPLETION, config, split, frame.filter(bare), f"{side} has no answer")
    for config, split, frame in targets(sets):
        rows = frame.filter(_blank(pl.col("reasoning")) & ~pl.col("revision"))
        yield from found(Invariant.COMPLETION, config, split, rows, "a training target has no reasoning")


def _blank(text: pl.Expr) -> pl.Expr:
    return text.fill_null("").str.strip_chars().str.len_bytes() == 0


def answers(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.ANSWER_CLEAN`."""
    spec = shingles_of(facts.clauses["text"].to_list(), facts.copied_words)
    for config, split, frame in targets(sets):
        leaks = leak_series(frame["answer"], facts.anchors, frame["asked"])
        for name, words in (("leaks", leaks), ("copies the spec", copied_series(frame["answer"], spec))):
            hit = frame.with_columns(words.alias("words")).filter(pl.col("words").is_not_null())
            if hit.height:
                detail = f"the answer {name}: '{hit['words'][0][:80]}'"
                yield from found(Invariant.ANSWER_CLEAN, config, split, hit, detail)


def citations(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.CITATIONS`, and that the `clauses` column says what the reasoning cites."""
    for config, split, frame in targets(sets):
        cited = frame.hstack(cited_series(frame["reasoning"], facts.anchors))
        made_up = cited.filter(pl.col("invented").list.len() > 0)
        if made_up.height:
            detail = f"the reasoning cites a clause that does not exist: {made_up['invented'][0][0]}"
            yield from found(Invariant.CITATIONS, config, split, made_up, detail)
    for config, split, frame in each(sets, "sft"):
        unknown = frame.filter(pl.col("clauses").list.eval(~pl.element().is_in(sorted(facts.anchors))).list.any())
        yield from found(Invariant.CITATIONS, config, split, unknown, "`clauses` names a clause that does not exist")
        known = dict(facts.clauses.select("anchor", "digest").iter_rows())
        taught = pl.element().replace_strict(known, default=None, return_dtype=pl.String)
        if "clause_digests" not in frame.columns:  # before 1.1.0
            continue
        stale = frame.filter(pl.col("clause_digests").is_not_null()).filter(
            pl.col("clauses").list.eval(taught) != pl.col("clause_digests")
        )
        yield from found(Invariant.CITATIONS, config, split, stale, "a cited clause reads otherwise in this policy")


def abstentions(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.ABSTENTION`, on raw judge samples and on what was made of them."""
    numbers = pl.any_horizontal(pl.col(name).is_not_null() for name in CRITERIA)
    scored = pl.col("status") == JudgmentStatus.SCORED
    for config, split, frame in each(sets, "judgments"):
        for wrong, detail in (
            (~scored & numbers, "a sample without a verdict has a number"),
            (scored & ~numbers, "a scored sample has no number"),
            (scored & pl.col("abstain_reason").is_not_null(), "a scored sample has a reason to abstain"),
        ):
            yield from found(Invariant.ABSTENTION, config, split, frame.filter(wrong), detail)
    for config, split, frame in each(sets, "reward"):
        rows = frame.filter(pl.col("judge_samples") < 1)
        yield from found(Invariant.ABSTENTION, config, split, rows, "a score stands on no judge sample")
    for config, split, frame in each(sets, "sft"):
        rows = frame.filter(pl.col("score").is_null() & _unseen(frame))
        yield from found(Invariant.ABSTENTION, config, split, rows, "accepted by no judge and by no person")
    yield from _votes(sets)


def _unseen(frame: pl.DataFrame) -> pl.Expr:
    """Rows that no person confirmed or wrote; all of them in sets from before there was an audit."""
    return pl.col("audit").is_null() if "audit" in frame.columns else pl.lit(True)


def _votes(sets: Sets) -> Iterator[Violation]:
    """Each scored row has at least one scored judge sample, and `reward` counts them right."""
    if not sets.get("judgments"):
        return
    status = pl.col("status")
    counted = (
        rows_of(sets, "judgments", "candidate_id", "status")
        .group_by(pl.col("candidate_id").alias("id"))
        .agg(
            (status == JudgmentStatus.SCORED).sum().alias("scored"),
            (status == JudgmentStatus.ABSTAINED).sum().alias("abstained"),
        )
        .collect(engine="streaming")
    )
    if counted.is_empty():
        return
    mute = pl.col("scored").fill_null(0) == 0
    wrong = (pl.col("judge_samples") != pl.col("scored")) | (pl.col("abstentions") != pl.col("abstained"))
    for config in ("sft", "kto", "reward", "rejected"):
        numbers = ["judge_samples", "abstentions"] if config == "reward" else []
        for split, frame in sets.get(config, {}).items():
            scored = frame.lazy().filter(pl.col("score").is_not_null()).select("id", *numbers)
            rows = scored.join(counted.lazy(), on="id", how="left")
            for broken, detail in (
                (mute, "a score stands on no judge sample"),
                (wrong if numbers else pl.lit(False), "judge_samples or abstentions are miscounted"),
            ):
                bad = rows.filter(broken).select("id").sort("id").collect(engine="streaming")
                yield from found(Invariant.ABSTENTION, config, split, bad, detail)


def ranges(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.RANGE`; NaN is outside."""
    for config, split, frame in each(sets):
        for name in (name for name in SCORES if name in frame.columns):
            rows = frame.filter(pl.col(name).is_not_null() & ~pl.col(name).is_between(0, 1))
            yield from found(Invariant.RANGE, config, split, rows, f"{name} is not within 0 and 1")


def thresholds(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.THRESHOLD`: for accepted rows and for everything labelled good; a person's word stands above it."""
    if facts.threshold is None:
        return
    for config, split, frame in each(sets, "sft", "kto", "reward"):
        good = frame.filter(pl.col("label")) if "label" in frame.columns else frame
        rows = good.filter((pl.col("score") < facts.threshold) & _unseen(good))
        yield from found(Invariant.THRESHOLD, config, split, rows, f"score is below {facts.threshold}")


def human(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.HUMAN`."""
    refused = sorted(facts.human_rejected)
    detail = "people rejected this candidate"
    for config, split, frame in each(sets, "sft", "kto", "reward"):
        good = frame.filter(pl.col("label")) if "label" in frame.columns else frame
        yield from found(Invariant.HUMAN, config, split, good.filter(pl.col("id").is_in(refused)), detail)
    for config, split, frame in each(sets, "preference"):
        yield from found(Invariant.HUMAN, config, split, frame.filter(pl.col("chosen_id").is_in(refused)), detail)
        pairs = frame.filter(pl.col("id").is_in(refused))
        yield from found(Invariant.HUMAN, config, split, pairs, "people rejected this pair")


ROWS: tuple[Check, ...] = (
    prompt_turns,
    prompt_clean,
    completions,
    answers,
    citations,
    abstentions,
    ranges,
    thresholds,
    human,
)
