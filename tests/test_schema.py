"""Schemas as contracts: one definition in every form, old formats that keep loading, ones that must fail, and diffs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
from run_fixture import list_anew, write_run
from typer.testing import CliRunner

from specdistill.cards.tree import Ask, build_tree
from specdistill.cli import schema as cli
from specdistill.errors import SchemaError, SpecdistillError, UsageError
from specdistill.schemas.configs import TABLES
from specdistill.schemas.contract import card_schemas, schema_changes
from specdistill.schemas.features import features
from specdistill.schemas.invariants import read_sets
from specdistill.schemas.json_schema import json_schema, prose, type_schema
from specdistill.schemas.migrations import Step, migrate, parsed
from specdistill.schemas.rowfiles import read_rows
from specdistill.schemas.rows import CANDIDATES, CLAUSES, JUDGMENTS, PROMPTS
from specdistill.schemas.table import Column, Table

FORMATS = Path(__file__).parent / "golden" / "formats"
OLD = sorted(FORMATS.glob("*.jsonl"))
MUST_FAIL = json.loads((FORMATS / "must_fail.json").read_text(encoding="utf-8"))


def todays(config: str) -> Path:
    """The fixture of the current version."""
    return FORMATS / f"{config}-{TABLES[config].version}.jsonl"


def run(*arguments: str) -> tuple[int, str]:
    """The command, and what it says; our errors as the real program's exit codes."""
    result = CliRunner().invoke(cli.app, arguments)
    if isinstance(result.exception, SpecdistillError):
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_every_format_ever_written_still_loads(path: Path) -> None:
    config = path.stem.partition("-")[0]
    rows, _ = migrate(read_rows(path, TABLES[config]), config)
    assert rows.height == 2
    assert rows.schema == TABLES[config].schema
    assert rows["schema_version"].unique().to_list() == [TABLES[config].version]


def test_todays_version_of_every_config_is_among_the_fixtures() -> None:
    """Whoever changes a schema adds a fixture of the new form, and keeps the old one."""
    assert {f"{table.name}-{table.version}" for table in TABLES.values()} <= {path.stem for path in OLD}


@pytest.mark.parametrize("name", MUST_FAIL)
def test_what_must_fail_fails_and_says_why(name: str, tmp_path: Path) -> None:
    case = MUST_FAIL[name]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in case["rows"]))
    with pytest.raises(SchemaError) as caught:
        migrate(read_rows(path, TABLES[case["config"]]), case["config"])
    assert case["says"] in str(caught.value)


@pytest.mark.parametrize("config", TABLES)
def test_json_schema_says_what_the_table_says(config: str, tmp_path: Path) -> None:
    schema = json_schema(TABLES[config])
    jsonschema.Draft202012Validator.check_schema(schema)
    rows = [json.loads(line) for line in todays(config).read_text().splitlines()]
    for row in rows:
        jsonschema.validate(row, schema)
    assert set(schema["properties"]) == set(TABLES[config].names) == set(features(TABLES[config]))
    for column in TABLES[config].columns:
        without = {name: value for name, value in rows[0].items() if name != column.name}
        null = rows[0] | {column.name: None}
        for broken in (without, null):
            errors = list(jsonschema.Draft202012Validator(schema).iter_errors(broken))
            assert bool(errors) is not column.nullable, (column.name, broken)
        if column.values:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(rows[0] | {column.name: "nothing of this kind"}, schema)


@pytest.mark.parametrize("table", [*TABLES.values(), PROMPTS, CANDIDATES, JUDGMENTS, CLAUSES], ids=lambda t: t.name)
def test_prose_names_every_column_once(table: Table) -> None:
    text = prose(table)
    for column in table.columns:
        assert text.count(f"| `{column.name}` |") == 1
        assert column.doc in text


def test_types_without_counterpart_are_named() -> None:
    with pytest.raises(SchemaError, match="Date"):
        type_schema(pl.Date)


