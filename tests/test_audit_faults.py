"""What an audit survives: a server killed in the middle, people at work during pulls, wrong keys, deleted datasets."""

import threading
import time

import polars as pl
import pytest
from audit_server import Argilla, respond
from run_fixture import recipe, write_run

from specdistill.builders.audit.client import connect
from specdistill.builders.audit.pull import pull, read_table
from specdistill.builders.audit.push import BATCH, read_server
from specdistill.builders.audit.stage import choose_records, push_all
from specdistill.builders.audit.view import judged
from specdistill.builders.run import open_run
from specdistill.errors import AuditError, AuditUnreachable, UsageError
from specdistill.schemas.audit import RESPONSES

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def argilla(tmp_path_factory):
    server = Argilla(tmp_path_factory.mktemp("argilla"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A run, opened and judged, with its choice of records."""
    layout = write_run(tmp_path_factory.mktemp("faults") / "run", prompts=96, recipe=recipe(name="faults"))
    _, read = open_run(layout.root)
    run = judged(layout, read)
    return layout, read, run, choose_records(layout, read, run, BATCH + 20, 10)


@pytest.fixture(autouse=True)
def running(argilla):
    """A test that failed between a kill and a start does not fail the others."""
    if argilla.process.poll() is not None:
        argilla.start()


def send(argilla, state, name, progress=lambda *_: None, rows=None, pairs=0, **more):
    """Push under a name of its own; all records, or so many of the rows and pairs."""
    layout, read, run, records = state
    if rows:
        kinds = [records.filter(pl.col("kind") == kind).sort("record_id") for kind in ("row", "pair")]
        records = pl.concat([kinds[0].head(rows), kinds[1].head(pairs)])
    client, url = connect(argilla.url, argilla.key())
    named = read.model_copy(update={"name": name})
    return push_all(layout, named, client, url, "audit", records, run, progress=progress, **more)


@pytest.fixture
def fresh(state):
    """The run's folder as if nothing had been pushed or pulled."""
    layout = state[0]
    for path in (layout.audit_server, layout.audit_responses):
        path.unlink(missing_ok=True)
    return layout


def test_a_server_killed_mid_push_loses_and_doubles_nothing(argilla, state, fresh):
    """Killed between two datasets, and again between two batches; the third push finishes."""
    for moment in ("killed-pairs", "killed-rows"):

        def kill(name, done, total, moment=moment):
            if name == moment and done:
                argilla.kill()

        with pytest.raises(AuditUnreachable, match="does not answer") as caught:
            send(argilla, state, "killed", kill)
        assert "run the same command again" in caught.value.remedy
        argilla.start()
    again = {item.name: (item.sent, item.there) for item in send(argilla, state, "killed")}
    assert again == {"killed-pairs": (0, 10), "killed-rows": (20, BATCH)}, "what was there is not sent again"
    there = argilla.records("killed-rows") | argilla.records("killed-pairs")
    assert set(there) == set(state[3]["record_id"])


def test_a_server_killed_mid_pull_keeps_what_was_there_and_the_next_pull_has_all(argilla, state, fresh):
    layout = fresh
    send(argilla, state, "pulled", rows=30, pairs=5)
    rows = argilla.records("pulled-rows")
    first, second = sorted(rows)[:10], sorted(rows)[10:20]
    with argilla.http("ann") as ann:
        for key in first:
            respond(ann, rows[key]["id"], verdict="accept")
    client, url = connect(argilla.url, argilla.key())
    assert pull(layout, client, url).height == 10
    with argilla.http("ann") as ann:
        for key in second:
            respond(ann, rows[key]["id"], verdict="reject")
    before = layout.audit_responses.read_bytes()
    with pytest.raises(AuditUnreachable):
        pull(layout, client, url, seen=lambda *_: argilla.kill())
    assert layout.audit_responses.read_bytes() == before, "a cut pull changes nothing"
    argilla.start()
    client, url = connect(argilla.url, argilla.key())
    found = pull(layout, client, url)
    assert sorted(found["record_id"]) == first + second
    assert pull(layout, client, url).equals(found), "pulling again doubles nothing"


def test_three_people_at_work_while_pull_runs_every_second(argilla, state, fresh):
    layout = fresh
    send(argilla, state, "busy", rows=30)
    rows = argilla.records("busy-rows")
    keys = sorted(rows)[:30]
    errors = []

    def work(name, words):
        try:
            with argilla.http(name) as http:
                for number, key in enumerate(keys):
                    respond(http, rows[key]["id"], verdict=words[number % len(words)])
        except AssertionError as exc:
            errors.append(exc)

    people = [
        threading.Thread(target=work, args=(name, words))
        for name, words in (("ann", ["accept"]), ("bob", ["accept", "reject"]), ("cleo", ["reject", "fix", "accept"]))
    ]
    for person in people:
        person.start()
    client, url = connect(argilla.url, argilla.key())
    heights, known = [], set()
    while any(person.is_alive() for person in people):
        began = time.monotonic()
        found = pull(layout, client, url)
        assert RESPONSES.problems(found) == []
        assert known <= set(found["response_id"]), "an answer that was pulled once stays"
        known = set(found["response_id"])
        heights.append(found.height)
        time.sleep(max(0.0, 1 - (time.monotonic() - began)))
    for person in people:
        person.join()
    assert not errors
    found = pull(layout, client, url)
    assert found.height == 3 * len(keys)
    assert found.group_by("annotator", "record_id").len()["len"].max() == 1
    given = {(row["annotator"], row["record_id"]): row["verdict"] for row in found.iter_rows(named=True)}
    assert {given["bob", key] for key in keys[::2]} == {"accept"}
    assert {given["cleo", key] for key in keys[1::3]} == {"fix"}
    assert len(heights) >= 2, "there were pulls while people worked"
    with argilla.http("ann") as ann:
        change = found.filter((pl.col("annotator") == "ann") & (pl.col("record_id") == keys[0]))["response_id"][0]
        body = {"values": {"verdict": {"value": "reject"}}, "status": "submitted"}
        assert ann.put(f"/responses/{change}", json=body).status_code == 200
    later = pull(layout, client, url)
    assert later.height == found.height
    assert later.filter(pl.col("response_id") == change)["verdict"].to_list() == ["reject"], "a changed mind counts"


def test_a_wrong_key_and_a_key_of_an_annotator(argilla):
    with pytest.raises(AuditError, match="refuses the key") as caught:
        connect(argilla.url, "wrong.key.of.nobody")
    assert "--api-key" in caught.value.remedy


def test_an_annotator_may_not_push(argilla, state):
    layout, read, run, records = state
    client, url = connect(argilla.url, argilla.key("ann"))
    with pytest.raises(AuditError, match="key"):
        push_all(layout, read.model_copy(update={"name": "annotators"}), client, url, "audit", records, run)


def test_nobody_there():
    with pytest.raises(AuditUnreachable, match="does not answer") as caught:
        connect("http://127.0.0.1:9", "any")
    assert "audit serve" in caught.value.remedy


def test_no_address_and_no_key(monkeypatch):
    monkeypatch.delenv("ARGILLA_API_URL", raising=False)
    monkeypatch.delenv("ARGILLA_API_KEY", raising=False)
    with pytest.raises(UsageError, match="No address"):
        connect(None, None)
    with pytest.raises(UsageError, match="No key"):
        connect("http://127.0.0.1:9", None)


def test_a_dataset_deleted_by_hand_is_told_and_what_was_pulled_stays(argilla, state, fresh):
    layout = fresh
    send(argilla, state, "deleted", rows=10)
    rows = argilla.records("deleted-rows")
    with argilla.http("ann") as ann:
        for key in sorted(rows)[:3]:
            respond(ann, rows[key]["id"], verdict="reject")
    client, url = connect(argilla.url, argilla.key())
    assert pull(layout, client, url).height == 3
    with argilla.http() as owner:
        assert owner.delete(f"/datasets/{argilla.datasets()['deleted-rows']}").status_code == 200
    for action in (lambda: pull(layout, client, url), lambda: send(argilla, state, "deleted", rows=10)):
        with pytest.raises(AuditError, match=r"deleted-rows.* was deleted on the server") as caught:
            action()
        assert "--recreate" in caught.value.remedy
    assert read_table(layout, RESPONSES).height == 3
    sent = send(argilla, state, "deleted", rows=10, recreate=True)
    assert [(item.name, item.sent) for item in sent] == [("deleted-rows", 10)]
    assert pull(layout, client, url).height == 3, "answers of the deleted dataset are kept"
    assert set(read_server(layout)["datasets"]) == {"deleted-rows"}


def test_a_dataset_whose_making_was_cut_short_is_made_again(argilla, state):
    with argilla.http() as owner:
        place = owner.get("/me/workspaces").json()["items"][0]["id"]
        made = owner.post("/datasets", json={"name": "half-rows", "workspace_id": place})
        assert made.status_code == 201, made.text
    assert [item.sent for item in send(argilla, state, "half", rows=5)] == [5]


def test_the_servers_search_answers_filters_sorting_and_text(argilla, state):
    """What the bundled web pages ask: each filter kind, sorting both ways, words, and counts."""
    send(argilla, state, "searched", rows=60)
    records = argilla.records("searched-rows")
    dataset = argilla.datasets()["searched-rows"]
    keys = sorted(records)
    with argilla.http() as owner, argilla.http("ann") as ann:
        respond(ann, records[keys[0]]["id"], verdict="accept", compliance=5)
        respond(ann, records[keys[1]]["id"], "discarded")

        def search(http=owner, mine=False, **body):
            path = f"{'/me' if mine else ''}/datasets/{dataset}/records/search?limit=1000"
            done = http.post(path, json=body)
            assert done.status_code == 200, done.text
            return [item["record"]["external_id"] for item in done.json()["items"]]

        def terms(scope, *values):
            return {"and": [{"type": "terms", "scope": scope, "values": list(values)}]}

        of = {key: record["metadata"] for key, record in records.items()}
        category = {"entity": "metadata", "metadata_property": "category"}
        assert set(search(filters=terms(category, "tools"))) == {k for k in keys if of[k]["category"] == "tools"}
        priority = {"entity": "metadata", "metadata_property": "priority"}
        high = {"and": [{"type": "range", "scope": priority, "ge": 1.0}]}
        assert set(search(filters=high)) == {k for k in keys if of[k]["priority"] >= 1.0}
        down = search(sort=[{"scope": priority, "order": "desc"}])
        assert [of[k]["priority"] for k in down] == sorted((of[k]["priority"] for k in keys), reverse=True)
        status = {"entity": "response", "property": "status"}
        assert search(ann, True, filters=terms(status, "submitted")) == [keys[0]]
        assert search(ann, True, filters=terms(status, "discarded")) == [keys[1]]
        assert set(search(ann, True, filters=terms(status, "pending"))) == set(keys[2:])
        said = {"entity": "response", "question": "verdict"}
        assert search(filters=terms(said, "accept")) == [keys[0]]
        judge = {"entity": "suggestion", "question": "verdict"}
        shown = {k for k in keys if any(s["value"] == "accept" for s in records[k]["suggestions"])}
        assert set(search(filters=terms(judge, "accept"))) == shown
        words = records[keys[5]]["fields"]["answer"].split(" ", 3)[-1].upper()
        assert keys[5] in search(query={"text": {"q": words, "field": "answer"}})
        assert search(query={"text": {"q": "zebra quilt"}}) == []
        assert search(ann, True) == search(ann, True), "an annotator's order stays"
        progress = ann.get(f"/me/datasets/{dataset}/metrics").json()["responses"]
        assert (progress["submitted"], progress["discarded"]) == (1, 1)
        assert owner.get(f"/datasets/{dataset}/progress").json()["completed"] == 1
        properties = ann.get(f"/me/datasets/{dataset}/metadata-properties").json()["items"]
        assert {item["name"] for item in properties} == {"category", "expected"}, "nothing of the judge's view"
        for item in owner.get(f"/me/datasets/{dataset}/metadata-properties").json()["items"]:
            assert owner.get(f"/metadata-properties/{item['id']}/metrics").status_code == 200
