"""`specdistill spec …` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from specdistill.cli.spec import app
from specdistill.errors import SpecError
from specdistill.specs.loader import libraries, load_spec
from specdistill.specs.render import render

runner = CliRunner()


@pytest.fixture(autouse=True)
def _no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No converted model in the cache, so that counts are the estimate everywhere."""
    monkeypatch.setenv("SPECDISTILL_CACHE", str(tmp_path / "cache"))


def test_list_names_the_packaged_libraries() -> None:
    result = runner.invoke(app, ["list"])
    assert result.exit_code == 0
    assert "safety  Safety policy" in result.stdout
    rows = json.loads(runner.invoke(app, ["list", "--json"]).stdout)
    assert [row["name"] for row in rows] == libraries()
    assert rows[0]["digest"] == load_spec(rows[0]["name"]).digest


def test_show_prints_exactly_what_the_model_sees_and_says_how_it_counted() -> None:
    result = runner.invoke(app, ["show", "self-harm", "violence"])
    expected = render(load_spec("safety"), ["self-harm", "violence"])
    assert result.stdout == expected.text
    assert "tokens by an estimate of 4 bytes a token" in result.stderr
    shown = json.loads(runner.invoke(app, ["show", "refunds", "--spec", "support", "--json"]).stdout)
    assert shown["text"] == render(load_spec("support"), "refunds").text
    assert shown["tokens"] == -(-len(shown["text"].encode()) // 4)


def test_show_without_a_category_lists_them() -> None:
    result = runner.invoke(app, ["show", "--spec", "support"])
    assert [line.split()[0] for line in result.stdout.splitlines()] == [c.id for c in load_spec("support").categories]
    listed = json.loads(runner.invoke(app, ["show", "--spec", "support", "--json"]).stdout)
    assert listed["categories"][0]["clauses"] == [c.anchor for c in load_spec("support").categories[0].clauses]


def test_show_over_budget_and_of_unknown_things_fails_with_a_remedy() -> None:
    over = runner.invoke(app, ["show", "violence", "--budget", "100"])
    assert over.exit_code == 1
    assert isinstance(over.exception, SpecError)
    assert "over the budget of 100" in over.exception.cause
    unknown = runner.invoke(app, ["show", "violins"])
    assert isinstance(unknown.exception, SpecError)
    assert "Did you mean 'violence'?" in unknown.exception.remedy
    tokenizer = runner.invoke(app, ["show", "violence", "--tokenizer", str(Path(__file__))])
    assert isinstance(tokenizer.exception, SpecError)
    assert "cannot be loaded" in tokenizer.exception.cause


def test_lint_exits_1_on_errors_and_on_warnings_only_when_strict(tmp_path: Path) -> None:
    assert runner.invoke(app, ["lint", "safety"]).exit_code == 0
    path = tmp_path / "p.md"
    path.write_text("---\nid: p\ntitle: P\n---\n## Refuse\n### No {#R1}\nNever.\n")
    warned = runner.invoke(app, ["lint", str(path)])
    assert (warned.exit_code, "0 errors" in warned.stderr) == (0, True)
    assert runner.invoke(app, ["lint", str(path), "--strict"]).exit_code == 1
    path.write_text(path.read_text() + "\nAs in [R9].\n")
    failed = runner.invoke(app, ["lint", str(path), "--json"])
    assert failed.exit_code == 1
    (error,) = [finding for finding in json.loads(failed.stdout) if finding["severity"] == "error"]
    assert (error["file"], error["line"], error["code"]) == (str(path), 9, "dangling-reference")
