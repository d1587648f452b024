"""The audit on a real Argilla server with the real client and a real browser, from push to changed datasets.

The run is a templated one; `SPECDISTILL_AUDIT_RUN=FOLDER` takes a run of a real model instead (it is copied), and
`SPECDISTILL_SCREENSHOTS=FOLDER` keeps what the browser saw.
"""

import json
import os
import re
import shutil
import time
from pathlib import Path

import polars as pl
import pytest
from audit_server import Argilla, chromium, respond
from run_fixture import recipe, write_run
from typer.testing import CliRunner

from specdistill.builders.audit.pull import read_table
from specdistill.cli.app import app
from specdistill.errors import SpecdistillError
from specdistill.schemas.audit import RECORDS, RESPONSES
from specdistill.schemas.invariants import check_run, read_sets
from specdistill.schemas.layout import RunLayout

pytestmark = pytest.mark.integration
OWN_RUN = os.environ.get("SPECDISTILL_AUDIT_RUN")
SHOTS = Path(os.environ.get("SPECDISTILL_SCREENSHOTS", "")) if os.environ.get("SPECDISTILL_SCREENSHOTS") else None


@pytest.fixture(scope="module")
def argilla(tmp_path_factory):
    server = Argilla(tmp_path_factory.mktemp("argilla"))
    yield server
    server.stop()


@pytest.fixture
def account(argilla, monkeypatch):
    """The owner's address and key, as a user sets them."""
    monkeypatch.setenv("ARGILLA_API_URL", argilla.url)
    monkeypatch.setenv("ARGILLA_API_KEY", argilla.key())


