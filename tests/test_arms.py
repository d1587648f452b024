"""Builds with every arm, several judges and pairwise verdicts, against a fake model on a real HTTP server."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import polars as pl
import pytest
from fake_rewriter import LEAK, FakeRewriter

from specdistill.builders.build import build
from specdistill.builders.reselect import reselect
from specdistill.builders.run import open_run
from specdistill.builders.status import run_status
from specdistill.builders.stored import Stored
from specdistill.cards.report import write_report
from specdistill.errors import SelectionError
from specdistill.schemas.invariants import check_run
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe_file import parse_recipe
from specdistill.schemas.verify import read_manifest

pytestmark = pytest.mark.integration

RECIPE = """
name: arms
spec: support
prompts: [{{library: seeds, per_category: 3}}]
generator: {{engine: openai, base_url: "{url}", model: fake, samples: 3, reasoning: guided, concurrency: 8}}
contrast: {{samples: 1}}
repair: {{samples: 1}}
constitution: {{samples: 1}}
judge: {{engine: openai, base_url: "{url}", model: fake, k: 2, threshold: 0.6, hint: true,
         panel: [{{engine: openai, base_url: "{url}", model: other, k: 3}}]}}
preference: {{min_margin: 0.1, pairs_per_prompt: 2, pairwise: {{samples: 1}}}}
screens: {{without: [contradiction]}}
"""


def rows(layout: RunLayout, config: str) -> pl.DataFrame:
    return pl.read_parquet(layout.datasets / config / "*.parquet")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(layout, recipe, roles played, roles played by a second build of the same run)."""
    folder = tmp_path_factory.mktemp("arms")
    with FakeRewriter() as server:
        recipe = parse_recipe(RECIPE.format(url=server.url))
        build(recipe, folder / "run", base=folder)
        first = dict(server.roles)
        build(recipe, folder / "run", base=folder)
        again = {role: count - first[role] for role, count in server.roles.items()}
    return RunLayout(folder / "run"), recipe, first, again


def test_every_role_is_asked_once_and_a_rerun_asks_nothing(run):
    layout, _, roles, again = run
    assert set(again.values()) == {0}
    candidates = pl.read_parquet(layout.candidates / "*.parquet")
    by_arm = dict(candidates.group_by("arm").len().iter_rows())
    leaking = candidates.filter(pl.col("answer").str.contains(LEAK, literal=True))
    assert 0 < leaking.height < by_arm["spec"]
    assert set(leaking["arm"]) == {"spec"}
    assert by_arm["repair"] == leaking.height == roles["repair"]
    assert by_arm["constitution"] == by_arm["contrast"] == roles["revise"]
    judged = by_arm["spec"] - leaking.height + by_arm["repair"] + by_arm["contrast"] + by_arm["constitution"]
    assert roles["judge"] == judged * (2 + 3)


def test_a_repaired_leak_is_judged_again_and_says_where_it_comes_from(run):
    layout = run[0]
    candidates = pl.read_parquet(layout.candidates / "*.parquet")
    sft, rejected = rows(layout, "sft"), rows(layout, "rejected")
    repaired = sft.filter(pl.col("arm") == "repair")
    assert repaired.height > 0
    assert repaired["parent_id"].is_not_null().all()
    parents = repaired.join(candidates, left_on="parent_id", right_on="candidate_id")
    assert parents.height == repaired.height
    for row in parents.iter_rows(named=True):
        assert LEAK in row["answer"]
        assert row["completion"][0]["reasoning_content"] == row["reasoning"], "the reasoning is the parent's"
        assert LEAK not in row["completion"][0]["content"]
    assert set(rejected.filter(pl.col("id").is_in(repaired["parent_id"].implode()))["reason"]) == {"leak"}
    assert sft.filter(pl.col("arm") == "spec")["parent_id"].is_null().all()


def test_revisions_are_pairs_with_what_they_revise_and_nothing_else(run):
    layout = run[0]
    pairs, rejected = rows(layout, "preference"), rows(layout, "rejected")
    revised = pairs.filter(pl.col("chosen_arm") == "constitution")
    assert revised.height > 0
    parents = dict(pl.read_parquet(layout.candidates / "*.parquet").select("candidate_id", "parent_id").iter_rows())
    for row in revised.iter_rows(named=True):
        assert parents[row["chosen_id"]] == row["rejected_id"]
        assert row["chosen"][0]["reasoning_content"] is None, "a critique is no reasoning to learn"
    others = pairs.filter(pl.col("chosen_arm") != "constitution")
    assert set(others["rejected_arm"]) == {"contrast"}
    assert set(rejected.filter(pl.col("arm") == "constitution")["reason"]) == {"constitution_arm"}
    assert not rows(layout, "kto").filter(pl.col("label") & pl.col("id").is_in(revised["chosen_id"].implode())).height


