"""A recipe is strict, and every fault names its place."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.errors import RecipeError, SpecdistillError
from specdistill.schemas.recipe_file import dump_recipe, load_recipe, parse_recipe

GOOD = """name: x
spec: safety
prompts:
  - path: a.jsonl
generator: {model: m}
judge:
  model: m
  k: 3
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "jugde: 1\n", r"r\.yaml:9: jugde: Unknown key 'jugde'\. Did you mean 'judge'\?"),
        (GOOD.replace("k: 3", "kk: 3"), r"r\.yaml:8: judge\.kk: Unknown key 'kk'"),
        (GOOD.replace("k: 3", "k: -1"), r"r\.yaml:8: judge\.k: .*greater than or equal to 1"),
        (GOOD.replace("k: 3", "threshold: high"), r"r\.yaml:8: judge\.threshold"),
        (GOOD.replace("path: a.jsonl", "paht: a.jsonl"), r"r\.yaml:4: prompts\.0\.paht: Unknown key .*'path'"),
        (GOOD.replace("path: a.jsonl", "{path: a, hub: b}"), r"r\.yaml:4: prompts\.0: Name exactly one of"),
        (GOOD.replace("spec: safety\n", ""), r"spec: The key 'spec' is missing"),
        (GOOD + "name: y\n", r"r\.yaml:9: The key 'name' is there twice"),
        (GOOD.replace("{model: m}", "{model: m"), r"r\.yaml:\d+: This is not valid YAML"),
        (GOOD.replace("{model: m}", "{model: m, engine: openai}"), r"generator: Engine 'openai' needs base_url"),
        (GOOD.replace("{model: m}", "{model: m, engine: openai, base_url: []}"), r"generator: Engine 'openai' needs"),
        (
            GOOD.replace("{model: m}", "{model: m, engine: openai, base_url: [http://a/v1, http://a/v1/]}"),
            r"generator: Base_url names a server twice: http://a/v1",
        ),
        (
            GOOD.replace("{model: m}", "{model: m, engine: openai, base_url: [http://a/v1, 'http://u:p@b/v1']}"),
            r"generator\.base_url\.1: .*user name or password",
        ),
        (GOOD.replace("{model: m}", "!!python/object:os.system {}"), r"r\.yaml:5"),
        ("", r"r\.yaml:1: The recipe is empty"),
        ("- a\n", r"r\.yaml:1: A recipe is a mapping"),
    ],
)
def test_faults_have_a_place_and_a_remedy(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert caught.value.remedy.endswith((".", "?", "…`.")) or "Found:" in caught.value.remedy


def test_a_recipe_survives_writing_and_reading():
    recipe = parse_recipe(GOOD, ["judge.threshold=0.5", "prompts.0.category=violence", "contrast.samples=2"])
    assert recipe.judge.threshold == 0.5
    assert recipe.prompts[0].category == "violence"
    assert recipe.contrast.samples == 2
    assert parse_recipe(dump_recipe(recipe)) == recipe


@pytest.mark.parametrize("override", ["nonsense", "=3", "prompts.5.path=x", "name.deeper.still=[", "judge.k=[1"])
def test_bad_overrides_are_told(override):
    with pytest.raises(RecipeError):
        parse_recipe(GOOD, [override])


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="abk:{}[]&*!- \n'\"<1", max_size=120).map(lambda text: GOOD + text))
def test_any_text_is_a_recipe_or_our_error(text):
    try:
        parse_recipe(text)
    except SpecdistillError as error:
        assert error.cause
        assert error.remedy


def test_alias_bombs_and_deep_trees_are_refused():
    letters = "abcdefghijklmnopqrstu"
    pairs = itertools.pairwise(letters)
    bomb = "a: &a [x, x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in pairs)
    with pytest.raises(RecipeError):
        parse_recipe(bomb)
    with pytest.raises(RecipeError):
        parse_recipe("a: " + "[" * 5000)


@pytest.mark.parametrize(
    "value", ["!!timestamp soon", "!!bool perhaps", "!!int x", "!!float y", "2026-13-45", "!!binary ä"]
)
def test_a_value_that_is_not_of_its_stated_type_is_named_with_its_line(value):
    with pytest.raises(RecipeError, match=r"recipe\.yaml:3.*cannot be read|is not a valid|Input should"):
        parse_recipe(f"name: x\nspec: safety\nlicences: {{dataset: {value}}}\n", (), Path("recipe.yaml"))
    with pytest.raises(RecipeError):
        parse_recipe(f"name: x\nspec: safety\n{value}: 3\n", (), Path("recipe.yaml"))