def run(*arguments, exit_code=0):
    """A command; its output. Our errors come through as themselves."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, SpecdistillError):
        raise result.exception
    assert result.exit_code == exit_code, result.output
    return result.output


def answering(run_json):
    return json.loads(run_json[run_json.index("{") :])


def together(layout):
    return {config: pl.concat(splits.values()) for config, splits in read_sets(layout.datasets).items()}


@pytest.fixture(scope="module")
def big_run(tmp_path_factory):
    """A run with more than 300 rows that can be shown and more than 100 pairs."""
    folder = tmp_path_factory.mktemp("big") / "run"
    if OWN_RUN:
        shutil.copytree(OWN_RUN, folder, ignore=shutil.ignore_patterns("audit", ".lock"))
        text = re.sub(r"(?m)^name: .*$", "name: big", (folder / "recipe.yaml").read_text(), count=1)
        (folder / "recipe.yaml").write_text(text)
        run("select", folder)
        return RunLayout(folder)
    return write_run(folder, prompts=192, recipe=recipe(name="big"))


def test_the_whole_way(argilla, account, big_run, tmp_path):
    before = together(big_run)
    push = ("audit", "push", big_run.root, "--rows", 300, "--pairs", 100, "--json")
    chosen = answering(run(*push, "--dry-run"))["records"]
    many = [sum(record["kind"] == kind for record in chosen) for kind in ("row", "pair")]
    if OWN_RUN:
        print(f"{OWN_RUN}: {many[0]} rows and {many[1]} pairs")
    else:
        assert many == [300, 100]
    sent = answering(run(*push))
    assert {item["name"]: (item["sent"], item["there"]) for item in sent["datasets"]} == {
        "big-rows": (many[0], 0),
        "big-pairs": (many[1], 0),
    }
    again = answering(run(*push))
    assert sorted((item["sent"], item["there"]) for item in again["datasets"]) == sorted((0, there) for there in many)
    rows, pairs = argilla.records("big-rows"), argilla.records("big-pairs")
    assert [len(rows), len(pairs)] == many
    asked = {row["record_id"]: row for row in read_table(big_run, RECORDS).iter_rows(named=True)}
    for key, record in (rows | pairs).items():
        assert bool(record["suggestions"]) != asked[key]["hidden"], "the judge's view is hidden where it was to be"
    seen = browse(argilla, rows) if chromium() else []
    free = [key for key in sorted(rows) if key not in seen]
    accepted = [key for key in free if asked[key]["target_id"] in set(before["sft"]["id"])]
    refused, fixed, split, kept = accepted[:8], accepted[8:12], accepted[12:15], accepted[15:40]
    below = [key for key in free if asked[key]["score"] is not None and not asked[key]["judge_accepts"]][:6]
    text = "Take your time, clamp the work and keep both hands behind the edge."
    anchor = pl.read_parquet(big_run.clauses)["anchor"][0]
    plan = dict.fromkeys(refused, ("reject", "reject")) | dict.fromkeys(fixed, ("fix", "fix"))
    plan |= dict.fromkeys(split, ("accept", "reject")) | dict.fromkeys(kept + below, ("accept", "accept"))
    with argilla.http("bob") as bob, argilla.http("cleo") as cleo:
        for key, words in plan.items():
            for http, word in zip((bob, cleo), words, strict=True):
                more = {"correction": text} if word == "fix" and key != fixed[0] else {}
                more |= {"correction": f"My guidelines [{anchor}] forbid it."} if key == fixed[0] else {}
                respond(http, rows[key]["id"], verdict=word, compliance=4 if word == "accept" else 2, **more)
        respond(bob, rows[accepted[40]]["id"], "discarded")
        respond(cleo, rows[accepted[41]]["id"], "draft", verdict="reject")
        pair_keys = sorted(pairs)
        confirmed, reversed_, tied = pair_keys[:6], pair_keys[6:10], pair_keys[10:12]
        for keys, side in ((confirmed, True), (reversed_, False)):
            for key in keys:
                letter = "a" if asked[key]["first_is_chosen"] == side else "b"
                respond(bob, pairs[key]["id"], better=letter, strength=2)
        for key in tied:
            respond(bob, pairs[key]["id"], better="tie")
    counted = answering(run("audit", "pull", big_run.root, "--json"))
    assert big_run.audit_verdicts.exists(), "a release now knows what people rejected"
    assert counted["statuses"] == {
        "discarded": 1,
        "draft": 1,
        "submitted": 2 * len(plan) + len(confirmed + reversed_ + tied) + len(seen),
    }
    assert counted["disputed"] == len(split)
    assert counted["sent_again"] == len(split)
    assert set(argilla.records("big-rows-round-2")) == set(split), "they go to another annotator"
    answers = read_table(big_run, RESPONSES)
    assert answers.filter(pl.col("annotator") == "cleo").height == len(plan) + 1
    run("select", big_run.root)
    assert check_run(big_run) == []
    after = together(big_run)
    target = {key: row["target_id"] for key, row in asked.items()}
    gone = {target[key] for key in refused + fixed + split}
    marked = {target[key] for key in kept + below + seen}
    for config, column in (
        ("sft", "id"),
        ("kto", "id"),
        ("reward", "id"),
        ("preference", "chosen_id"),
        ("preference", "rejected_id"),
    ):
        assert not gone & set(after[config][column]), (config, column)
    assert set(after["rejected"].filter(pl.col("reason") == "rejected_by_audit")["id"]) == gone
    audited = after["sft"].filter(pl.col("audit") == "confirmed")
    quota = set(after["rejected"].filter(pl.col("reason") == "over_quota")["id"])
    assert set(audited["id"]) == marked - quota
    corrected = after["sft"].filter(pl.col("audit") == "corrected")
    assert set(corrected["corrected_from"]) == {target[key] for key in fixed[1:]}
    assert {row[0]["content"] for row in corrected["completion"]} == {text}
    assert after["rejected"].filter(pl.col("corrected_from") == target[fixed[0]])["reason"].to_list() == ["leak"]
    untouched = set(before["sft"]["id"]) - gone - marked
    freed = {row["prompt_id"] for row in asked.values() if row["target_id"] in gone | marked}
    changed = before["sft"].join(after["sft"], on="id", how="anti").filter(pl.col("id").is_in(list(untouched)))
    assert set(changed["prompt_id"]) <= freed, "nobody else's rows change"
    marks = dict(after["preference"].select("id", "audit").iter_rows())
    assert not {target[key] for key in reversed_ + tied} & set(marks)
    assert {key for key, mark in marks.items() if mark} <= {target[key] for key in confirmed}
    numbers = answering(run("audit", "report", big_run.root, "--json"))
    assert numbers["finals"]["row/confirmed"] == len(marked)
    verdict = next(row for row in numbers["alpha"] if row["question"] == "verdict")
    assert verdict["alpha"] == pytest.approx(by_definition(list(plan.values())), abs=1e-9)
    assert next(row for row in numbers["kappa"] if row["question"] == "verdict")["equal"] == len(plan) - len(split)
    page = (big_run.audit / "report" / "README.md").read_text()
    assert "Krippendorff" in page
    assert (big_run.audit / "report" / "judge_against_people.png").stat().st_size > 5_000
    told = json.loads(big_run.manifest.read_text())["audit"]
    assert told["annotators"] == 2 + bool(seen)
    assert told["lines"]
    assert "bob" not in json.dumps(told)
    assert "cleo" not in json.dumps(told), "nobody is named in what is published"


def test_somebody_answered_in_the_browser(argilla):
    if not chromium():
        pytest.skip("no Chromium on this machine (as root with apt-get, .ci/chromium installs one)")
    with argilla.http() as owner:
        users = {user["username"]: user["id"] for user in owner.get("/users").json()["items"]}
    given = [
        response
        for record in argilla.records("big-rows").values()
        for response in record["responses"]
        if response["user_id"] == users["ann"]
    ]
    assert [response["status"] for response in given] == ["submitted"] * 2
    assert {response["values"]["verdict"]["value"] for response in given} == {"accept"}


def by_definition(pairs):
    """Krippendorff's alpha for two answers a record, straight from its definition: 1 - observed / expected."""
    given = [word for pair in pairs for word in pair]
    observed = sum(first != second for first, second in pairs) / len(pairs)
    n = len(given)
    expected = sum(given.count(a) * given.count(b) for a in set(given) for b in set(given) if a != b) / (n * (n - 1))
    return 1 - observed / expected