def test_both_judges_are_kept_raw_and_measured_against_each_other(run):
    layout = run[0]
    judgments = rows(layout, "judgments")
    per_judge = judgments.group_by("candidate_id", "judge").len().group_by("judge").agg(pl.col("len").unique())
    assert dict(per_judge.iter_rows()) == {"fake": [2], "other": [3]}
    write_report(layout)
    from json import loads

    found = loads((layout.report / "numbers.json").read_bytes())
    assert [row["judge"] for row in found["judge"]["judges"]] == ["fake", "other"]
    assert found["judge"]["agreement"][0]["same"]["share"] == 1.0
    assert found["judge"]["hint"]["shown"] > 0
    assert found["judge"]["hint"]["agree"]["share"] == 0.0, "it disagrees always"
    assert rows(layout, "sft").height > 0, "and is accepted all the same: a hint is no label"
    assert {model.role for model in read_manifest(layout.manifest).models} == {
        "generator",
        "contrast",
        "repair",
        "constitution",
        "judge",
    }
    assert check_run(layout) == []


def test_pairs_are_confirmed_in_both_orders(run, tmp_path):
    layout, _, roles, _ = run
    pairs = rows(layout, "preference")
    assert set(pairs["pairwise"]) == {1.0}
    assert roles["compare"] == 2 * pairs.height
    order = read_manifest(layout.manifest).order
    assert order["flips"]["share"] == 0.0
    assert order["first"]["share"] == 0.5
    assert "The answer shown first was preferred in 50.0 %" in write_report(layout).read_text()
    with FakeRewriter(position=True) as server:
        build(parse_recipe(RECIPE.format(url=server.url)), tmp_path / "run", base=tmp_path)
    swayed = RunLayout(tmp_path / "run")
    assert rows(swayed, "preference").height == 0, "a verdict that turns with the order is no preference"
    assert read_manifest(swayed.manifest).order["flips"]["share"] == 1.0


def test_a_damaged_part_of_comparisons_is_rebuilt_without_a_call(tmp_path):
    layout = RunLayout(tmp_path / "run")
    with FakeRewriter() as server:
        recipe = parse_recipe(RECIPE.format(url=server.url), ["prompts.0.per_category=1"])
        build(recipe, layout.root, base=tmp_path)
        pairs, asked = rows(layout, "preference"), dict(server.roles)
        part = next(layout.comparisons.glob("part-*.parquet"))
        part.write_bytes(part.read_bytes()[:-1])
        build(recipe, layout.root, base=tmp_path)
        assert server.roles == asked
    assert pairs.height > 0
    assert rows(layout, "preference").equals(pairs)
    assert part.with_suffix(".damaged").exists()


def test_a_changed_policy_makes_revisions_anew_and_keeps_none_of_the_old(tmp_path):
    """Their parents saw no policy and stay; a revision made anew has a key of its own, or it may be lost to the old."""
    copytree(Path(__file__).parent.parent / "specs" / "support", tmp_path / "policy")
    layout = RunLayout(tmp_path / "run")
    with FakeRewriter() as server:
        text = RECIPE.format(url=server.url).replace("spec: support", "spec: policy")
        recipe = parse_recipe(text, ["prompts.0.per_category=1", "repair=null", "preference.pairwise=null"])
        build(recipe, layout.root, base=tmp_path)
        before = pl.read_parquet(layout.candidates / "*.parquet")
        for file in (tmp_path / "policy").rglob("*.md"):
            file.write_text(file.read_text().replace("**Why:**", "Be kind. **Why:**"))
        build(recipe, layout.root, base=tmp_path)
        current = Stored(*open_run(layout.root)).candidates().collect()
        made = current.join(before, on="candidate_id", how="anti")
        revised = pl.col("arm") == "constitution"
        assert made.filter(revised).height == current.filter(revised).height == before.filter(revised).height > 0
        assert set(made["arm"]) == {"spec", "constitution"}
        asked = dict(server.roles)
        build(recipe, layout.root, base=tmp_path)
        assert server.roles == asked
    assert run_status(*open_run(layout.root))["stages"]["candidates"]["pending"] == 0


def test_select_may_leave_arms_and_judges_out_but_not_add_them(run):
    layout = run[0]
    reselect(layout.root, ["repair=null", "constitution=null", "judge.panel=[]", "preference.pairwise=null"])
    assert set(rows(layout, "sft")["arm"]) == {"spec"}
    assert "constitution" not in set(rows(layout, "preference")["chosen_arm"])
    assert set(rows(layout, "judgments")["judge"]) == {"fake"}
    for added in ("repair={samples: 2}", "judge.hint=false", "preference.pairwise={samples: 1}"):
        with pytest.raises(SelectionError, match="needs model calls"):
            reselect(layout.root, [added])
