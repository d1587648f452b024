"""Prompt sources and the prompts table."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.builders.prompts import file_names, prompt_table, read_pool, tabled
from specdistill.builders.sources import balanced, read_source
from specdistill.errors import PromptError, RecipeError, SpecdistillError
from specdistill.schemas.recipe import PromptSource
from specdistill.schemas.recipe_file import parse_recipe

CATEGORIES = ["a", "b"]


def read(tmp_path, **source):
    return read_source(PromptSource(**source), CATEGORIES, tmp_path, [])


def test_the_three_kinds_of_file_give_the_same_rows(tmp_path):
    rows = [
        {"question": "how, then?", "topic": "a", "n": 1},
        {"question": json.dumps([{"role": "user", "content": "x"}]), "topic": "b", "n": 2},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    pl.DataFrame(rows).write_csv(tmp_path / "p.csv")
    pl.DataFrame(rows).write_parquet(tmp_path / "p.parquet")
    columns = {"prompt": "question", "category": "topic", "id": "n"}
    found = [read(tmp_path, path=f"p.{kind}", columns=columns) for kind in ("jsonl", "csv", "parquet")]
    for one in found:
        assert [row["prompt"] for row in one] == [
            [{"role": "user", "content": "how, then?"}],
            [{"role": "user", "content": "x"}],
        ]
        assert [row["source_id"] for row in one] == ["1", "2"]
    assert [row["source"] for row in found[0]] == ["p.jsonl:1", "p.jsonl:2"]


def test_every_faulty_row_is_named_with_its_line(tmp_path):
    rows = [
        {"prompt": "fine", "category": "a"},
        {"prompt": "", "category": "a"},
        {"prompt": "x", "category": "nope"},
        {"category": "a"},
        {"prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "category": "a"},
        {"prompt": [{"role": "robot", "content": "x"}], "category": "a"},
        {"prompt": "x", "category": "a", "outcome_hint": "maybe"},
        {"prompt": "x"},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(PromptError) as caught:
        read(tmp_path, path="p.jsonl")
    text = str(caught.value)
    assert "p.jsonl:1:" not in text
    for line, words in {
        2: "empty prompt",
        3: "unknown category 'nope' (the spec has: a, b)",
        4: "no column 'prompt'",
        5: "the last turn is not the user's",
        6: "role 'robot'",
        7: "unknown outcome_hint 'maybe'",
        8: "no category",
    }.items():
        assert f"p.jsonl:{line}: " in text
        assert words in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", b'{"prompt": "x", "category": "a"}\n{broken\n', r"p\.jsonl:2: This line is not JSON"),
        ("p.jsonl", b'{"prompt": "\xff"}', r"p\.jsonl: The file cannot be read"),
        ("p.jsonl", b"[1]\n", r"p\.jsonl:1: This line is not a JSON object"),
        ("p.csv", b"prompt,category\nx\n", r"p\.csv:2: This row has another number of fields"),
        ("p.parquet", b"not parquet", r"p\.parquet: The file cannot be read"),
        ("p.txt", b"hello", r"p\.txt: Unknown kind of file"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=message):
        read(tmp_path, path=name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PromptError, match=r"nowhere\.jsonl: No such file"):
        read(tmp_path, path="nowhere.jsonl")


def test_a_mapped_column_that_no_row_has_is_named_with_its_file(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"question": "x", "cluster": "1"}\n{"question": "y", "outcome": "comply"}\n')
    columns = {"prompt": "question", "group": "cluster", "outcome_hint": "outcome"}
    assert len(read(tmp_path, path="p.jsonl", category="a", columns=columns)) == 2, "one row that has it is enough"
    with pytest.raises(PromptError) as caught:
        read(tmp_path, path="p.jsonl", category="a", columns=columns | {"outcome_hint": "outcom"})
    assert re.search(r"p\.jsonl: .*\{outcome_hint: outcom\} \(columns: question, cluster, outcome\)", str(caught.value))
    (tmp_path / "p.jsonl").write_text("")
    assert read(tmp_path, path="p.jsonl", columns=columns) == [], "nothing is known of a file without rows"


def test_a_column_that_is_none_of_ours_is_refused_with_the_nearest():
    text = "name: x\nspec: safety\nprompts:\n  - path: p.jsonl\n    columns: {prompt: q, gruop: cluster}\n"
    with pytest.raises(RecipeError, match=r"line 5|:5: ") as caught:
        parse_recipe(text + "generator: {model: m}\njudge: {model: m}\n", path=Path("r.yaml"))
    assert "'gruop' is none of ours; the nearest is 'group'" in str(caught.value)


def two_sources(tmp_path, second):
    """A pool of two files with the same ids, groups and twins, the first `en/p.jsonl`; and its prompts table."""
    for path, word in (("en/p.jsonl", "kettle"), (second, "invoice")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        rows = [
            {"id": mine, "twin_id": other, "group": "1", "category": "a", "prompt": f"the {word} {text}"}
            for mine, other, text in (("1", "2", "broke by itself"), ("2", "1", "was thrown out of a window"))
        ]
        (tmp_path / path).write_text("\n".join(map(json.dumps, rows)))
    recipe = parse_recipe(
        RECIPE.format(paths=f"{{path: en/p.jsonl}}, {{path: ./{second}}}, {{path: en/../en/p.jsonl}}")
    )
    pool = read_pool(recipe, CATEGORIES, tmp_path, [])
    return pool, tabled(pool, pool.unique("prompt_id", keep="first", maintain_order=True))


RECIPE = "name: x\nspec: safety\nprompts: [{paths}]\ngenerator: {{model: m}}\njudge: {{model: m}}\n"


@pytest.mark.parametrize(
    ("second", "names"), [("shop/p.jsonl", ["en/p.jsonl", "shop/p.jsonl"]), ("shop/q.jsonl", ["p.jsonl", "q.jsonl"])]
)
def test_ids_of_two_files_of_one_name_are_their_own(tmp_path, second, names):
    pool, table = two_sources(tmp_path, second)
    assert pool["source"].str.replace(r":\d+$", "").unique(maintain_order=True).to_list() == names
    words = {row["prompt_id"]: row["prompt"][0]["content"].split()[1] for row in table.to_dicts()}
    assert all(words[row["twin_id"]] == words[row["prompt_id"]] for row in table.to_dicts())
    assert table["group_id"].n_unique() == 2


def test_a_file_named_like_one_of_the_library_is_told_apart(tmp_path):
    seed = tmp_path / "library" / "p.jsonl"
    sources = parse_recipe(RECIPE.format(paths="{library: seeds}, {path: p.jsonl}")).prompts
    assert list(file_names(sources, tmp_path, [seed]).values()) == ["library:p.jsonl", "p.jsonl"]
    assert list(file_names(sources[1:], tmp_path, [seed]).values()) == ["p.jsonl"]


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200), kind=st.sampled_from(["jsonl", "csv", "parquet"]))
def test_any_bytes_are_prompts_or_our_error(tmp_path_factory, content, kind):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / f"p.{kind}").write_bytes(content)
    try:
        read(folder, path=f"p.{kind}", category="a")
    except SpecdistillError as error:
        assert error.remedy


def row(text, category="a", twin=None, source_id=None):
    return {
        "prompt": [{"role": "user", "content": text}],
        "category": category,
        "outcome_hint": None,
        "twin_id": twin,
        "source": "s:1",
        "source_id": source_id,
    }


def test_duplicates_go_and_twins_share_a_group():
    table = prompt_table(
        [
            row("one", source_id="1", twin="2"),
            row("two", source_id="2", twin="1"),
            row(" one ", source_id="9"),
            row("three", source_id="3", twin="missing"),
            row("four", category="b", twin="3"),
        ]
    )
    assert table.height == 4
    by_text = {entry["prompt"][0]["content"]: entry for entry in table.to_dicts()}
    assert by_text["one"]["twin_id"] == by_text["two"]["prompt_id"]
    assert by_text["one"]["group_id"] == by_text["two"]["group_id"] != by_text["three"]["group_id"]
    assert by_text["three"]["twin_id"] is None
    assert by_text["three"]["group_id"] == by_text["four"]["group_id"]
    assert table["category"].to_list() == ["a", "a", "a", "b"]


def test_per_category_takes_outcomes_in_turn():
    rows = [row(str(n)) | {"outcome_hint": hint} for n, hint in enumerate(["comply"] * 5 + ["refuse"] * 5)]
    kept = balanced(rows, 4)
    assert [entry["outcome_hint"] for entry in kept] == ["comply", "comply", "refuse", "refuse"]
