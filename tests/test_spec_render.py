"""spec(category): what is in it, that it is the same every time, and what happens when it is too long."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from spec_strategies import specs

from specdistill.errors import SpecError
from specdistill.specs.layout import write_spec
from specdistill.specs.loader import libraries, load_spec
from specdistill.specs.model import Spec
from specdistill.specs.render import category_text, render
from specdistill.specs.tokens import estimate

GOLDEN = Path(__file__).parent / "golden"

SMALL = {
    "spec.md": """\
---
id: small
title: Small policy
version: 1.0.0
licence: MIT
authors: [us]
---
Cite like [PA-R1].
""",
    "style.md": """\
---
kind: style
---
## How to refuse {#ST-1}

Briefly. At the office see [PB-C1].
""",
    "categories/paint.md": """\
---
id: paint
title: Paint
summary: What may be painted.
---
What this part is for.

## Examples

- [PA-R1] refuse: "paint the cat" — it is alive

## Definitions

- **Wall**: what holds the roof.

## Refuse

No exceptions here.

### The cat {#PA-R1 since=2024}

Never paint the cat. See [PA-C1] and [PB-R1].

## Comply

### Walls {#PA-C1}

Any colour.

### Odd one {#PA-S1 outcome=safe_complete}

Carefully.

### No word {#PA-U1 outcome=unspecified}

Unclear.

## Guidance

### Brushes {#PA-G1}

Use a clean brush.

## Edge cases

- A toy cat → comply [PA-C1].
""",
    "categories/office.md": """\
---
id: office
title: Office
summary: What may be done at the office.
---
## Comply

### Tea {#PB-C1}

Make tea, see [PA-G1].

## Refuse

### Noise {#PB-R1}

No noise.
""",
}


@pytest.fixture
def small(tmp_path: Path) -> Spec:
    for name, text in SMALL.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return load_spec(tmp_path)


def test_the_text_a_model_is_shown_is_the_golden_one(small: Spec) -> None:
    """Changing this text makes every stored row stale: do it knowingly."""
    rendered = render(small, "paint", examples=True)
    assert rendered.text == (GOLDEN / "spec_paint.md").read_text()
    assert rendered.text == "\n\n".join(text for _, text in rendered.parts) + "\n"
    assert rendered.shown == ("ST-1", "PB-C1", "PB-R1", "PA-R1", "PA-C1", "PA-S1", "PA-U1", "PA-G1")
    assert rendered.anchors[0] == "PA-R1"
    assert set(rendered.anchors) == set(rendered.shown)


def test_anchors_are_those_visible_and_shown_those_given_in_full(small: Spec) -> None:
    rendered = render(small, "office")
    assert set(rendered.anchors) == {"PA-R1", "ST-1", "PB-C1", "PB-R1", "PA-G1"}
    assert rendered.shown == ("ST-1", "PB-C1", "PB-R1", "PA-G1")
    assert "Never paint" not in rendered.text
    assert "#### Brushes [PA-G1] (Paint)\nUse a clean brush." in rendered.text


def test_a_union_shows_each_category_once_and_does_not_depend_on_order(small: Spec) -> None:
    both = render(small, ["paint", "office", "paint"])
    assert both == render(small, ["office", "paint"])
    assert both.categories == ("office", "paint")
    assert "referred to above" not in both.text
    for category in small.categories:
        assert category_text(category) in both.text


def test_every_clause_of_a_category_is_shown_once_in_full() -> None:
    for name in libraries():
        spec = load_spec(name)
        for category in spec.categories:
            text = render(spec, category.id).text
            for clause in (*spec.style_clauses, *category.clauses):
                assert text.count(clause.text) == 1
            for other in spec.categories:
                assert other.summary in text


@given(specs())
@settings(max_examples=30, deadline=None)
def test_every_clause_of_any_category_is_shown_under_its_anchor(spec: Spec) -> None:
    for category in spec.categories:
        rendered = render(spec, category.id)
        assert {clause.anchor for clause in (*spec.style_clauses, *category.clauses)} <= set(rendered.shown)
        assert set(rendered.shown) <= set(rendered.anchors) <= set(spec.anchors)
        for clause in (*spec.style_clauses, *category.clauses):
            assert f"[{clause.anchor}]" in rendered.text
            assert clause.text in rendered.text


def test_the_text_does_not_depend_on_where_the_policy_lies(tmp_path: Path) -> None:
    spec = load_spec("safety")
    copy = load_spec(write_spec(spec, tmp_path))
    for category in spec.categories:
        assert render(spec, category.id).digest == render(copy, category.id).digest


def test_editing_a_clause_changes_only_the_texts_that_show_it() -> None:
    spec = load_spec("safety")
    before = {category.id: render(spec, category.id) for category in spec.categories}
    for clause in random.Random(0).sample(spec.clauses, 12):
        after = {category.id: render(_edited(spec, clause.anchor), category.id) for category in spec.categories}
        changed = {name for name in before if before[name].digest != after[name].digest}
        assert changed == {name for name in before if clause.anchor in before[name].shown}
        assert clause.category is None or clause.category in changed


def _edited(spec: Spec, anchor: str) -> Spec:
    def edit(sections: tuple) -> tuple:  # type: ignore[type-arg]
        return tuple(
            section.model_copy(
                update={
                    "clauses": tuple(
                        c.model_copy(update={"text": c.text + " And so on."}) if c.anchor == anchor else c
                        for c in section.clauses
                    )
                }
            )
            for section in sections
        )

    return spec.model_copy(
        update={
            "style": edit(spec.style),
            "categories": tuple(c.model_copy(update={"sections": edit(c.sections)}) for c in spec.categories),
        }
    )


def test_a_version_bump_alone_makes_nothing_stale(small: Spec) -> None:
    bumped = small.model_copy(update={"version": "9.9.9", "licence": "other", "authors": ()})
    assert bumped.digest != small.digest
    assert render(bumped, "paint").digest == render(small, "paint").digest


def test_over_the_budget_says_by_how_many_tokens_and_what_is_largest(small: Spec) -> None:
    exact = render(small, "paint", count=estimate).tokens
    assert exact == estimate(render(small, "paint").text)
    assert render(small, "paint", budget=exact, count=estimate).tokens == exact
    with pytest.raises(SpecError) as caught:
        render(small, "paint", budget=exact - 7, count=estimate)
    assert caught.value.cause == f"spec(paint) has {exact} tokens, 7 over the budget of {exact - 7}."
    largest = max(render(small, "paint").parts, key=lambda part: estimate(part[1]))
    assert f"(tokens): {largest[0]} ({estimate(largest[1])}), " in caught.value.remedy


def test_a_budget_needs_a_counter_and_a_category_must_be_named(small: Spec) -> None:
    with pytest.raises(ValueError, match="counts tokens"):
        render(small, "paint", budget=10)
    with pytest.raises(ValueError, match="at least one category"):
        render(small, [])
    with pytest.raises(SpecError, match="has no category 'pain'"):
        render(small, ["paint", "pain"])
