"""From Argilla back to the run: every answer with who and when, drafts and discards kept apart.

One file is written whole at the end, so a pull that is cut changes nothing, and one that is repeated doubles nothing.
Answers of a dataset that was read replace what was stored of it; answers of datasets that no longer exist stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from specdistill.builders.audit.client import get, pages_of
from specdistill.builders.audit.push import gone, read_server
from specdistill.builders.parts import parquet_bytes
from specdistill.errors import AuditError, RunError
from specdistill.schemas.audit import RECORDS, RESPONSES, Better, Kind, Say
from specdistill.schemas.files import write_whole
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.table import Table
from specdistill.schemas.text import storable
from specdistill.schemas.vocabulary import CRITERIA, Outcome


def read_table(layout: RunLayout, table: Table) -> pl.DataFrame:
    """`audit/records.parquet` or `audit/responses.parquet`; empty where there is none.

    Raises:
        RunError: it cannot be read.
    """
    path = layout.audit / f"{table.name.removeprefix('audit_')}.parquet"
    if not path.exists():
        return table.empty()
    try:
        return table.validate(pl.read_parquet(path).select(table.names))
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise RunError(f"This file cannot be read: {exc}.", "Pull or push again after removing it.", file=path) from exc


def write_table(layout: RunLayout, table: Table, frame: pl.DataFrame) -> None:
    """Write one of them whole."""
    frame = table.validate(frame.select(table.names).cast(table.schema).sort(table.key))
    write_whole(layout.audit / f"{table.name.removeprefix('audit_')}.parquet", parquet_bytes(frame))


def pull(
    layout: RunLayout,
    client: Any,
    url: str,
    seen: Callable[[str, int, int], None] = lambda dataset, records, total: None,
) -> pl.DataFrame:
    """Read all answers of the run's datasets and store them. Safe while people work and while other pulls run.

    Args:
        seen: told dataset, records read, records in all, page by page.

    Returns:
        All stored responses.

    Raises:
        AuditError: nothing was pushed, a dataset was deleted on the server, or it does not answer. What was stored
            stays.
    """
    known = read_server(layout)
    if not known["datasets"]:
        raise AuditError("Nothing of this run was pushed yet.", "Run `specdistill audit push` first.", file=layout.root)
    users = usernames(client, url)
    asked = {(row["record_id"], row["round"]): row for row in read_table(layout, RECORDS).iter_rows(named=True)}
    rows: list[dict[str, Any]] = []
    for name, dataset_id in sorted(known["datasets"].items()):
        if get(client, url, f"/datasets/{dataset_id}") is None:
            raise gone(name, dataset_id)
        read = 0
        for page, total in pages_of(client, url, dataset_id, responses=True):
            for record in page:
                number = int((record.get("metadata") or {}).get("round", 1))
                ask = asked.get((record["external_id"], number))
                if ask is None:
                    continue  # a record that somebody else logged into our dataset
                for response in record.get("responses") or []:
                    rows.append(read_response(response, ask, dataset_id, users))
            read += len(page)
            seen(name, read, total)
    pulled = RESPONSES.frame(rows).unique("response_id", keep="last")  # pages may shift while people log records
    kept = read_table(layout, RESPONSES).filter(~pl.col("dataset_id").is_in(list(known["datasets"].values())))
    responses = pl.concat([kept, pulled]).sort("response_id")
    if not responses.equals(read_table(layout, RESPONSES)):
        write_table(layout, RESPONSES, responses)
    return responses


def usernames(client: Any, url: str) -> dict[str, str]:
    """User id to username. A server that does not list its users to us leaves the ids."""
    answer = get(client, url, "/users")
    return {user["id"]: user["username"] for user in (answer or {}).get("items", [])}


def read_response(
    response: Mapping[str, Any], ask: Mapping[str, Any], dataset_id: str, users: Mapping[str, str]
) -> dict[str, Any]:
    """`response_row`, of an answer that may be anything.

    Raises:
        AuditError: it is not of the form that Argilla 2.8 answers in; names the record.
    """
    try:
        row = response_row(response, ask, dataset_id, users)
        RESPONSES.frame([row])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, pl.exceptions.PolarsError) as exc:
        raise AuditError(
            f"An answer to record {ask['record_id']} cannot be read ({type(exc).__name__}: {str(exc)[:200]}).",
            "Look at the record in Argilla; is the server of the version that wrote it?",
        ) from exc
    return row


def response_row(
    response: Mapping[str, Any], ask: Mapping[str, Any], dataset_id: str, users: Mapping[str, str]
) -> dict[str, Any]:
    """One answer as a row of `RESPONSES`.

    Args:
        response: as the server gives it; `values` may be null.
        ask: the row of `RECORDS` it answers.
    """
    values = {name: value.get("value") for name, value in (response.get("values") or {}).items()}
    row: dict[str, Any] = {
        "response_id": response["id"],
        "dataset_id": dataset_id,
        "annotator": users.get(response.get("user_id") or "", response.get("user_id") or "deleted"),
        "status": response["status"],
        "created": moment(response["inserted_at"]),
        "updated": moment(response["updated_at"]),
        "clauses": [storable(str(anchor)) for anchor in values.get("clauses") or []],
        "spans": [
            span(field, marked) for field in ("answer", "reasoning") for marked in values.get(f"{field}_problems") or []
        ],
        "comment": text_of(values.get("comment")),
    } | {name: ask[name] for name in ("record_id", "round", "kind", "target_id")}
    if ask["kind"] == Kind.PAIR:
        picked = {"a": ask["first_is_chosen"], "b": not ask["first_is_chosen"]}
        said = values.get("better")
        if said in picked:
            row["better"] = (Better.CHOSEN if picked[said] else Better.REJECTED).value
        elif said in (Better.TIE, Better.BOTH_BAD):
            row["better"] = said
        row["strength"] = values.get("strength")
        return row
    row["verdict"] = values.get("verdict") if values.get("verdict") in set(Say) else None
    row["outcome"] = values.get("outcome") if values.get("outcome") in set(Outcome) else None
    row["correction"] = text_of(values.get("correction"))
    return row | {name: values.get(name) for name in CRITERIA}


def span(field: str, marked: Mapping[str, Any]) -> dict[str, Any]:
    """One marked problem. The text itself is in the candidate; offsets are in characters."""
    return {
        "field": field,
        "label": storable(str(marked["label"])),
        "start": int(marked["start"]),
        "end": int(marked["end"]),
    }


def text_of(value: Any) -> str | None:
    """Free text, storable; None for an empty one."""
    return storable(value).strip() or None if isinstance(value, str) else None


def moment(text: str) -> datetime:
    """The server's times: ISO 8601, UTC where they do not say."""
    parsed = datetime.fromisoformat(text)
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
