"""Which clauses rows cite, which they cannot, the heat map, and asking for prompts that would fill the gaps."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from fake_openai_server import FakeOpenAI, Rule
from PIL import Image
from run_fixture import recipe, write_run
from typer.testing import CliRunner

from specdistill.cli.spec import app
from specdistill.errors import EngineError, RunError, SchemaError
from specdistill.schemas.rows import CLAUSES
from specdistill.specs.clauses import clause_frame
from specdistill.specs.coverage import coverage, stray_citations, uncovered
from specdistill.specs.heatmap import coverage_figure, save_heatmap
from specdistill.specs.loader import load_spec
from specdistill.specs.render import render
from specdistill.specs.suggest import SuggestionParse, parse_suggestions, suggest_messages

CLAUSE_ROWS = CLAUSES.frame(
    [
        {"anchor": anchor, "category": category, "outcome": outcome, "title": anchor, "text": "…", "digest": anchor}
        for anchor, category, outcome in [
            ("ST-1", None, "unspecified"),
            ("A-C1", "a", "comply"),
            ("A-R1", "a", "refuse"),
            ("B-C1", "b", "comply"),
            ("C-C1", "c", "comply"),
        ]
    ]
)


def accepted(rows: list[tuple[str, str | None, list[str] | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        schema={"category": pl.String, "outcome_hint": pl.String, "clauses": pl.List(pl.String)},
        orient="row",
    )


def test_rows_are_counted_once_a_clause_and_by_expected_outcome() -> None:
    covered = coverage(
        CLAUSE_ROWS,
        accepted(
            [
                ("a", "comply", ["A-C1", "A-C1", "ST-1"]),
                ("a", "refuse", ["A-R1", "A-C1"]),
                ("a", None, ["A-C1"]),
                ("a", "safe_complete", []),
                ("b", "comply", ["A-C1", "B-C1", "ZZ-9"]),
                ("b", "comply", None),
            ]
        ),
    )
    rows = {row["anchor"]: row for row in covered.to_dicts()}
    assert list(rows) == CLAUSE_ROWS["anchor"].to_list()
    first = rows["A-C1"]
    assert {name: first[name] for name in ("rows", "comply", "refuse", "safe_complete", "unspecified")} == {
        "rows": 4,
        "comply": 2,
        "refuse": 1,
        "safe_complete": 0,
        "unspecified": 1,
    }
    assert (first["category_rows"], first["share"]) == (4, 0.75)
    assert (rows["ST-1"]["rows"], rows["ST-1"]["category_rows"], rows["ST-1"]["share"]) == (1, None, None)
    assert (rows["C-C1"]["rows"], rows["C-C1"]["category_rows"], rows["C-C1"]["share"]) == (0, 0, None)
    assert uncovered(covered)["anchor"].to_list() == ["C-C1"]


def test_no_rows_means_every_clause_of_a_category_is_uncovered() -> None:
    covered = coverage(CLAUSE_ROWS, accepted([]))
    assert covered["rows"].to_list() == [0, 0, 0, 0, 0]
    assert uncovered(covered)["anchor"].to_list() == ["A-C1", "A-R1", "B-C1", "C-C1"]
    with pytest.raises(SchemaError, match="have no column clauses"):
        coverage(CLAUSE_ROWS, accepted([]).drop("clauses"))


def test_citations_of_what_does_not_exist_or_was_not_shown() -> None:
    candidates = pl.DataFrame(
        [
            ("a", "spec", "By [A-C1] and [A-R1] I help."),
            ("a", "spec", "By [B-C1], not [A-R9], and again [A-R9]."),
            ("b", "spec", "By [A-R9] here."),
            ("b", "spec", None),
            ("a", "contrast", "By [A-R8]."),
        ],
        schema=["category", "arm", "reasoning"],
        orient="row",
    )
    strays = stray_citations(candidates, CLAUSE_ROWS["anchor"].to_list(), {"a": ["A-C1", "A-R1"], "b": ["B-C1"]})
    assert strays.sort("category", "anchor").rows() == [
        ("A-R9", "invented", "a", 1),
        ("B-C1", "not_shown", "a", 1),
        ("A-R9", "invented", "b", 1),
    ]


def test_the_heat_map_has_a_panel_a_category_and_marks_what_nobody_cites(tmp_path: Path) -> None:
    covered = coverage(CLAUSE_ROWS, accepted([("a", "comply", ["A-C1"]), ("a", "refuse", ["A-C1"])]))
    figure = coverage_figure(covered)
    panels = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    assert list(panels) == ["style", "a", "b", "c"]
    colours = {label.get_text(): label.get_color() for label in panels["a"].get_yticklabels()}
    assert colours == {"A-C1": "black", "A-R1": "firebrick"}
    assert panels["a"].images[0].get_array().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    with Image.open(save_heatmap(covered, tmp_path / "deep" / "map.png")) as image:
        assert image.width > 800
        assert len(image.convert("RGB").getcolors(10**6) or []) > 10
    assert coverage_figure(coverage(CLAUSE_ROWS, accepted([]))).axes


def test_a_request_shows_the_clause_and_asks_for_prompts_only() -> None:
    spec = load_spec("safety")
    (request,) = suggest_messages(spec, ["ST-1", "SH-R1", "SH-R1", "nothing"], n=3)
    assert (request.anchor, request.category, request.outcome_hint) == ("SH-R1", "self-harm", "refuse")
    system, user = request.messages
    assert system == {"role": "system", "content": render(spec, "self-harm").text}
    assert spec.by_anchor["SH-R1"].text in user["content"]
    assert "Write 3 different messages" in user["content"]
    assert request.schema["properties"]["prompts"]["maxItems"] == 3
    assert [r.anchor for r in suggest_messages(spec, spec.anchors)] == [c.anchor for c in spec.clauses if c.category]


@pytest.mark.parametrize(
    ("reply", "parse", "prompts"),
    [
        ('{"prompts": ["one", " two ", "ONE", "known  one"]}', SuggestionParse.OK, ["one", "two"]),
        ('Sure:\n```json\n{"prompts": ["a {b} [c]"]}\n```\nDone.', SuggestionParse.OK, ["a {b} [c]"]),
        ('["bare", "list"] and more', SuggestionParse.OK, ["bare", "list"]),
        ('{"prompts": ["as in [SH-R1]", "under SH-S9", "", "{ 1"]}', SuggestionParse.EMPTY, []),
        ('{"prompts": []}', SuggestionParse.EMPTY, []),
        ("  ", SuggestionParse.EMPTY, []),
        ("I cannot do that.", SuggestionParse.NOT_JSON, []),
        ('{"prompts": "one"}', SuggestionParse.WRONG_SHAPE, []),
        ('{"prompts": [1, 2]}', SuggestionParse.WRONG_SHAPE, []),
        ('{"questions": ["one"]}', SuggestionParse.WRONG_SHAPE, []),
        ('{"prompts": ["cut', SuggestionParse.NOT_JSON, []),
    ],
)
def test_reading_a_reply(reply: str, parse: SuggestionParse, prompts: list[str]) -> None:
    (request,) = suggest_messages(load_spec("safety"), ["SH-R1"])
    found = parse_suggestions(reply, request, seen=["Known one"])
    assert (found.parse, [row["prompt"] for row in found.rows]) == (parse, prompts)
    for row in found.rows:
        assert (row["category"], row["outcome_hint"], row["suggested_for"]) == ("self-harm", "refuse", "SH-R1")


def test_the_command_on_a_run(tmp_path: Path) -> None:
    layout = write_run(tmp_path / "run")
    run = layout.root
    runner = CliRunner(env={"COLUMNS": "160"})
    shown = runner.invoke(app, ["coverage", str(run), "--plot", str(tmp_path / "map.png")])
    assert shown.exit_code == 0, shown.exception
    assert (tmp_path / "map.png").stat().st_size > 1000
    data = json.loads(runner.invoke(app, ["coverage", str(run), "--json"]).stdout)
    sft = pl.concat([pl.read_parquet(file) for file in (layout.datasets / "sft").glob("*.parquet")])
    assert data["accepted"] == sft.height
    assert data["clauses"] == coverage(clause_frame(load_spec(layout.spec)), sft).to_dicts()
    assert {"invented"} == {row["problem"] for row in data["stray"]}
    assert runner.invoke(app, ["coverage", str(run), "--suggest", "2"]).exception.exit_code == 2  # type: ignore[union-attr]
    failed = runner.invoke(app, ["coverage", str(tmp_path)])
    assert isinstance(failed.exception, RunError)


def run_with_generator(folder: Path, url: str) -> Path:
    """A run whose generator is the server at `url`, with a clause that no row applies."""
    generator = {"engine": "openai", "model": "example/reasoner", "base_url": url, "reasoning": "guided", "retries": 0}
    layout = write_run(folder, recipe=recipe(generator=generator))
    extra = layout.spec / "categories" / "paint.md"
    extra.write_text(extra.read_text() + "\n## Refuse\n\n### Eating paint {#PA-R7}\n\nNever eat paint.\n")
    return layout.root


def test_suggestions_come_from_the_generator_and_load_as_prompts(tmp_path: Path) -> None:
    """The fake server fills the JSON schema it is sent; what a real model writes is for a person to judge."""
    to = tmp_path / "suggested.jsonl"
    with FakeOpenAI() as server:
        run = run_with_generator(tmp_path / "run", server.url)
        result = CliRunner().invoke(app, ["coverage", str(run), "--suggest", "3", "--to", str(to), "--json"])
        assert result.exit_code == 0, result.exception
        data = json.loads(result.stdout)
        asked = [body["messages"][-1]["content"] for body in server.bodies]
    assert "PA-R7" in data["uncovered"]
    assert len(asked) == len(data["uncovered"]) == data["suggested"]["asked"]
    assert any("Never eat paint." in text for text in asked)
    rows = [json.loads(line) for line in to.read_text().splitlines()]
    assert len(rows) == data["suggested"]["prompts"] >= 1
    assert {row["suggested_for"] for row in rows} <= set(data["uncovered"])
    assert {tuple(row) for row in rows} == {("prompt", "category", "outcome_hint", "suggested_for")}


def test_a_generator_that_gives_nothing_usable_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    to = tmp_path / "suggested.jsonl"
    with FakeOpenAI(Rule("http_400")) as server:
        run = run_with_generator(tmp_path / "run", server.url)
        result = CliRunner().invoke(app, ["coverage", str(run), "--suggest", "3", "--to", str(to)])
    assert isinstance(result.exception, EngineError)
    assert "had a usable prompt: call_failed (" in result.exception.cause
    assert not to.exists()
