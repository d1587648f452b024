"""A search engine for the Argilla server that answers from the server's own SQLite database.

Argilla keeps its truth in the database and a copy of it in Elasticsearch. On one machine the copy is not needed: every
question the server asks a search engine (filters, text, sorting, counts) is one SQL query over the tables. Indexing
is therefore nothing to do. Not there: similarity search over vectors, which an audit does not use.

Runs inside the server's environment (see `launch.py`); imports nothing of ours.
"""

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from argilla_server.enums import MetadataPropertyType, ResponseStatusFilter
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Dataset, MetadataProperty, User
from argilla_server.search_engine import (
    AndFilter,
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    TermsFilter,
    TermsMetrics,
)
from argilla_server.search_engine.base import MetadataFilterScope, RecordFilterScope, SuggestionFilterScope
from argilla_server.settings import settings
from sqlalchemy import make_url

RECORD_COLUMNS = ("id", "external_id", "inserted_at", "updated_at", "status")
SUGGESTION_COLUMNS = ("score", "agent", "type")
Where = tuple[str, list[Any]]
"""SQL and its parameters."""


def has_words(text: str | None, words: str) -> bool:
    """Whether a text holds every word, whatever its case."""
    folded = (text or "").casefold()
    return all(word in folded for word in words.split("\n"))


def shuffled(user: str, record: str) -> str:
    """A place in an order that is each user's own, and the same every time."""
    return hashlib.sha256(f"{user}/{record}".encode()).hexdigest()


