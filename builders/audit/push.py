"""From chosen records to Argilla datasets. Pushing again sends only what is not there.

The choice is written to the run before anything is sent, each record has an id of its own, and what the server already
holds is asked first: a push that was cut anywhere is finished by the same command.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from specdistill.builders.audit.client import get, pages_of, translated
from specdistill.builders.audit.form import policy_text, settings
from specdistill.builders.audit.view import Material
from specdistill.errors import AuditError, AuditUnreachable
from specdistill.schemas.audit import Kind, Say
from specdistill.schemas.files import write_whole
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.vocabulary import CRITERIA

BATCH = 100
"""Records a request: a few hundred kilobytes, so that a server on one core is never busy for long."""
LIMIT = 60_000
"""Characters of a field; the rest is cut, with a note."""


@dataclass(frozen=True)
class Pushed:
    """What became of one dataset.

    Attributes:
        sent: records that were not there; `there`: that were.
    """

    name: str
    sent: int
    there: int


def dataset_name(run: str, kind: str, number: int = 1) -> str:
    """`RUN-rows`, `RUN-pairs`; later rounds have their number."""
    return f"{run}-{kind}s" + (f"-round-{number}" if number > 1 else "")


def read_server(layout: RunLayout) -> dict[str, Any]:
    """`server.json`: address and, by name, ids of the datasets that hold this run's records."""
    if not layout.audit_server.exists():
        return {"datasets": {}}
    return dict(json.loads(layout.audit_server.read_text()))