def browse(argilla, rows):
    """Ann signs in, answers one row by keyboard alone at 1280 px and one by touch at 390 px. Returns the rows' ids."""
    from playwright.sync_api import expect, sync_playwright

    answered = []
    with sync_playwright() as play:
        inside = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox", inside])
        for width, height in ((1280, 800), (390, 844)):
            page = browser.new_context(viewport={"width": width, "height": height}).new_page()
            page.set_default_timeout(60_000)
            page.goto(f"{argilla.url}/sign-in")
            page.fill("input[type=text]", "ann")
            page.fill("input[type=password]", argilla.accounts["ann"]["password"])
            page.keyboard.press("Enter")
            expect(page.get_by_text("big-rows", exact=True)).to_be_visible()
            shoot(page, f"datasets-{width}")
            page.goto(f"{argilla.url}/dataset/{argilla.datasets()['big-rows']}/annotation-mode")
            submit = page.get_by_role("button", name="Submit")
            expect(submit).to_be_attached()
            expect(page.get_by_text("Policy for this case")).to_be_attached()
            external = shown(page, argilla, rows)
            shoot(page, f"row-{width}")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"the page is {wide} px wide on a screen of {width}"
            # A shown judge's view is preselected; choosing it again would take it back.
            preset = any(suggestion["value"] == "accept" for suggestion in rows[external]["suggestions"])
            if width > 1_000:
                if not preset:
                    page.keyboard.press("1")
                expect(submit).to_be_enabled()
                page.keyboard.press("Enter")
            else:
                if not preset:
                    page.get_by_text("Accept: learn from it as it is").click()
                submit.scroll_into_view_if_needed()
                shoot(page, f"submit-{width}")
                submit.click()
            answered.append(wait_for_answer(argilla, rows, external))
        browser.close()
    return answered


def shoot(page, name):
    """A screenshot, where somebody asked for them."""
    if SHOTS:
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png")


def shown(page, argilla, rows):
    """Which record the page shows, by its texts: a small model gives one answer to many questions."""
    text = plain(page.locator("body").inner_text())

    def there(row):
        fields = row["fields"]
        return all(plain(part) in text for part in (fields["answer"], fields["reasoning"] or "", asked_in(fields)))

    found = [key for key, row in rows.items() if there(row)]
    assert len(found) == 1, found
    return found[0]


def asked_in(fields):
    """What the user wrote last."""
    return fields["conversation"][-1]["content"]


def plain(text):
    """Text as a page shows it: white space is one space."""
    return " ".join(text.split())


def wait_for_answer(argilla, rows, key):
    """The record's id, once ann's answer is on the server."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if any(response["status"] == "submitted" for response in argilla.records("big-rows")[key]["responses"]):
            return key
        time.sleep(0.3)
    raise AssertionError(f"no answer to {key} arrived")
