"""The report: numbers counted by hand, Markdown that data cannot break, plots that are drawn from the numbers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from run_fixture import K, recipe, write_run

from specdistill.cards.numbers import categories, deficits, numbers, rounded
from specdistill.cards.plots import PLOTS, render_plots
from specdistill.cards.report import measure, write_report
from specdistill.cards.statistics import histogram, share_by_prompt, wilson
from specdistill.cards.text import code, duration, escape, render, shown, size
from specdistill.errors import RunError
from specdistill.schemas.invariants import read_sets
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.rows import CLAUSES
from specdistill.schemas.verify import read_manifest

DRAWN = [name for name in PLOTS if name != "calibration"]
"""Plots of a run without human labels."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    return write_run(tmp_path_factory.mktemp("run") / "r")


def parts(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "*.parquet")


def test_samples_of_one_prompt_are_not_independent() -> None:
    """Ten prompts, four samples each, all or none of a prompt's accepted: what is known is what ten prompts tell."""
    rows = pl.LazyFrame(
        [
            {"category": "c", "arm": "spec", "prompt_id": f"p{prompt}", "reason": None if prompt < 5 else "leak"}
            for prompt in range(10)
            for _ in range(4)
        ],
        schema=dict.fromkeys(("category", "arm", "prompt_id", "reason"), pl.String),
    )
    good = pl.col("reason").is_null()
    [row] = categories({"sft": rows.filter(good).drop("reason"), "rejected": rows.filter(~good)})
    assert [row[name] for name in ("prompts", "candidates", "accepted", "prompts_accepted")] == [10, 40, 20, 5]
    assert row["high"] - row["low"] > 1.5 * (wilson(20, 40)["high"] - wilson(20, 40)["low"])
    shares = {name: row[name] for name in ("share", "low", "high")}
    assert shares == pytest.approx(share_by_prompt(rows, good))
    assert share_by_prompt(rows.filter(pl.lit(False)), good) == {"share": None, "low": None, "high": None}


def test_numbers_are_those_of_the_raw_rows(run: RunLayout) -> None:
    found = measure(run, read_manifest(run.manifest))
    candidates, judgments = parts(run.candidates), parts(run.judgments)
    for row in found["categories"]:
        sampled = candidates.filter((pl.col("category") == row["category"]) & (pl.col("arm") == "spec"))
        assert row["candidates"] == sampled.height
        assert row["low"] < row["share"] < row["high"]
        assert row["share"] == pytest.approx(row["accepted"] / row["candidates"], abs=1e-6)
    accepted = sum(row["accepted"] for row in found["categories"])
    assert accepted + sum(row["rows"] for row in found["reasons"]) == candidates.height
    assert accepted == sum(row["accepted"] for row in found["outcomes"]) == sum(found["rows"]["sft"].values())
    status = dict(judgments["status"].value_counts().iter_rows())
    judge = found["judge"]
    assert [judge[name] for name in ("scored", "abstained", "failed")] == [
        status[name] for name in ("scored", "abstained", "failed")
    ]
    assert found["leaks"]["leaking"] == 0
    assert found["leaks"]["answers"] == accepted
    assert sum(found["scores"]["arms"]["spec"]["counts"]) == found["scores"]["arms"]["spec"]["candidates"]
    cited = {row["anchor"]: row["rows"] for row in found["clauses"]}
    assert cited["ST-1"] == accepted  # every fixture reasoning cites the style clause
    assert sum(found["totals"][name] for name in ("calls", "failed_calls")) == candidates.height + judgments.height


def test_judge_noise_by_hand(run: RunLayout) -> None:
    weights = recipe().judge.weights
    judgments = parts(run.judgments).filter(pl.col("status") == "scored")
    flips, pairs, disagree, repeated = 0, 0, 0.0, 0
    for _, rows in judgments.group_by("candidate_id"):
        samples = [
            sum(row[name] * weight for name, weight in weights.items()) / sum(weights.values()) >= 0.6
            for row in rows.iter_rows(named=True)
        ]
        if len(samples) < 2:
            continue
        repeated += 1
        flips += len(set(samples)) == 2
        couples = [(a, b) for at, a in enumerate(samples) for b in samples[at + 1 :]]
        disagree += sum(a != b for a, b in couples) / len(couples)
        pairs += 1
    found = measure(run, read_manifest(run.manifest))["judge"]
    assert (found["repeated"], found["flipped"]) == (repeated, flips)
    assert found["disagreement"] == pytest.approx(disagree / pairs, abs=1e-6)
    assert sum(row["flipped"] for row in found["by_category"]) == flips
    assert 0 < flips < repeated
    assert K >= 2


def test_the_same_data_gives_the_same_report(run: RunLayout, tmp_path: Path) -> None:
    first = write_report(run)
    before = {path.name: path.read_bytes() for path in run.report.iterdir()}
    (run.report / "old_plot.png").write_bytes(b"")
    assert write_report(run) == first
    assert {path.name: path.read_bytes() for path in run.report.iterdir()} == before
    assert {name for name in before if name.endswith(".png")} == {f"{name}.png" for name in DRAWN}
    assert json.loads(before["numbers.json"])["rows"]["sft"]["train"] > 0


