"""Lint finds every planted fault at its line, and nothing in the packaged libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

from specdistill.errors import SpecError
from specdistill.specs.lint import lint
from specdistill.specs.loader import libraries, load_spec
from specdistill.specs.render import category_text
from specdistill.specs.tokens import tokenizer_counter

FILES = {
    "spec.md": """\
---
id: planted
title: Planted
versoin: 1.0.0
---
First line.

The overview refers to [ZZ-9].
""",
    "style.md": """\
---
kind: style
---
## Tone {#ST-1}

As in [ST-9].
""",
    "categories/one.md": """\
---
id: one
title: One
---
## Comply

### Twice {#A-C1}

Text with [A-R1], [B-C1]
and [A-X7].

### Empty {#A-C2}

## Refuse

### Bad word {#A-R1 outcome=forbid}

Text.

### Unread {#A R2}

Text.

## Nothing here

## Edge cases

- Something → refuse [A-C1]
- Else → comply [A-C9]

## Examples

- [A-C1] refuse: "x" — contradicts
- [A-C8] comply: "x" — unknown
- [A-C1] perhaps: "x" — unread
""",
    "categories/two.md": """\
---
id: two
title: Two
summary: The second.
colour: red
---
## Comply

### Again {#A-C1}

Text.

### Fine {#B-C1}

Text, see [one](#one).

## Other

### Silent {#B-U1}

Says nothing of its outcome.
""",
}

PLANTED = [
    ("one.md", 1, "empty-outcome", "warning"),  # refuse: its only clause has an unreadable outcome
    ("one.md", 1, "empty-outcome", "warning"),
    ("one.md", 1, "no-examples", "warning"),
    ("one.md", 1, "no-summary", "warning"),
    ("one.md", 10, "dangling-reference", "error"),
    ("one.md", 12, "empty-clause", "error"),
    ("one.md", 16, "bad-outcome", "error"),
    ("one.md", 16, "unspecified-outcome", "warning"),
    ("one.md", 20, "unread-anchor", "error"),
    ("one.md", 24, "empty-section", "warning"),
    ("one.md", 28, "contradiction", "error"),
    ("one.md", 29, "dangling-reference", "error"),
    ("one.md", 33, "contradiction", "error"),
    ("one.md", 34, "unknown-clause", "error"),
    ("one.md", 35, "unread-example", "warning"),
    ("two.md", 1, "empty-outcome", "warning"),
    ("two.md", 1, "empty-outcome", "warning"),
    ("two.md", 5, "unknown-key", "warning"),
    ("two.md", 9, "duplicate-anchor", "error"),
    ("two.md", 19, "unspecified-outcome", "warning"),
    ("spec.md", 1, "no-licence", "warning"),
    ("spec.md", 1, "no-version", "warning"),
    ("spec.md", 4, "unknown-key", "warning"),
    ("spec.md", 8, "dangling-reference", "error"),
    ("style.md", 6, "dangling-reference", "error"),
]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_planted_fault_is_found_at_its_line(planted: Path) -> None:
    found = [(Path(f.file or "").name, f.line, f.code, f.severity) for f in lint(planted)]
    assert sorted(found) == sorted(PLANTED)
    with pytest.raises(SpecError, match=r"two\.md:9: Anchor 'A-C1' is taken already at .*one\.md:7"):
        load_spec(planted)


def test_a_long_category_is_named_with_its_size(planted: Path) -> None:
    sizes = [f.message for f in lint(planted, most_tokens=20) if f.code == "too-long"]
    assert len(sizes) == 2
    assert lint(planted, count=len, most_tokens=10**6) == lint(planted)


def test_faults_of_text_outside_every_category_and_of_a_missing_head(tmp_path: Path) -> None:
    path = tmp_path / "policy.md"
    path.write_text("# P\n\n## One {#one}\n### R {#r outcome=refuse}\nNo.\n\n## Loose\n\nText.\n\n```\nopen")
    found = {(f.line, f.code) for f in lint(path)}
    assert found == {
        (1, "no-front-matter"),
        (3, "empty-outcome"),
        (3, "no-summary"),
        (7, "unplaced"),
        (None, "no-style"),
    }


def test_a_loaded_policy_can_be_linted_too() -> None:
    spec = load_spec("support")
    category = spec.categories[0]
    broken = spec.model_copy(update={"categories": (category.model_copy(update={"summary": ""}),)})
    codes = [finding.code for finding in lint(broken)]
    assert "no-summary" in codes
    assert "dangling-reference" in codes  # the other categories are gone


@pytest.mark.parametrize("name", libraries())
def test_the_packaged_libraries_have_no_fault(name: str) -> None:
    assert [str(finding) for finding in lint(name)] == []


@pytest.mark.integration
@pytest.mark.parametrize("name", libraries())
def test_packaged_categories_have_500_to_1500_tokens(name: str) -> None:
    from specdistill.builders.engines.embedded import embedded_model

    count = tokenizer_counter(embedded_model()).count
    sizes = {category.id: count(category_text(category)) for category in load_spec(name).categories}
    assert {name: size for name, size in sizes.items() if not 500 <= size <= 1500} == {}
