"""The promises every published set makes, checked on the files themselves.

Each check is a pure function over the sets; a broken promise is a `Violation` with the ids of its rows. The
one invariant that files cannot show (in RL the judge never sees the reasoning) is tested where the reward is
made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import polars as pl

from specdistill.errors import SchemaError
from specdistill.schemas.audit import VERDICTS, Final
from specdistill.schemas.configs import TABLES
from specdistill.schemas.layout import RunLayout, split_of_file
from specdistill.schemas.manifest import Manifest
from specdistill.schemas.table import Table
from specdistill.schemas.verify import read_manifest
from specdistill.schemas.vocabulary import Arm

Frame = pl.DataFrame | pl.LazyFrame
Sets = Mapping[str, Mapping[str, Frame]]
"""Config to split to rows, in memory or scanned from disk."""
UNREAD = ("raw", "reasoning", "answer", "justification", "error", "detail")
"""Columns of `rejected` and `judgments` that nothing is promised about; often the largest."""
BATCH = 2_000
"""Rows looked at together, so that a set larger than memory can be checked."""
NAMED = 10
"""Ids named in a message; the violation itself holds all."""


class Invariant(StrEnum):
    """What is promised. The value is the name in messages, the docstring the promise."""

    SCHEMA = "schema"
    """Every row has the columns, types and values its schema states, and a key of its own."""
    PROMPT_CLEAN = "prompt_clean"
    """No prompt holds spec text or clause anchors."""
    PROMPT_TURNS = "prompt_turns"
    """Every conversation has content in each turn and ends with the user."""
    COMPLETION = "completion"
    """Every completion is one assistant message with an answer; a training target has a reasoning too."""
    ANSWER_CLEAN = "answer_clean"
    """No training target's answer cites clauses, talks of the policy, shows thinking or copies the spec."""
    CITATIONS = "citations"
    """Every clause that a training target's reasoning cites exists in the spec."""
    ABSTENTION = "abstention"
    """A judge sample without a verdict has no number, and no score stands on abstentions alone."""
    RANGE = "range"
    """Every score is a number from 0 to 1."""
    MARGIN = "margin"
    """`chosen` beats `rejected` by more than the judge's own noise."""
    PAIR = "pair"
    """The two sides of a pair are different answers of different candidates."""
    SPLITS = "splits"
    """Splits share no prompt, twin, group or near-duplicate, in one config or across them."""
    FATE = "fate"
    """Every candidate is accepted or rejected, not both and not neither."""
    REFERENCES = "references"
    """Every prompt, category and candidate that a row names is there."""
    THRESHOLD = "threshold"
    """Accepted rows reach the recipe's threshold."""
    HUMAN = "human"
    """No row that people rejected is published as good."""


@dataclass(frozen=True)
class Violation:
    """One broken promise.

    Attributes:
        config, split: where; `split` is empty when it concerns several.
        ids: every row that breaks it.
        detail: what was found.
    """

    invariant: Invariant
    config: str
    split: str
    ids: tuple[str, ...]
    detail: str

    def __str__(self) -> str:
        where = f"{self.config}/{self.split}" if self.split else self.config
        named = ", ".join(self.ids[:NAMED])
        more = f" and {len(self.ids) - NAMED} more" if len(self.ids) > NAMED else ""
        rows = f" (rows {named}{more})" if self.ids else ""
        return f"{where}: {self.invariant}: {self.detail}{rows}"


@dataclass(frozen=True)
class Facts:
    """What the sets are checked against.

    Attributes:
        clauses: the clause table of the spec.
        rendered: texts the models were shown, which no prompt may hold.
        copied_words: this many words in a row equal to the spec's text are a copy.
        threshold: least score of an accepted row; None where unknown.
        prompts: prompt_id and group_id of the run's prompts; None in a release.
        candidates: `id` of the run's candidates that take part; None in a release.
        human_rejected: ids of candidates and of preference pairs that people rejected.
    """

    clauses: pl.DataFrame
    rendered: tuple[str, ...] = ()
    copied_words: int = 25
    threshold: float | None = None
    prompts: pl.DataFrame | None = None
    candidates: pl.DataFrame | None = None
    human_rejected: frozenset[str] = field(default=frozenset())

    @property
    def anchors(self) -> frozenset[str]:
        """Every citable anchor."""
        return frozenset(self.clauses["anchor"].to_list())


Check = Callable[[Sets, Facts], Iterator[Violation]]


def check_sets(sets: Sets, facts: Facts) -> list[Violation]:
    """Every broken promise in the sets, in config order; empty when they may be published.

    Rows that do not fit their schema are reported alone: nothing more can be said of them.
    """
    from specdistill.schemas.invariants_across import ACROSS
    from specdistill.schemas.invariants_rows import ROWS

    broken = together(_schema(sets))
    if broken:
        return broken
    return together(violation for check in (*ROWS, *ACROSS) for violation in check(sets, facts))