def query(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run one query on a read-only connection of its own: a reader never waits for a writer."""
    path = make_url(settings.database_url).database
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=settings.database_sqlite_timeout or 30)
    try:
        connection.create_function("has_words", 2, has_words, deterministic=True)
        connection.create_function("shuffled", 2, shuffled, deterministic=True)
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def path_of(*names: str) -> str:
    """A JSON path with quoted keys."""
    return "$" + "".join("." + json.dumps(name) for name in names)


def compare(column: str, filter: Any) -> Where:
    """One column against a set of values or a range."""
    if isinstance(filter, TermsFilter):
        values = [getattr(value, "value", value) for value in filter.values]
        marks = ", ".join("?" * len(values))
        return f"CAST({column} AS TEXT) IN ({marks})", [str(value) for value in values]
    parts, parameters = ["1"], []
    for sign, bound in ((">=", filter.ge), ("<=", filter.le)):
        if bound is not None:
            parts.append(f"{column} {sign} ?")
            parameters.append(bound)
    return " AND ".join(parts), parameters


def where_of(filter: Any) -> Where:
    """A filter as SQL over `records r`."""
    if isinstance(filter, AndFilter):
        parts = [where_of(part) for part in filter.filters]
        return (
            " AND ".join(f"({sql})" for sql, _ in parts) or "1",
            [value for _, values in parts for value in values],
        )
    scope = filter.scope
    if isinstance(scope, RecordFilterScope):
        if scope.property not in RECORD_COLUMNS:
            raise UnprocessableEntityError(f"Records cannot be filtered by {scope.property}.")
        return compare(f"r.{scope.property}", filter)
    if isinstance(scope, MetadataFilterScope):
        inner, values = compare("m.value", filter)
        sql = f"EXISTS (SELECT 1 FROM json_each(r.metadata, ?) m WHERE {inner})"
        return sql, [path_of(scope.metadata_property), *values]
    if isinstance(scope, SuggestionFilterScope):
        return suggestion_where(filter)
    return response_where(filter)


def suggestion_where(filter: Any) -> Where:
    """A filter over suggestions."""
    scope = filter.scope
    of_question = "FROM suggestions s JOIN questions q ON q.id = s.question_id"
    if scope.property in SUGGESTION_COLUMNS:
        inner, values = compare(f"s.{scope.property}", filter)
        return f"EXISTS (SELECT 1 {of_question} WHERE s.record_id = r.id AND q.name = ? AND {inner})", [
            scope.question,
            *values,
        ]
    inner, values = compare("v.value", filter)
    sql = f"EXISTS (SELECT 1 {of_question}, json_each(s.value) v WHERE s.record_id = r.id AND q.name = ? AND {inner})"
    return sql, [scope.question, *values]


def response_where(filter: Any) -> Where:
    """A filter over responses: their status (pending is having none), or the value of a question."""
    scope = filter.scope
    mine, user = ("", []) if scope.user is None else (" AND p.user_id = ?", [scope.user.id.hex])
    exists = f"EXISTS (SELECT 1 FROM responses p WHERE p.record_id = r.id{mine}"
    if scope.question:
        inner, values = compare("v.value", filter)
        sql = (
            f'EXISTS (SELECT 1 FROM responses p, json_each(p."values", ?) v WHERE p.record_id = r.id{mine} AND {inner})'
        )
        return sql, [path_of(scope.question, "value"), *user, *values]
    if scope.property != "status" or not isinstance(filter, TermsFilter):
        raise UnprocessableEntityError(f"Responses cannot be filtered by {scope.property}.")
    statuses = [getattr(value, "value", value) for value in filter.values]
    given = [status for status in statuses if status != ResponseStatusFilter.pending.value]
    parts, parameters = [], []
    if len(given) < len(statuses):
        parts.append(f"NOT {exists})")
        parameters += user
    if given:
        parts.append(f"{exists} AND p.status IN ({', '.join('?' * len(given))}))")
        parameters += [*user, *given]
    return " OR ".join(parts) or "1", parameters


def order_of(sort: Iterable[Any] | None, user_id: Any | None) -> Where:
    """ORDER BY. Without a wish: each user's own order, or the order of logging."""
    parts, parameters = [], []
    for order in sort or ():
        scope, direction = order.scope, "DESC" if getattr(order.order, "value", order.order) == "desc" else "ASC"
        if isinstance(scope, RecordFilterScope):
            if scope.property not in RECORD_COLUMNS:
                raise UnprocessableEntityError(f"Records cannot be sorted by {scope.property}.")
            column, values = f"r.{scope.property}", []
        elif isinstance(scope, MetadataFilterScope):
            column, values = "json_extract(r.metadata, ?)", [path_of(scope.metadata_property)]
        elif isinstance(scope, SuggestionFilterScope):
            named = scope.property if scope.property in SUGGESTION_COLUMNS else "value"
            column = (
                f"(SELECT avg(s.{named}) FROM suggestions s JOIN questions q ON q.id = s.question_id "
                "WHERE s.record_id = r.id AND q.name = ?)"
            )
            values = [scope.question]
        else:
            mine, user = ("", []) if scope.user is None else (" AND p.user_id = ?", [scope.user.id.hex])
            value = 'json_extract(p."values", ?)' if scope.question else "p.status"
            column = f"(SELECT avg({value}) FROM responses p WHERE p.record_id = r.id{mine})"
            values = [*([path_of(scope.question, "value")] if scope.question else []), *user]
        parts.append(f"{column} IS NULL, {column} {direction}")
        parameters += [*values, *values]
    if not parts and user_id is not None:
        return "shuffled(?, r.id)", [str(user_id)]
    return ", ".join([*parts, "r.inserted_at", "r.id"]), parameters


@SearchEngine.register("sqlite")
class SQLiteSearch(SearchEngine):
    """The server's database as its own search engine. No state."""

    @classmethod
    async def new_instance(cls) -> "SQLiteSearch":
        return cls()

    async def close(self) -> None:
        """Nothing is open between queries."""

    async def ping(self) -> bool:
        return True

    async def info(self) -> dict:
        return {"name": "sqlite", "version": sqlite3.sqlite_version}

    async def _nothing(self, *_: Any, **__: Any) -> None:
        """Indexing: the database is the index."""

    create_index = delete_index = configure_metadata_property = configure_index_vectors = _nothing
    index_records = partial_record_update = delete_records = _nothing
    update_record_response = delete_record_response = _nothing
    update_record_suggestion = delete_record_suggestion = _nothing

    async def get_dataset_progress(self, dataset: Dataset) -> dict:
        sql = "SELECT status, count(*) FROM records WHERE dataset_id = ? GROUP BY status"
        counted = dict(await asyncio.to_thread(query, sql, [dataset.id.hex]))
        return {"total": sum(counted.values()), **counted}

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict:
        sql = (
            "SELECT p.status, count(*) FROM responses p JOIN records r ON r.id = p.record_id "
            "WHERE r.dataset_id = ? AND p.user_id = ? GROUP BY p.status"
        )
        counted = dict(await asyncio.to_thread(query, sql, [dataset.id.hex, user.id.hex]))
        return {"total": sum(counted.values()), **counted}

    async def search(
        self,
        dataset: Dataset,
        query: Any = None,
        filter: Any = None,
        sort: Any = None,
        offset: int = 0,
        limit: int = 100,
        user_id: Any = None,
    ) -> SearchResponses:
        where, values = "r.dataset_id = ?", [dataset.id.hex]
        words = query if isinstance(query, str) or query is None else query.q
        if words and words.split():
            inside = getattr(query, "field", None)
            sql = "EXISTS (SELECT 1 FROM json_tree(r.fields, ?) t WHERE t.type = 'text' AND has_words(t.value, ?))"
            where += f" AND {sql}"
            values += [path_of(inside) if inside else "$", "\n".join(words.casefold().split())]
        if filter is not None:
            sql, more = where_of(filter)
            where += f" AND ({sql})"
            values += more
        order, more = order_of(sort, user_id)
        rows, total = await asyncio.to_thread(page, where, values, order, more, limit, offset)
        return SearchResponses(items=[SearchResponseItem(record_id=UUID(row[0])) for row in rows], total=total)

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> Any:
        inside = [path_of(metadata_property.name), metadata_property.dataset_id.hex]
        tables = "FROM records r, json_each(r.metadata, ?) m WHERE r.dataset_id = ? AND m.value IS NOT NULL"
        if metadata_property.type == MetadataPropertyType.terms:
            sql = f"SELECT m.value, count(*) {tables} GROUP BY m.value ORDER BY count(*) DESC, m.value"
            rows = await asyncio.to_thread(query, sql, inside)
            counts = [TermsMetrics.TermCount(term=str(term), count=count) for term, count in rows]
            return TermsMetrics(total=sum(count.count for count in counts), values=counts)
        low, high = (await asyncio.to_thread(query, f"SELECT min(m.value), max(m.value) {tables}", inside))[0]
        kind = (
            IntegerMetadataMetrics if metadata_property.type == MetadataPropertyType.integer else FloatMetadataMetrics
        )
        return kind(min=low, max=high)

    async def similarity_search(self, *_: Any, **__: Any) -> SearchResponses:
        raise UnprocessableEntityError("This server has no similarity search: it runs without Elasticsearch.")


def page(
    where: str, values: list[Any], order: str, ordering: list[Any], limit: int, offset: int
) -> tuple[list[tuple[Any, ...]], int]:
    """One page of record ids, and how many there are."""
    total = query(f"SELECT count(*) FROM records r WHERE {where}", values)[0][0]
    sql = f"SELECT r.id FROM records r WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
    return query(sql, [*values, *ordering, limit, offset]), total
