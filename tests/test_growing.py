"""Growing a prompt set: every pair of axis values, a twin for every harmful prompt, no doubles, lineage on each row."""

import json
import subprocess
import sys
from hashlib import blake2b

import polars as pl
import pytest
from fake_openai_server import FakeOpenAI
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from specdistill.builders.growing.asking import GrowParse, fields_of, grow_messages, grow_schema, read_written
from specdistill.builders.growing.axes import DEFAULT, axes_with, covered, covering_rows, laid_out, pairs_of
from specdistill.builders.growing.dressing import WRAPPERS, dressed
from specdistill.builders.runner import Stopped
from specdistill.cli.app import app
from specdistill.errors import UsageError
from specdistill.schemas.vocabulary import FinishReason, Outcome
from specdistill.specs.loader import load_spec

SPEC = load_spec("safety")
HARMFUL = next(clause for clause in SPEC.category("violence").clauses if clause.outcome is Outcome.REFUSE)
FINE = next(clause for clause in SPEC.category("violence").clauses if clause.outcome is Outcome.COMPLY)
PLAIN = {"tone": "curt", "turns": "one", "wrapper": "none", "encoding": "none"}


def test_every_pair_of_axis_values_is_in_some_row():
    rows = covering_rows(DEFAULT)
    done, there = covered(rows, DEFAULT)
    assert done == there
    everything = 1
    for values in DEFAULT.values():
        everything *= len(values)
    assert len(rows) < 60 < everything


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcde"), st.lists(st.sampled_from("123456"), min_size=1, max_size=4, unique=True), min_size=1
    )
)
def test_any_axes_are_covered(axes):
    rows = covering_rows(axes)
    assert covered(rows, axes)[0] == covered(rows, axes)[1]
    assert {value for row in rows for value in row.items()} == {(name, v) for name, vs in axes.items() for v in vs}


def test_rows_do_not_depend_on_the_hash_seed():
    program = "from specdistill.builders.growing.axes import *; print(covering_rows(DEFAULT))"
    said = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(said) == 1


