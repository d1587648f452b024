"""A resumed build uses the prompts that are there, and never stale ones: every part of the key is turned once."""

import ast
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.builders import kept_prompts as module
from specdistill.builders.commits import Commits
from specdistill.builders.kept_prompts import code_digest, keep, key_of, prompts_of
from specdistill.builders.pool import Labelled, make_prompts
from specdistill.builders.run import save_cleaning, save_prompts
from specdistill.errors import PromptError
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.specs.loader import load_spec

SAFETY = load_spec("safety")
TEXTS = [f"What should somebody know about {thing} before a long day?" for thing in ("kites", "locks", "rope", "tea")]
EXAM = "Which of these four answers is right, and why are the other three wrong?"


def write_sources(folder, texts=(*TEXTS, EXAM, TEXTS[0]), exam=EXAM):
    rows = [{"prompt": text, "category": "violence", "score": number} for number, text in enumerate(texts)]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "e.jsonl").write_text(json.dumps({"prompt": exam}) + "\n")


def recipe(**more):
    asked = {
        "name": "t",
        "spec": "safety",
        "prompts": [{"path": "p.jsonl"}],
        "decontaminate": [{"path": "e.jsonl"}],
        "generator": {"model": "m"},
        "judge": {"model": "j"},
    }
    return Recipe.model_validate(asked | more)


def build(layout, asked, base, spec=SAFETY, seeds=(), label=None):
    """What a build does with its prompts; whether it cleaned them, and the prompts."""
    steps = []
    made = prompts_of(layout, asked, spec, base, list(seeds), step=lambda *step: steps.append(step), label=label)
    if not made.stored:
        save_prompts(layout, made.table)
        save_cleaning(layout, made)
        keep(layout, made)
    return bool(steps), made


def same(one, other):
    return (
        one.table.equals(other.table)
        and one.removed.equals(other.removed)
        and one.evaluation.equals(other.evaluation)
        and one.summary == other.summary
        and one.unsure == other.unsure
    )


def test_a_second_build_cleans_nothing_and_has_the_same_prompts(tmp_path):
    write_sources(tmp_path)
    layout, asked = RunLayout(tmp_path / "run"), recipe(evaluation={"per_category": 1})
    cleaned, first = build(layout, asked, tmp_path)
    assert cleaned
    assert first.removed["reason"].to_list() == ["duplicate", "contaminated"]
    again, second = build(layout, asked, tmp_path)
    assert not again
    assert second.stored
    assert same(first, second)
    (tmp_path / "elsewhere").mkdir()
    write_sources(tmp_path / "elsewhere")
    assert not build(layout, asked, tmp_path / "elsewhere")[0], "equal content elsewhere is equal content"


@pytest.mark.parametrize(
    "change",
    [
        {"clean": {"min_chars": 30}},
        {"clean": {"near": 0.7}},
        {"overlap": {"similarity": None}},
        {"decontaminate": []},
        {"decontaminate": [{"path": "e.jsonl", "column": "question"}]},
        {"evaluation": {"per_category": 1}},
        {"prompts": [{"path": "p.jsonl", "limit": 3}]},
        {"prompts": [{"path": "p.jsonl"}, {"library": "seeds"}]},
        {"classifier": {"model": "c"}},
    ],
    ids=str,
)
def test_what_the_recipe_says_of_prompts_is_in_the_key(tmp_path, change):
    write_sources(tmp_path)
    key = key_of(recipe(), SAFETY, tmp_path, [], Commits())
    assert key_of(recipe(), SAFETY, tmp_path, [], Commits()) == key
    assert key_of(recipe(**change), SAFETY, tmp_path, [], Commits()) != key


def test_what_it_says_of_models_is_not(tmp_path):
    write_sources(tmp_path)
    other = recipe(name="u", generator={"model": "x", "samples": 9}, judge={"model": "y"}, quota={"per_category": 3})
    key = key_of(recipe(), SAFETY, tmp_path, [], Commits())
    assert key_of(other, SAFETY, tmp_path, [], Commits()) == key


def test_files_categories_seeds_and_hub_commits_are_in_the_key(tmp_path):
    write_sources(tmp_path)
    seeds = tmp_path / "s.jsonl"
    seeds.write_text("{}\n")
    hub = {"prompts": [{"path": "p.jsonl"}, {"library": "seeds"}, {"hub": "org/set"}], "decontaminate": [
        {"path": "e.jsonl"}, {"hub": "org/exam@v1"}]}  # fmt: skip

    def key(spec=SAFETY, **commits):
        at = {("org/set", None): "a" * 40, ("org/exam", "v1"): "b" * 40}
        return key_of(recipe(**hub), spec, tmp_path, [seeds], Commits(at | commits.get("at", {})))

    keys = [key(), key(spec=load_spec("support"))]
    keys += [key(at={("org/set", None): "c" * 40}), key(at={("org/exam", "v1"): "c" * 40})]
    write_sources(tmp_path, exam=EXAM + "?")
    keys.append(key())
    write_sources(tmp_path, texts=TEXTS)
    keys.append(key())
    seeds.write_text("{} \n")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    with pytest.raises(PromptError, match="cannot be read"):
        key_of(recipe(prompts=[{"path": "gone.jsonl"}]), SAFETY, tmp_path, [], Commits())