def test_the_page_says_what_the_numbers_say(run: RunLayout) -> None:
    text = write_report(run).read_text()
    found = json.loads((run.report / "numbers.json").read_text())
    for row in found["categories"]:
        assert f"| {row['category']} | {row['prompts']} | {row['candidates']} | {row['accepted']} |" in text
    for row in found["reasons"]:
        assert f"| {escape(row['reason'])} | {row['rows']} | {row['spec']} | {row['contrast']} |" in text
    assert f"{found['judge']['samples']:,} times about {found['judge']['candidates']:,} candidates" in text
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert [token.attrGet("src") for block in tokens for token in block.children or [] if token.type == "image"] == [
        f"{name}.png" for name in DRAWN
    ]


def test_plots_are_readable_images(run: RunLayout) -> None:
    for name, data in render_plots(measure(run, read_manifest(run.manifest))).items():
        image = Image.open(io.BytesIO(data)).convert("L")
        assert image.width == 936, name
        assert 200 < image.height < 1200, name
        assert image.getextrema() == (0, 255), name


def test_a_run_without_any_rows_has_a_report_too(tmp_path: Path) -> None:
    layout = write_run(tmp_path / "r", prompts=3)
    for path in layout.datasets.glob("*/*.parquet"):
        pl.read_parquet(path).clear().write_parquet(path)
    text = write_report(layout).read_text()
    assert "No candidate was rejected." in text
    assert "There are no judge samples." in text
    assert list(layout.report.glob("*.png")) == []


def test_an_unfinished_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not complete"):
        write_report(RunLayout(tmp_path))


def test_deficits_name_the_main_reason(run: RunLayout) -> None:
    manifest = read_manifest(run.manifest)
    asked = manifest.model_copy(update={"recipe": manifest.recipe | {"quota": {"per_category": 34}}})
    sets = {config: pl.concat(splits.values()).lazy() for config, splits in read_sets(run.datasets).items()}
    short = {row["category"]: row for row in deficits(sets, asked)}
    full = {row["category"]: row["accepted"] for row in measure(run, manifest)["categories"]}
    assert {name for name, rows in full.items() if rows < 34} == set(short)
    assert short
    for name, row in short.items():
        assert row["accepted"] == full[name]
        assert row["main_reason"] in {"below_threshold", "over_quota"}


def test_no_sets_have_numbers_too(run: RunLayout) -> None:
    found = numbers({}, read_manifest(run.manifest), CLAUSES.empty())
    assert found["categories"] == []
    assert found["judge"] == {"samples": 0, "hint": {"shown": 0}}
    assert render_plots(found) == {}


@pytest.mark.parametrize(("hits", "total", "low", "high"), [(5, 10, 0.2366, 0.7634), (0, 20, 0.0, 0.1611)])
def test_wilson_interval_equals_published_values(hits: int, total: int, low: float, high: float) -> None:
    found = wilson(hits, total)
    assert (round(found["low"], 4), round(found["high"], 4)) == (low, high)


def test_histogram_edges() -> None:
    counts = histogram(pl.Series([0.0, 0.049, 0.05, 0.3, 0.6, 0.95, 1.0]))
    assert sum(counts) == 7
    assert (counts[0], counts[1], counts[6], counts[12], counts[19]) == (2, 1, 1, 1, 2)


def test_floats_are_rounded_everywhere() -> None:
    assert rounded({"a": [0.1 + 0.2, {"b": (1 / 3)}], "n": 7}) == {"a": [0.3, {"b": 0.333333}], "n": 7}


def test_formats() -> None:
    assert [duration(value) for value in (5.4, 65, 3725)] == ["5 s", "1 min 05 s", "1 h 02 min"]
    assert [size(value) for value in (12, 1_500, 2_400_000_000)] == ["12 B", "1.5 kB", "2.4 GB"]
    assert [shown(value) for value in (None, True, 1234567, 0.12345)] == ["–", "yes", "1,234,567", "0.123"]


HOSTILE = [
    "<script>alert(1)</script>",
    "a | b\n| c | d |",
    "[click](javascript:alert(1))",
    "![x](https://example.org/x.png)",
    "https://example.org and www.example.org",
    "# heading",
    "1. list",
    "- list",
    "`code`",
    "**bold** _it_ ~~gone~~",
    "right\u202eleft\u0000\u0007",
    "&lt;b&gt; &#60;b&#62;",
    "{{ 7 * 7 }} {% raw %}",
    "===",
    ":::",
]


def plain(markdown: str) -> str:
    """The text that a reader sees; fails when anything but plain text is left."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"], tokens
    children = tokens[1].children or []
    assert {token.type for token in children} <= {"text", "text_special"}, children
    return "".join(token.content for token in children)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    visible = " ".join(text.replace("\u202e", "").replace("\x00", "").replace("\x07", "").split())
    assert plain(escape(text)) == visible


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_any_text_stays_text(text: str) -> None:
    escaped = escape(text)
    assert "\n" not in escaped
    if escaped.strip():
        assert plain("x " + escaped)


@given(st.text(alphabet="`a|*<", max_size=12))
def test_code_cannot_be_left(text: str) -> None:
    rendered = MarkdownIt("commonmark").parse(f"x {code(text)} y")[1].children or []
    if text.strip():
        assert [token.type for token in rendered] == ["text", "code_inline", "text"]


def test_a_template_cannot_use_what_it_was_not_given() -> None:
    with pytest.raises(Exception, match="undefined"):
        render("report.md.j2")