def rename(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.rename({"rating": "score"}).with_columns(pl.col("score") / 10)


HISTORY = {
    "kto": (
        Step("0.8.0", "0.9.0", "rating, 0 to 10, became score, 0 to 1", rename),
        Step("0.9.0", "1.0.0", "category is given", lambda frame: frame.with_columns(pl.lit("x").alias("category"))),
    )
}


def test_steps_are_taken_in_turn_from_any_version() -> None:
    first = read_rows(FORMATS / "kto-1.0.0.jsonl", TABLES["kto"])
    today, later = migrate(first, "kto")
    middle = first.drop("category").with_columns(pl.lit("0.9.0").alias("schema_version"))
    oldest = middle.with_columns(pl.col("score") * 10, pl.lit("0.8.0").alias("schema_version")).rename(
        {"score": "rating"}
    )
    for old, steps in ((oldest, 2), (middle, 1), (first, 0)):
        rows, done = migrate(old, "kto", HISTORY)
        assert len(done) == steps + len(later)
        assert rows["score"].to_list() == pytest.approx(today["score"].to_list())
        assert rows.drop("score", "category").equals(today.drop("score", "category"))


def test_new_columns_that_may_be_null_need_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLES["kto"]
    more = Column("language", pl.String, "Language of the prompt.", True)
    grown = Table("kto", "1.99.0", table.doc, (*table.columns, more), table.key)
    path = todays("kto")
    monkeypatch.setitem(TABLES, "kto", grown)
    rows, done = migrate(read_rows(path, grown), "kto")
    assert rows["language"].to_list() == [None, None]
    assert done == [f"{table.version} to 1.99.0: new columns, null (language)"]
    needed = Column("language", pl.String, "Language of the prompt.")
    monkeypatch.setitem(TABLES, "kto", Table("kto", "1.99.0", table.doc, (*table.columns, needed), table.key))
    with pytest.raises(SchemaError, match=r"cannot be brought to 1\.99\.0"):
        migrate(read_rows(path, table), "kto")


@pytest.mark.parametrize("version", ["1", "1.0", "a.b.c", "1.0.0.0", "", "-1.0.0"])
def test_a_version_is_three_numbers(version: str) -> None:
    with pytest.raises(SchemaError, match="no schema version"):
        parsed(version)


def card(infos: str) -> str:
    return f"---\ndataset_info:\n{infos}---\n# x\n"


SFT = """- config_name: sft
  features:
  - name: id
    dtype: string
  - name: prompt
    list:
    - name: role
      dtype: string
  - name: score
    dtype: float64
"""


def test_diffs_tell_breaking_changes_from_others() -> None:
    old = card_schemas(card(SFT + "- config_name: kto\n  features:\n  - name: id\n    dtype: string\n"))
    assert old["sft"] == {"id": "string", "prompt": "list<struct<role: string>>", "score": "float64"}
    changed = SFT.replace("float64", "int32").replace("  - name: id\n    dtype: string\n", "")
    new = card_schemas(card(changed + "  - name: extra\n    dtype: bool\n- config_name: reward\n  features: []\n"))
    assert [str(change) for change in schema_changes(old, new)] == [
        "breaking: sft.id is gone; it was string",
        "breaking: sft.score is int32; it was float64",
        "breaking: kto is gone",
        "sft.extra is new: bool",
        "reward is new",
    ]
    assert schema_changes(old, old) == []


@pytest.mark.parametrize("text", ["", "# no matter", "---\n: : :\n---\n", "---\n- a\n---\n", "---\nnever closed"])
def test_cards_without_columns_have_none(text: str) -> None:
    assert card_schemas(text) == {}


def test_the_commands(tmp_path: Path) -> None:
    shown = run("list")[1]
    assert all(name in shown and table.version in shown for name, table in TABLES.items())
    assert json.loads(run("list", "--json")[1])["published configs"]["sft"] == TABLES["sft"].version
    assert "`reasoning_content`" in run("show", "sft")[1]
    assert json.loads(run("show", "kto", "--as", "json-schema")[1])["title"] == "kto"
    assert "_type" in run("show", "kto", "--as", "features")[1]
    assert run("show", "stf") == (2, str(UsageError(*unknown("stf", "sft"))))
    assert run("show", "sft", "--as", "xml")[0] == 2

    layout = write_run(tmp_path / "run", prompts=12)
    assert run("validate", str(layout.root))[0] == 0
    code, text = run("validate", str(todays("sft")), "--config", "kto")
    assert (code, "column 'label' is missing" in text) == (1, True)
    assert run("validate", str(tmp_path))[0] == 2

    for version, configs in (("1.0.0", set(TABLES)), ("1.1.0", set(TABLES) - {"kto"})):
        for path in layout.datasets.glob("*/*.parquet"):
            if path.parent.name not in configs:
                path.unlink()
        list_anew(layout)
        build_tree(layout, tmp_path / version, Ask(version, "MIT"))
    code, text = run("diff", str(tmp_path / "1.0.0"), str(tmp_path / "1.1.0" / "README.md"))
    assert (code, text) == (0, "breaking: kto is gone\n1 changes; the next version is a major one\n")
    assert (
        json.loads(run("diff", str(tmp_path / "1.0.0"), str(tmp_path / "1.0.0"), "--json")[1])["version_step"]
        == "patch"
    )
    assert run("diff", str(tmp_path / "1.0.0"), "nonsense")[0] == 2


def unknown(config: str, near: str) -> tuple[str, str]:
    return f"There is no config '{config}'.", f"Did you mean '{near}'? Known: {', '.join(TABLES)}."


def test_migrate_writes_files_and_folders(tmp_path: Path) -> None:
    old = tmp_path / "kto"
    old.mkdir()
    rows = read_rows(todays("kto"), TABLES["kto"])
    rows.write_parquet(old / "train.parquet")
    assert run("migrate", str(tmp_path), str(tmp_path / "new"))[0] == 0
    assert pl.read_parquet(tmp_path / "new" / "kto" / "train.parquet").equals(rows)
    single = run("migrate", str(todays("sft")), str(tmp_path / "one.parquet"), "--config", "sft")
    assert single[0] == 0
    assert "is of today" in single[1]
    assert pl.read_parquet(tmp_path / "one.parquet").height == 2
    assert run("migrate", str(tmp_path), str(tmp_path / "new"))[0] == 2
    for name in ("one.jsonl", "one-1.5"):  # would have become one.parquet, which is there
        assert run("migrate", str(todays("sft")), str(tmp_path / name), "--config", "sft")[0] == 2
    assert pl.read_parquet(tmp_path / "one.parquet").height == 2


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("rows.jsonl", '{"id": "a"}\n{"id": \n', ":2: This line is no JSON"),
        ("rows.jsonl", "[1]\n", ":1: This line is no JSON object"),
        ("rows.parquet", "PAR1", "cannot be read"),
        ("rows.csv", "a,b", "Rows come as"),
    ],
)
def test_broken_files_are_named_with_their_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SchemaError) as caught:
        read_rows(tmp_path / name, TABLES["sft"])
    assert says in str(caught.value)
    with pytest.raises(SchemaError, match="no such file"):
        read_rows(tmp_path / "nothing.jsonl", TABLES["sft"])