def push(
    layout: RunLayout,
    client: Any,
    url: str,
    workspace: str,
    records: pl.DataFrame,
    material: Material,
    run: str,
    min_annotators: int,
    *,
    recreate: bool = False,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> list[Pushed]:
    """Bring records to the server.

    Args:
        records: rows of `schemas.audit.RECORDS`, written to the run already.
        recreate: make a dataset anew that was deleted on the server.
        progress: told dataset, records there, records in all; first before anything is sent.

    Raises:
        AuditError: a dataset of this run was deleted on the server, or it refuses.
        AuditUnreachable: the server went away; running again goes on.
    """
    done = []
    for (kind, number), part in records.sort("kind", "round", "record_id").group_by(
        ["kind", "round"], maintain_order=True
    ):
        name = dataset_name(run, str(kind), int(str(number)))
        # Who answered before may answer again, but in a later round one answer, by another person, is enough.
        wanted = min_annotators if number == 1 else 1
        dataset = ensure(layout, client, url, workspace, name, Kind(str(kind)), material, wanted, recreate)
        there = {
            row["external_id"] for page, _ in pages_of(client, url, str(dataset.id), responses=False) for row in page
        }
        missing = part.filter(~pl.col("record_id").is_in(list(there)))
        builder = RecordBuilder(material)
        progress(name, part.height - missing.height, part.height)
        for at in range(0, missing.height, BATCH):
            batch = missing.slice(at, BATCH)
            try:
                with translated(url):
                    quietly(dataset, [builder.record(row) for row in batch.iter_rows(named=True)])
            except AuditUnreachable as exc:
                sent = part.height - missing.height + at
                raise AuditUnreachable(
                    f"{exc.cause} {sent} of {part.height} records of {name} are there.", exc.remedy
                ) from exc
            progress(name, part.height - missing.height + min(at + BATCH, missing.height), part.height)
        done.append(Pushed(name, missing.height, part.height - missing.height))
    return done


def quietly(dataset: Any, records: Sequence[Any]) -> None:
    """`records.log` without its bar."""
    from argilla.records import _dataset_records as module

    bar, module.tqdm = module.tqdm, lambda iterable, **_: iterable
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.records.log(list(records), batch_size=len(records))
    finally:
        module.tqdm = bar


def ensure(
    layout: RunLayout,
    client: Any,
    url: str,
    workspace: str,
    name: str,
    kind: Kind,
    material: Material,
    min_annotators: int,
    recreate: bool,
) -> Any:
    """The dataset, made if it was never made. One whose making was cut short is made again.

    Raises:
        AuditError: it was made before and is gone.
    """
    import argilla as rg

    known = read_server(layout)
    with translated(url):
        place = client.workspaces(workspace)
        if place is None:
            place = rg.Workspace(name=workspace, client=client).create()
        with warnings.catch_warnings():  # the client warns of each dataset that is not there yet
            warnings.simplefilter("ignore")
            found = client.datasets(name=name, workspace=place)
        if found is not None and get(client, url, f"/datasets/{found.id}")["status"] != "ready":
            found.delete()  # a draft: its making was cut short, and nobody can have answered in it
            found = None
        if found is None:
            if known["datasets"].get(name) and known.get("url") == url and not recreate:
                raise gone(name, known["datasets"][name])
            made = rg.Dataset(
                name=name,
                workspace=place,
                settings=settings(client, kind, material.clauses, min_annotators),
                client=client,
            )
            found = made.create()
    known |= {"url": url, "workspace": workspace}
    known["datasets"] = known["datasets"] | {name: str(found.id)}
    write_whole(layout.audit_server, (json.dumps(known, indent=1) + "\n").encode())
    return found


def gone(name: str, dataset_id: str) -> AuditError:
    """The error for a dataset that somebody deleted."""
    return AuditError(
        f"The Argilla dataset '{name}' ({dataset_id}) was deleted on the server.",
        "Answers that were pulled before are kept in the run. `audit push --recreate` makes the dataset anew, empty "
        "of answers.",
    )


class RecordBuilder:
    """Makes Argilla records of rows of `RECORDS`.

    State: the material by id, and policy texts rendered so far.
    """

    def __init__(self, material: Material) -> None:
        self.material = material
        self.rows = {row["target_id"]: row for row in material.rows.iter_rows(named=True)}
        self.pairs = {row["id"]: row for row in material.pairs.iter_rows(named=True)}
        self.texts = {key: (reasoning, answer) for key, reasoning, answer in material.texts.iter_rows()}
        self.prompts = dict(material.prompts.select("prompt_id", "prompt").iter_rows())
        self.policies: dict[str, str] = {}

    def record(self, row: Mapping[str, Any]) -> Any:
        """One `argilla.Record`.

        Raises:
            AuditError: its candidate or pair is no longer in the run.
        """
        import argilla as rg

        kind = Kind(row["kind"])
        source = (self.rows if kind is Kind.ROW else self.pairs).get(row["target_id"])
        if source is None:
            raise AuditError(
                f"The {kind.value} {row['target_id']} is not in the run any more.",
                "Settings or the policy changed since it was chosen. Remove audit/records.parquet to choose anew.",
            )
        category = row["category"]
        if category not in self.policies:
            self.policies[category] = policy_text(self.material.clauses, category)
        fields = {"conversation": self.prompts[row["prompt_id"]], "policy": cut(self.policies[category])}
        if kind is Kind.ROW:
            reasoning, answer = self.texts[row["target_id"]]
            fields |= {"reasoning": cut(reasoning), "answer": cut(answer)}
        else:
            sides = ("chosen", "rejected") if row["first_is_chosen"] else ("rejected", "chosen")
            for letter, side in zip("ab", sides, strict=True):
                reasoning, answer = self.texts[source[f"{side}_id"]]
                # A revision's reasoning is a critique of the other side; such pairs compare answers only.
                reasoning = None if source["revised"] else reasoning
                fields |= {f"answer_{letter}": cut(answer), f"reasoning_{letter}": cut(reasoning)}
        score = {"score": row["score"]} if kind is Kind.ROW else {"margin": row["margin"]}
        return rg.Record(
            id=row["record_id"],
            fields=fields,
            metadata={
                "category": category,
                "expected": row["outcome"],
                "slice": row["slice"],
                "judge": "accepts" if row["judge_accepts"] else "rejects",
                "priority": row["priority"],
                "round": row["round"],
            }
            | {name: value for name, value in score.items() if value is not None},
            suggestions=[] if row["hidden"] else self.suggestions(kind, row, source),
        )

    def suggestions(self, kind: Kind, row: Mapping[str, Any], source: Mapping[str, Any]) -> list[Any]:
        """The judge's view as suggestions, with its scores."""
        import argilla as rg

        agent = "".join(char if char.isalnum() or char in "-_.:/" else "-" for char in self.material.judge)[:200]
        if kind is Kind.PAIR:
            better = "a" if row["first_is_chosen"] else "b"
            return [rg.Suggestion("better", better, score=min(1.0, source["score_chosen"]), agent=agent)]
        verdict = Say.ACCEPT if row["judge_accepts"] else Say.REJECT
        made = [rg.Suggestion("verdict", verdict.value, score=row["score"], agent=agent)]
        for name in CRITERIA:
            if source[name] is not None:
                made.append(rg.Suggestion(name, round(1 + 4 * source[name]), score=source[name], agent=agent))
        known = set(self.material.clauses["anchor"].to_list())
        cited = [anchor for anchor in source["clauses"] or [] if anchor in known]
        if cited and len(known) > 1:  # else there is no such question
            made.append(rg.Suggestion("clauses", cited, agent="citations"))
        return made


def cut(text: str | None) -> str | None:
    """A text the page can show."""
    if text is None or len(text) <= LIMIT:
        return text
    return text[:LIMIT] + "\n[…] The rest is not shown."