def together(violations: Iterable[Violation]) -> list[Violation]:
    """Violations of one kind in one place as one, whatever batches they were found in."""
    merged: dict[tuple[str, ...], Violation] = {}
    for violation in violations:
        key = (violation.invariant, violation.config, violation.split, violation.detail)
        earlier = merged.get(key)
        merged[key] = replace(violation, ids=earlier.ids + violation.ids) if earlier else violation
    return list(merged.values())


def _schema(sets: Sets) -> Iterator[Violation]:
    for config, splits in sets.items():
        table = TABLES.get(config)
        if table is None:
            detail = f"is no known config (known: {', '.join(TABLES)})"
            yield Violation(Invariant.SCHEMA, config, "", (), detail)
            continue
        fits = True
        for split, frame in splits.items():
            for problem in table.type_problems(frame.lazy().collect_schema()):
                fits = False
                yield Violation(Invariant.SCHEMA, config, split, (), problem)
        if fits:
            yield from _values(sets, table, config)


def _values(sets: Sets, table: Table, config: str) -> Iterator[Violation]:
    """Nulls, values outside closed sets, versions, and keys that are used twice; each with its rows."""
    for _, split, frame in each(sets, config):
        for column in (column for column in table.columns if column.name not in UNREAD):
            cell = pl.col(column.name)
            if not column.nullable:
                rows = frame.filter(cell.is_null())
                yield from found(Invariant.SCHEMA, config, split, rows, f"{column.name} is null")
            if column.values:
                rows = frame.filter(cell.is_not_null() & ~cell.is_in(list(column.values)))
                detail = f"{column.name} is none of {', '.join(column.values)}"
                yield from found(Invariant.SCHEMA, config, split, rows, detail)
        rows = frame.filter(pl.col("schema_version") != table.version)
        yield from found(Invariant.SCHEMA, config, split, rows, f"schema_version is not {table.version}")
    twice = repeated(rows_of(sets, config, *table.key), table.key)
    yield from found(Invariant.SCHEMA, config, "", twice, "several rows have one key", key=table.key[0])


def repeated(rows: pl.LazyFrame, key: Sequence[str]) -> pl.DataFrame:
    """Keys that several rows have, sorted. Held are eight bytes a row; keys are compared where a hash comes again."""
    mark = pl.concat_str(pl.col(key).cast(pl.String), separator="\0", ignore_nulls=True).hash(seed=0)
    marks = rows.select(mark.alias("mark")).collect(engine="streaming")["mark"].sort()
    again = marks.filter(marks == marks.shift(1)).unique()
    few = rows.filter(mark.is_in(again.to_list())) if len(again) else rows.clear()
    return few.group_by(key).len().filter(pl.col("len") > 1).sort(key).collect(engine="streaming")


def found(
    invariant: Invariant, config: str, split: str, rows: pl.DataFrame, detail: str, *, key: str = "id"
) -> Iterator[Violation]:
    """A violation for the rows of a frame, or nothing when it is empty."""
    if rows.height:
        yield Violation(invariant, config, split, tuple(rows[key].cast(pl.String).to_list()), detail)


def each(sets: Sets, *configs: str) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """(config, split, rows) of the named configs that are there, or of all: `BATCH` rows at a time, no `UNREAD`."""
    for config in configs or tuple(sets):
        for split, frame in sets.get(config, {}).items():
            read = frame.select(pl.exclude(UNREAD))
            parts = (
                read.iter_slices(BATCH) if isinstance(read, pl.DataFrame) else read.collect_batches(chunk_size=BATCH)
            )
            for part in parts:
                if part.height:
                    yield config, split, part


def rows_of(sets: Sets, config: str, *names: str | pl.Expr) -> pl.LazyFrame:
    """Some columns of all splits of a config that is there, and `split`, not yet read."""
    return pl.concat(frame.lazy().select(*names, pl.lit(split).alias("split")) for split, frame in sets[config].items())


def columns(sets: Sets, config: str, *names: str | pl.Expr) -> pl.DataFrame:
    """`rows_of`, read; no columns where the config is not there."""
    return rows_of(sets, config, *names).collect(engine="streaming") if sets.get(config) else pl.DataFrame()


def unmatched(frame: Frame, column: str, known: pl.DataFrame) -> pl.DataFrame:
    """Rows (their `id`, sorted) whose value in a column is no `id` of known rows. The known rows are gone through once,
    whatever the size of the frame."""
    rows = frame.lazy().select("id", pl.col(column).alias("wanted"))
    lost = rows.join(known.lazy().select(pl.col("id").alias("wanted")), on="wanted", how="anti")
    return lost.select("id").sort("id").collect(engine="streaming")