def test_the_policy_is_in_the_key_where_a_classifier_reads_it(tmp_path):
    write_sources(tmp_path)
    changed = SAFETY.model_copy(update={"title": "Another"}) if hasattr(SAFETY, "model_copy") else None
    if changed is None:
        from dataclasses import replace

        changed = replace(SAFETY, title="Another")
    plain, labelled = recipe(), recipe(classifier={"model": "c"})
    keys = [key_of(asked, spec, tmp_path, [], Commits()) for asked in (plain, labelled) for spec in (SAFETY, changed)]
    assert keys[0] == keys[1]
    assert keys[2] != keys[3]


def test_the_code_is_in_the_key(tmp_path):
    copy = tmp_path / "builders"
    shutil.copytree(module.HERE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(module.HERE.parent / "schemas", tmp_path / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    before = code_digest.__wrapped__(copy, module.CODE, module.PACKAGES)
    for name in ("cleaning/near.py", "prompts.py", "../schemas/similar.py"):
        path = copy / name
        path.write_text(path.read_text() + "# changed\n")
        after = code_digest.__wrapped__(copy, module.CODE, module.PACKAGES)
        assert after != before, name
        before = after


def test_the_code_in_the_key_is_all_that_makes_prompts():
    """What pool.py and the labelling import, all the way down, is hashed: engines excepted, whose words are calls."""
    covered = {path.resolve() for pattern in module.CODE for path in module.HERE.glob(pattern)}
    root = module.HERE.parent
    left, seen = [module.HERE / "pool.py"], set()
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [f"{node.module}.{one.name}" for one in node.names] if names else []
            for name in names:
                place = root / (name.removeprefix("specdistill.").replace(".", "/") + ".py")
                if name.startswith(("specdistill.builders.", "specdistill.schemas.")) and place.is_file():
                    left.append(place)
    missing = sorted(str(path.relative_to(root)) for path in seen if path.resolve() not in covered)
    assert missing == []
    assert len(seen) > 15


def damage_a_part(layout):
    path = next(layout.prompts.glob("part-*.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    "harm",
    [
        damage_a_part,
        lambda layout: next(layout.prompts.glob("part-*.parquet")).unlink(),
        lambda layout: shutil.copy(
            next(layout.prompts.glob("part-*.parquet")), layout.prompts / f"part-{'0' * 24}.parquet"
        ),
        lambda layout: layout.removed.unlink(),
        lambda layout: layout.cleaning.write_text("{}"),
        lambda layout: layout.evaluation.write_bytes(layout.removed.read_bytes()),
        lambda layout: layout.cleaned_from.write_text("[]"),
        lambda layout: layout.cleaned_from.write_bytes(b"\xff{"),
    ],
    ids=["part damaged", "part gone", "part more", "removed gone", "numbers other", "held out more", "list", "bytes"],
)
def test_what_is_not_whole_is_made_anew(tmp_path, harm):
    write_sources(tmp_path)
    layout = RunLayout(tmp_path / "run")
    _, first = build(layout, recipe(), tmp_path)
    harm(layout)
    again, second = build(layout, recipe(), tmp_path)
    assert again
    assert same(first, second)


def test_labels_that_a_failed_call_left_out_are_not_kept(tmp_path):
    write_sources(tmp_path)
    layout, asked = RunLayout(tmp_path / "run"), recipe(classifier={"model": "c"})
    for failed, kept in ((1, False), (0, True)):

        def label(pool, failed=failed):
            return Labelled(pool, {"samples": {"named": 3, "failed": failed} if failed else {"named": 3}}, [])

        assert build(layout, asked, tmp_path, label=label)[0]
        assert layout.cleaned_from.exists() == kept
    assert not build(layout, asked, tmp_path)[0]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2), st.integers(0, 1)), max_size=5))
def test_whatever_changes_in_whatever_order_the_prompts_are_those_of_a_fresh_run(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("kept")
    layout = RunLayout(folder / "run")
    for texts, exam, rules, held in changes:
        write_sources(folder, TEXTS[texts:] + [EXAM] * (1 + texts % 2), [EXAM, TEXTS[-1]][exam])
        asked = recipe(
            clean=[{}, {"min_chars": 45}, {"near": None}][rules], evaluation=[None, {"per_category": 1}][held]
        )
        _, found = build(layout, asked, folder)
        assert same(found, make_prompts(asked, [one.id for one in SAFETY.categories], folder, []))
        assert pl.concat(map(pl.read_parquet, layout.prompts.glob("part-*.parquet"))).equals(found.table)


def test_nothing_in_the_note_tells_a_folder(tmp_path):
    write_sources(tmp_path)
    layout = RunLayout(tmp_path / "run")
    build(layout, recipe(), tmp_path)
    assert str(Path(tmp_path)) not in layout.cleaned_from.read_text()
