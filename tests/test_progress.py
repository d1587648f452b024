"""What a build says is left: its totals follow what the recipe's arms and judges will ask for."""

from __future__ import annotations

import re

import build_helpers
from build_helpers import write_recipe
from fake_openai_server import FakeOpenAI


def totals(said: str) -> dict[str, tuple[int, int]]:
    """Table to (rows done, rows in all) of the last line that tells them."""
    line = next(line for line in reversed(said.replace("\n", " ").split("candidates ")) if "judgments" in line)
    found = re.findall(r"(\d+)/(\d+)", line)
    return dict(zip(("candidates", "judgments"), ((int(done), int(whole)) for done, whole in found), strict=True))


def test_rewrites_and_every_judge_of_a_panel_are_expected(tmp_path):
    with FakeOpenAI() as server:
        recipe = write_recipe(tmp_path, server.url, per_category=2)
        text = recipe.read_text().replace("judge: {", "constitution: {samples: 2}\njudge: {")
        panel = f'panel: [{{engine: openai, base_url: "{server.url}", model: fake, k: 2, temperature: 0.3}}]'
        recipe.write_text(text.replace("min_votes: 1,", f"min_votes: 1, {panel},"))
        done = build_helpers.build(recipe, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    prompts, votes = 2 * 7, 3 + 2
    first = prompts * (3 + 1)
    assert f"To do: {first} candidates and their rewrites, up to {first * votes} judgments." in done.stderr
    candidates, judgments = totals(done.stderr).values()
    assert candidates == (first + 2 * prompts, first + 2 * prompts)
    assert judgments == (candidates[0] * votes, candidates[0] * votes)