def scan_sets(datasets: Path) -> dict[str, dict[str, pl.LazyFrame]]:
    """All derived sets of a run, from its `datasets/`, in card order, `train` first, not yet read.

    Raises:
        SchemaError: a file cannot be read.
    """
    order = {config: number for number, config in enumerate(TABLES)}
    files: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(datasets.glob("*/*.parquet")):
        files.setdefault((path.parent.name, split_of_file(path)), []).append(path)
    sets: dict[str, dict[str, pl.LazyFrame]] = {}
    for config, split in sorted(files, key=lambda key: (order.get(key[0], 99), key[1] != "train", key[1])):
        sets.setdefault(config, {})[split] = pl.concat([scan_frame(path) for path in files[config, split]])
    return sets


def read_sets(datasets: Path) -> dict[str, dict[str, pl.DataFrame]]:
    """`scan_sets`, read."""
    return {
        config: {split: frame.collect() for split, frame in splits.items()}
        for config, splits in scan_sets(datasets).items()
    }


def scan_frame(path: Path) -> pl.LazyFrame:
    """One Parquet file, its schema read.

    Raises:
        SchemaError: it cannot be read.
    """
    try:
        frame = pl.scan_parquet(path, hive_partitioning=False)
        frame.collect_schema()
        return frame
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as exc:
        raise SchemaError(
            f"This file cannot be read: {exc}.", "Run `specdistill select` on the run to write it anew.", file=path
        ) from exc


def check_run(layout: RunLayout, sets: Sets | None = None) -> list[Violation]:
    """Every broken promise of a finished run.

    Args:
        sets: the derived sets, where they are at hand; else they are scanned.

    Raises:
        RunError: the run is not finished (no manifest) or its manifest cannot be read.
        SchemaError: a file cannot be read.
    """
    manifest = read_manifest(layout.manifest)
    recipe = manifest.recipe
    people = scan_frame(layout.audit_verdicts).collect() if layout.audit_verdicts.exists() else VERDICTS.empty()
    prompts, candidates = (
        [scan_frame(part) for part in sorted(folder.glob("part-*.parquet"))]
        for folder in (layout.prompts, layout.candidates)
    )
    facts = Facts(
        clauses=scan_frame(layout.clauses).collect(),
        rendered=tuple(path.read_text(encoding="utf-8") for path in sorted(layout.rendered.glob("*.md"))),
        copied_words=recipe.get("screens", {}).get("copied_words", Facts.copied_words),
        threshold=recipe.get("judge", {}).get("threshold"),
        prompts=pl.concat(prompts).select("prompt_id", "group_id").collect() if prompts else None,
        candidates=_current(pl.concat(candidates, how="diagonal"), pl.concat(prompts, how="diagonal"), manifest, people)
        if candidates and prompts
        else None,
        human_rejected=frozenset(
            people.filter(pl.col("final").is_in([Final.REJECTED, Final.CORRECTED]))["target_id"].to_list()
        ),
    )
    return check_sets(scan_sets(layout.datasets) if sets is None else sets, facts)


SECTIONS = {
    Arm.SPEC.value: "generator",
    Arm.CONTRAST.value: "contrast",
    Arm.REPAIR.value: "repair",
    Arm.CONSTITUTION.value: "constitution",
}
"""Arm to the section of the recipe, and the role in the manifest, that makes it."""


def _current(candidates: pl.LazyFrame, prompts: pl.LazyFrame, manifest: Manifest, people: pl.DataFrame) -> pl.DataFrame:
    """`id` of the candidates of the manifest's recipe and spec, and of what people wrote in their place.

    Older candidates stay on disk, unused.
    """
    samples = {
        arm: manifest.recipe.get(section, {}).get("samples", 0) if manifest.recipe.get(section) else 0
        for arm, section in SECTIONS.items()
    }
    digests = [model.digest for model in manifest.models if model.role in SECTIONS.values()]
    shown = pl.col("category").replace_strict(manifest.spec.rendered, default=None, return_dtype=pl.String)
    current = candidates.join(prompts.select("prompt_id"), on="prompt_id", how="semi").filter(
        pl.col("generator_digest").is_in(digests),
        pl.col("spec_digest").is_null() | (pl.col("spec_digest") == shown),
        pl.col("sample_index") < pl.col("arm").replace_strict(samples, default=0, return_dtype=pl.Int32),
    )
    ids = current.select(pl.col("candidate_id").alias("id")).unique().collect(engine="streaming")
    written = people.drop_nulls("written_id").join(ids, left_on="target_id", right_on="id", how="semi")
    return pl.concat([ids, written.select(pl.col("written_id").alias("id"))])