def test_validation_and_publishing_agree(tmp_path: Path) -> None:
    sets = read_sets(write_run(tmp_path / "r", prompts=12).datasets)
    for config, splits in sets.items():
        for frame in splits.values():
            assert TABLES[config].problems(frame) == []


def first_row(config: str = "sft") -> dict[str, Any]:
    """A valid row of today's."""
    return json.loads(todays(config).read_text(encoding="utf-8").splitlines()[0])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": "banana"}, f"column 'schema_version' is not {TABLES['sft'].version} in rows [1]"),
        ({"schema_version": "1.0.0"}, "schema migrate"),
        ({"prompt": [{"content": "hi"}]}, "column 'prompt' has a null"),
        ({"prompt": [{"role": "user", "content": "hi"}, None]}, "column 'prompt' has a null"),
        ({"completion": [{"role": "assistant"}]}, "column 'completion' has a null"),
        ({"clauses": [None]}, "column 'clauses' has a null"),
    ],
)
def test_validation_refuses_what_the_json_schema_refuses(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    rows = [first_row(), first_row() | {"id": "other"} | changes]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, text = run("validate", str(tmp_path / "rows.jsonl"), "--config", "sft")
    assert code == 1, text
    assert says in text
    assert "in rows [1]" in text  # and none of the row that is valid


def test_a_turn_without_a_thought_and_an_empty_list_are_valid() -> None:
    turn = {"role": "assistant", "content": "Yes.", "reasoning_content": None}
    row = {name: first_row().get(name) for name in TABLES["sft"].names} | {"completion": [turn], "clauses": []}
    assert TABLES["sft"].problems(TABLES["sft"].frame([row, row | {"id": "b", "clause_digests": None}])) == []
    assert TABLES["sft"].problems(TABLES["sft"].empty()) == []