@pytest.mark.parametrize(("clauses", "per_clause"), [(7, 1), (25, 2), (96, 1), (5, 20)])
def test_every_clause_and_every_row_is_used(clauses, per_clause):
    rows = covering_rows(DEFAULT)
    plan = laid_out([str(n) for n in range(clauses)], rows, per_clause)
    asked = [anchor for anchor, _ in plan]
    assert min(asked.count(str(n)) for n in range(clauses)) >= per_clause
    assert pairs_of(row for _, row in plan) == pairs_of(rows)
    most = max(plan.count(one) for one in plan)
    assert most <= -(-len(plan) // (clauses * len(rows))), "no clause is asked twice with a row before all others were"


def test_axes_are_changed_by_name():
    axes = axes_with(["tone=polite, curt", "encoding=", "place=a city,a village"])
    assert axes["tone"] == ("polite", "curt")
    assert "encoding" not in axes
    assert axes["place"] == ("a city", "a village")
    with pytest.raises(UsageError, match="has no value 'morse'"):
        axes_with(["encoding=morse"])
    with pytest.raises(UsageError, match="is no axis"):
        axes_with(["tone"])


def test_the_dressing_is_exact():
    assert dressed("How?", {"encoding": "base64"}).endswith("SG93Pw==")
    assert dressed("How?", {"encoding": "rot13"}).endswith("Ubj?")
    assert dressed("How?", PLAIN) == "How?"
    for wrapper in WRAPPERS:
        assert "How?" in dressed("How?", {"wrapper": wrapper})


def test_what_is_asked_for():
    asked = grow_messages(SPEC, HARMFUL, PLAIN)
    assert HARMFUL.text in asked[1]["content"]
    assert "- tone: curt" in asked[1]["content"]
    assert "wrapper" not in asked[1]["content"]
    assert fields_of(HARMFUL, PLAIN) == ["prompt", "twin"]
    assert fields_of(FINE, PLAIN | {"turns": "three"}) == ["first", "answer", "prompt"]
    assert grow_schema(FINE, PLAIN)["required"] == ["prompt"]


@pytest.mark.parametrize(
    ("text", "finish", "parse"),
    [
        ('{"prompt": "a b", "twin": "c"}', "stop", GrowParse.OK),
        ('<think>{"x": 1}</think>```json\n{"prompt": "a b", "twin": "c"}\n```', "stop", GrowParse.OK),
        ('{"prompt": "a b"}', "stop", GrowParse.WRONG_SHAPE),
        ('{"prompt": "???", "twin": "c"}', "stop", GrowParse.WRONG_SHAPE),
        ('{"prompt": "a b", "twin": 3}', "stop", GrowParse.WRONG_SHAPE),
        (f'{{"prompt": "as [{HARMFUL.anchor}] says", "twin": "c"}}', "stop", GrowParse.LEAK),
        ('{"prompt": "a b", "twin": "c"}', "length", GrowParse.TRUNCATED),
        ("no", "stop", GrowParse.NOT_JSON),
    ],
)
def test_reading_a_reply(text, finish, parse):
    assert read_written(text, FinishReason(finish), HARMFUL, PLAIN, SPEC.anchors).parse is parse


class WritingFakeOpenAI(FakeOpenAI):
    """Writes prompts of words made from the request; every tenth request is answered with the same prompt."""

    def _answer(self, body, *, fault=""):
        asked = body["messages"][-1]["content"]
        mark = blake2b(asked.encode(), digest_size=30).hexdigest()
        same = int(mark[:4], 16) % 10 == 0
        fields = body["response_format"]["json_schema"]["schema"]["required"]
        reply = {
            name: "Always the very same question to everybody here"
            if same and name == "prompt"
            else f"{name} " + " ".join(mark[at : at + 6] + "x" for at in range(0, 60, 6))
            for name in fields
        }
        message = {"role": "assistant", "content": json.dumps(reply)}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


@pytest.mark.integration
def test_a_grown_set_is_a_prompt_source_with_twins_and_lineage(tmp_path):
    from specdistill.builders.pool import make_prompts
    from specdistill.schemas.recipe_file import load_recipe
    from specdistill.specs.loader import seed_files

    (tmp_path / "p.jsonl").write_text(
        '{"prompt": "Always the very same question to everybody here!", "category": "violence"}\n'
    )
    with WritingFakeOpenAI() as server:
        text = f"""
name: grown
spec: safety
prompts: [{{path: p.jsonl}}]
clean: {{meaning: null}}
generator: {{engine: openai, base_url: "{server.url}", model: fake, reasoning: guided, max_tokens: 300}}
judge: {{model: fake}}
"""
        (tmp_path / "recipe.yaml").write_text(text)
        line = ["prompts", "grow", str(tmp_path / "recipe.yaml"), "--to", str(tmp_path / "new.jsonl"), "--json"]
        line += ["--category", "violence", "--per-clause", "3"]
        done = CliRunner().invoke(app, line)
        assert done.exit_code == 0, done.output
        calls = server.calls
        first = (tmp_path / "new.jsonl").read_bytes()
        assert CliRunner().invoke(app, line).exit_code == 0
        assert server.calls == calls, "a rerun is answered from the ledger"
        assert (tmp_path / "new.jsonl").read_bytes() == first
    said = json.loads(done.stdout[done.stdout.index("{") :])
    assert said["asked"] == calls
    assert said["pairs_covered"] > 0.9 * said["pairs"]
    assert said["removed"]["duplicate"] > 0
    rows = [json.loads(line) for line in first.decode().splitlines()]
    assert not any("Always the very same" in turn["content"] for row in rows for turn in row["prompt"])
    ids = {row["id"] for row in rows}
    for row in rows:
        lineage = json.loads(row["lineage"])
        assert lineage["clause"] in SPEC.anchors
        assert set(lineage["axes"]) == set(DEFAULT)
        assert row["twin_id"] is None or row["twin_id"] in ids
        if row["outcome_hint"] == "refuse":
            assert row["twin_id"] is not None, "a harmful prompt has its benign twin"
    (tmp_path / "recipe.yaml").write_text(text.replace("p.jsonl", "new.jsonl"))
    recipe = load_recipe(tmp_path / "recipe.yaml")
    made = make_prompts(recipe, [c.id for c in SPEC.categories], tmp_path, seed_files(SPEC)).table
    assert made.height > 0.9 * len(rows)
    assert made["lineage"].null_count() == 0
    twins = made.drop_nulls("twin_id")
    assert (
        twins.join(made, left_on="twin_id", right_on="prompt_id")
        .filter(pl.col("group_id") != pl.col("group_id_right"))
        .is_empty()
    )


RECIPE = """
name: grown
spec: safety
prompts: [{path: p.jsonl}]
decontaminate: [{path: exam.jsonl}]
generator: {model: embedded}
judge: {model: embedded}
"""


@pytest.mark.parametrize("name", ["p.jsonl", "folder/../p.jsonl", "link.jsonl", "exam.jsonl", "recipe.yaml"])
def test_what_the_recipe_reads_is_not_written_over(tmp_path, name):
    (tmp_path / "folder").mkdir()
    for file, text in (("p.jsonl", "rows"), ("exam.jsonl", "rows"), ("recipe.yaml", RECIPE)):
        (tmp_path / file).write_text(text)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "p.jsonl")
    line = ["prompts", "grow", str(tmp_path / "recipe.yaml"), "--to", str(tmp_path / name)]
    done = CliRunner().invoke(app, line)
    assert isinstance(done.exception, UsageError)
    assert "is read by the recipe" in done.exception.cause
    assert (tmp_path / "p.jsonl").read_text() == "rows"
    assert not list(tmp_path.glob("*.sqlite"))


def test_a_stop_is_no_crash(tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise Stopped

    monkeypatch.setattr("specdistill.builders.growing.grow.grow", stop)
    (tmp_path / "p.jsonl").write_text('{"prompt": "Where is it?", "category": "violence"}\n')
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("decontaminate: [{path: exam.jsonl}]\n", ""))
    line = ["prompts", "grow", str(tmp_path / "recipe.yaml"), "--to", str(tmp_path / "new.jsonl")]
    done = CliRunner().invoke(app, line)
    assert (done.exit_code, "The same command goes on where it stopped" in done.stderr) == (130, True), done.output
    assert not (tmp_path / "new.jsonl").exists()
