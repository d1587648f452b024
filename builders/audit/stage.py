"""The audit's place in a run: what `select` asks of it, and the steps behind `audit push` and `audit pull`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from specdistill.builders.audit.pull import read_table, write_table
from specdistill.builders.audit.summary import write_summary
from specdistill.builders.audit.verdicts import People, again, verdicts
from specdistill.builders.parts import parquet_bytes
from specdistill.errors import AuditError
from specdistill.schemas.audit import RECORDS, RESPONSES, Final, Kind
from specdistill.schemas.files import write_whole
from specdistill.schemas.labels import LABELS
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import CRITERIA

if TYPE_CHECKING:
    from specdistill.builders.audit.view import Judged


def people_of(layout: RunLayout, recipe: Recipe) -> People:
    """What the pulled answers do to the sets; also writes `audit/verdicts.parquet`, and brings `audit/summary.json` in
    line with the recipe.

    Raises:
        RunError: the answers cannot be read.
    """
    responses = read_table(layout, RESPONSES)
    if responses.is_empty():
        layout.audit_verdicts.unlink(missing_ok=True)
        return People()
    found = verdicts(responses, recipe.audit)
    write_whole(layout.audit_verdicts, parquet_bytes(found))
    write_summary(layout, recipe)
    return People.of(found)


def choose_records(
    layout: RunLayout, recipe: Recipe, run: Judged, rows: int | None, pairs: int | None, *, write: bool = True
) -> pl.DataFrame:
    """The records to be shown: what was chosen before stays, what is new is added. Written to the run if asked.

    Args:
        rows, pairs: wanted in all; None takes the recipe's.
    """
    from specdistill.builders.audit.choose import choose

    categories = run.rows["category"].n_unique()
    wanted_rows = recipe.audit.per_category * categories if rows is None else rows
    wanted_pairs = recipe.audit.pairs if pairs is None else pairs
    before = read_table(layout, RECORDS)
    fresh = pl.concat(
        [
            choose(run.rows, Kind.ROW, wanted_rows, recipe.audit),
            choose(run.pair_rows, Kind.PAIR, wanted_pairs, recipe.audit),
        ]
    ).join(before, on="record_id", how="anti")
    kept = run.still_there(before)  # others answer to an older policy or model
    added = fresh.sort("priority", "record_id", descending=[True, False])
    parts = [kept]
    for kind, wanted in ((Kind.ROW, wanted_rows), (Kind.PAIR, wanted_pairs)):
        there = kept.filter((pl.col("kind") == kind) & (pl.col("round") == 1)).height
        new = added.filter(pl.col("kind") == kind)
        # The control slice first: the rest is no sample without it.
        control = new.filter(pl.col("slice") == "control")
        rest = new.filter(pl.col("slice") != "control")
        parts.append(pl.concat([control, rest]).head(max(wanted - there, 0)))
    records = pl.concat(parts)
    if write and not records.sort(RECORDS.key).equals(before.sort(RECORDS.key)):
        write_table(layout, RECORDS, records)
    return records


def pulled(layout: RunLayout) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What was asked and what was answered.

    Raises:
        AuditError: nothing was pulled yet.
    """
    responses = read_table(layout, RESPONSES)
    if responses.is_empty():
        raise AuditError(
            "There are no answers in this run yet.", "Run `specdistill audit pull` first.", file=layout.root
        )
    return read_table(layout, RECORDS), responses


def second_opinions(layout: RunLayout, recipe: Recipe, responses: pl.DataFrame) -> pl.DataFrame:
    """Records that must go to another annotator, added to the run's records.

    Returns:
        The new ones only.
    """
    records = read_table(layout, RECORDS)
    more = again(records, verdicts(responses, recipe.audit), responses, recipe.audit)
    more = more.join(records, on=["record_id", "round"], how="anti")
    if more.height:
        write_table(layout, RECORDS, pl.concat([records, more]))
    return more


def write_labels(layout: RunLayout, found: pl.DataFrame, responses: pl.DataFrame) -> Path:
    """`audit/labels.csv` (`id,label` with 1 or 0) and, for calibration, `audit/labels.parquet`.

    In the latter what people said in an earlier audit is replaced; labels from files stay, but for candidates that the
    audit decided.

    Args:
        found: rows of `VERDICTS`.
        responses: rows of `RESPONSES`, for the ratings.
    """
    from specdistill.builders.audit.verdicts import votes
    from specdistill.builders.calibration import stored_labels

    rating = pl.mean_horizontal(*CRITERIA).sub(1).truediv(4)
    scores = (
        votes(responses)
        .with_columns(rating.alias("score"))
        .group_by(pl.col("target_id").alias("id"))
        .agg(pl.col("score").mean())
    )
    said = (
        found.filter((pl.col("kind") == Kind.ROW) & (pl.col("final") != Final.OPEN))
        .select(pl.col("target_id").alias("id"), (pl.col("final") == Final.CONFIRMED).alias("label"))
        .join(scores, on="id", how="left")
        .with_columns(pl.lit("audit").alias("source"))
        .select(LABELS.names)
        .cast(LABELS.schema)
        .sort("id")
    )
    others = stored_labels(layout).filter(pl.col("source").fill_null("") != "audit")
    kept = pl.concat([said, others]).unique("id", keep="first").sort("id")
    if kept.height or layout.labels.exists():
        write_whole(layout.labels, parquet_bytes(kept))
    path = layout.audit / "labels.csv"
    write_whole(path, said.select("id", pl.col("label").cast(pl.Int8)).write_csv().encode())
    return path


Progress = Callable[[str, int, int], None]


def push_all(
    layout: RunLayout,
    recipe: Recipe,
    client: Any,
    url: str,
    workspace: str,
    records: pl.DataFrame,
    run: Judged,
    *,
    recreate: bool = False,
    progress: Progress = lambda name, done, total: None,
) -> list[Any]:
    """Send records; see `push.push`."""
    from specdistill.builders.audit.push import push
    from specdistill.builders.audit.view import material_of

    return push(
        layout,
        client,
        url,
        workspace,
        records,
        material_of(run, records),
        recipe.name,
        recipe.audit.min_annotators,
        recreate=recreate,
        progress=progress,
    )
