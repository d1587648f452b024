"""Prompts and evaluation sets from hub IDs, over HTTP from the local hub with the real client, to the dataset card."""

import json

import polars as pl
import pytest
from fake_openai_server import FakeOpenAI
from forked_cli import ForkedCLI
from hub_fixture import Uploads, running_hub

from specdistill.schemas.layout import RunLayout

pytestmark = pytest.mark.integration

TOPICS = ("kites", "locks", "rope", "tea", "violins", "glaciers", "chess", "beehives")
PROMPTS = [
    {"prompt": f"What should somebody know about {topic} before a long day of work with them?", "category": "violence"}
    for topic in TOPICS
]
EXAM = "Which of these four answers about the tides is right, and why are the other three of them wrong?"
RECIPE = """
name: hub
spec: safety
prompts: [{{hub: org/prompts}}]
decontaminate: [{{hub: org/eval, revision: v1, split: test, column: prompt}}]
clean: {{near: 0.95, meaning: null}}
generator: {{engine: openai, base_url: "{url}", model: fake, samples: 1, reasoning: guided, max_tokens: 300}}
judge: {{engine: openai, base_url: "{url}", model: fake, k: 1, threshold: 0.3, aggregate: mean, max_tokens: 300}}
licences: {{dataset: CC-BY-4.0}}
"""


def test_prompts_and_evaluation_sets_by_hub_id(tmp_path):
    with running_hub(tmp_path / "hub") as hub, FakeOpenAI() as server:
        uploads = Uploads(hub)
        for name in ("prompts", "eval"):
            uploads.make(f"org/{name}")
        inside = {"prompt": f"I am a student. {EXAM} Please show each step.", "category": "violence"}
        first = uploads.commit("org/prompts", "data/train-00000.parquet", [*PROMPTS, inside])
        uploads.commit(
            "org/eval",
            "test.parquet",
            [{"prompt": "Nothing that overlaps with anything here at all."}, {"prompt": EXAM}],
        )
        uploads.tag("org/eval", "v1")
        uploads.commit(
            "org/eval", "test.parquet", [{"prompt": PROMPTS[0]["prompt"]}]
        )  # main moves on, the tag does not
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(RECIPE.format(url=server.url))
        layout = RunLayout(tmp_path / "run")
        with ForkedCLI(tmp_path / "cli", env=hub.env(tmp_path / "home", xet=False)) as cli:
            done = cli.run("build", recipe, "--out", layout.root)
            assert done.code == 0, done.output
            assert "contaminated 1" in done.output
            gone = pl.read_parquet(layout.removed).row(0, named=True)
            assert (gone["reason"], gone["matched_set"], gone["matched_row"]) == ("contaminated", "org/eval@v1", 2)
            assert gone["matched_text"] == EXAM
            assert gone["source"] == f"org/prompts@{first[:12]}:9"
            assert json.loads(layout.cleaning.read_text())["decontaminated"] == [
                {"name": "org/eval@v1", "prompts": 2, "removed": 1}
            ]
            kept = pl.concat(map(pl.read_parquet, layout.prompts.glob("*.parquet")))
            assert kept.height == len(PROMPTS), "what main holds by now is not the tag's"
            assert cli.run("report", layout.root).code == 0
            report = (layout.report / "README.md").read_text()
            assert EXAM[:60] in report
            assert "org/eval@v1" in report
            done = cli.run("publish", layout.root, "--to-dir", tmp_path / "release", "--version", "1.0.0")
            assert done.code == 0, done.output
            assert "org/eval" in (tmp_path / "release" / "README.md").read_text()

            again = cli.run("build", recipe, "--out", layout.root)
            assert "nothing that they were made from changed" in again.output
            second = uploads.commit("org/prompts", "data/train-00000.parquet", PROMPTS[:5])
            moved = cli.run("build", recipe, "--out", layout.root)
            assert "nothing that they were made from changed" not in moved.output, "the branch has moved on"
            kept = pl.concat(map(pl.read_parquet, layout.prompts.glob("*.parquet")))
            assert kept["source"].to_list() == [f"org/prompts@{second[:12]}:{row}" for row in range(1, 6)]
            recipe.write_text(recipe.read_text().replace("revision: v1", "revision: v9"))
            unknown = cli.run("build", recipe, "--out", layout.root)
        assert unknown.code == 1
        assert "'org/eval' at revision 'v9' cannot be found" in unknown.output
    with ForkedCLI(tmp_path / "cli", env=hub.env(tmp_path / "home", xet=False)) as cli:
        recipe.write_text(recipe.read_text().replace("revision: v9", "revision: v1"))
        away = cli.run("build", recipe, "--out", layout.root)
    assert away.code == 1, "nothing that a cache happens to hold is taken for the hub's"
    assert "the hub can be reached" in away.output
