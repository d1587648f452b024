"""What the reader makes of Markdown: clauses, outcomes, references, examples, categories."""

from __future__ import annotations

from pathlib import Path

import pytest

from specdistill.errors import SpecError
from specdistill.schemas.rows import CLAUSES
from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.clauses import clause_frame
from specdistill.specs.loader import Parsed, load_spec, parse_spec
from specdistill.specs.markdown import split_attributes
from specdistill.specs.model import Spec
from specdistill.specs.references import cited
from specdistill.specs.words import SectionKind


def read(folder: Path, text: str, name: str = "policy.md") -> Parsed:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return parse_spec(path)


def outcomes(spec: Spec) -> dict[str, Outcome]:
    return {clause.anchor: clause.outcome for clause in spec.clauses}


@pytest.mark.parametrize(
    ("text", "rest", "anchor", "values"),
    [
        ("Title {#a-1}", "Title", "a-1", {}),
        ("Do not lie {#do_not_lie authority=user}", "Do not lie", "do_not_lie", {"authority": "user"}),
        ("x {#a k='one two' .red j=\"3\"}  ", "x", "a", {"k": "one two", "class": "red", "j": "3"}),
        ("Rule.{#S1}", "Rule.", "S1", {}),
        ("Rule {: #S1 }", "Rule", "S1", {}),
        ("Heading {outcome=refuse}", "Heading", None, {"outcome": "refuse"}),
    ],
)
def test_attribute_blocks(text: str, rest: str, anchor: str | None, values: dict[str, str]) -> None:
    plain, attributes = split_attributes(text)
    assert attributes is not None
    assert (plain, attributes.anchor, attributes.values) == (rest, anchor, values)


@pytest.mark.parametrize(
    "text", ["a {#}", "a {#b c}", "a {# b}", "{#a} b", "a \\{#b}", "a `{#b}`", "a {curly}", "$x_{i}"]
)
def test_what_is_no_attribute_block(text: str) -> None:
    assert split_attributes(text) == (text, None)


def test_headings_paragraphs_and_list_items_become_clauses_and_fences_do_not(tmp_path: Path) -> None:
    spec = read(
        tmp_path,
        """\
---
id: tiny
version: 1.10
license: MIT
author: A. Writer
---
# Tiny policy

## Comply

### Help {#C1 authority=user}

Help fully.

```markdown
## Refuse
### Not a rule {#X1}
```

#### Detail

More on helping.

A paragraph rule. {#C2}

- Item rule {#C3 since=2020}
  - with a part
  - and [another](#C1)
- plain item

## Refuse

1. Numbered rule [C1] {#R1}

Refuse this one
with two lines. {#R2}
""",
    ).spec
    assert (spec.id, spec.title, spec.version, spec.licence, spec.authors) == (
        "tiny",
        "Tiny policy",
        "1.10",
        "MIT",
        ("A. Writer",),
    )
    rules = spec.by_anchor
    assert list(rules) == ["C1", "C2", "C3", "R1", "R2"]
    assert rules["C1"].text.startswith("Help fully.\n\n```markdown\n## Refuse")
    assert rules["C1"].text.endswith("#### Detail\n\nMore on helping.\n\n- plain item")
    assert (rules["C2"].text, rules["C2"].title, rules["C2"].name) == (
        "A paragraph rule.",
        "",
        "A paragraph rule.",
    )
    assert rules["C3"].text == "Item rule\n- with a part\n- and [another](#C1)"
    assert (rules["C3"].attributes, rules["C3"].references) == ({"since": "2020"}, ("C1",))
    assert rules["R1"].text == "Numbered rule [C1]"
    assert rules["R2"].text == "Refuse this one\nwith two lines."
    assert [rules[anchor].line for anchor in rules] == [11, 24, 26, 33, 35]
    assert outcomes(spec)["C3"] is Outcome.COMPLY
    assert outcomes(spec)["R2"] is Outcome.REFUSE


def test_where_an_outcome_comes_from(tmp_path: Path) -> None:
    parsed = read(
        tmp_path,
        """\
## Disallowed content
### Weapons
#### Bombs {#a}
no
#### Knives {#b outcome=safe-complete}
careful
### Beside it {#c outcome=maybe}
?
## Guidance
### Tone {#g1}
Be kind.
### Crisis {#g2}
Prefer a safe completion here.
## Something else
### Open {#d}
text
## Answer with care
### Care {#e}
text
## Plain rule {#f}
text
""",
    )
    assert outcomes(parsed.spec) == {
        "a": Outcome.REFUSE,
        "b": Outcome.SAFE_COMPLETE,
        "c": Outcome.UNSPECIFIED,
        "g1": Outcome.UNSPECIFIED,
        "g2": Outcome.SAFE_COMPLETE,
        "d": Outcome.UNSPECIFIED,
        "e": Outcome.SAFE_COMPLETE,
        "f": Outcome.UNSPECIFIED,
    }
    assert [(finding.code, finding.line) for finding in parsed.findings] == [
        ("no-front-matter", 1),
        ("bad-outcome", 7),
    ]


def test_references_know_citations_from_other_brackets() -> None:
    text = "As in [SH-R1] and [SH-R1, VI-C2]; [sic], [x], [name], [do_not_lie], [fair], [text](#tone), a[i1]"
    assert cited(text) == ["SH-R1", "VI-C2", "do_not_lie", "tone"]
    assert cited(text, {"fair"}) == ["SH-R1", "VI-C2", "do_not_lie", "fair", "tone"]
    assert cited("```\n[SH-R1]\n```\n[SH-R2]") == ["SH-R2"]


def test_examples_are_read_whatever_the_dash(tmp_path: Path) -> None:
    parsed = read(
        tmp_path,
        """\
## Refuse
### No {#R1}
No.
## Examples
- [R1] refuse: "say "it" now" — because "so"
- [R1] safe-complete: “curly” - why
  it goes on
- [R1] comply: "bare"
- [R1] whatever: "x" — y
- no example at all
""",
    )
    (category,) = parsed.spec.categories
    read_ = [(example.outcome, example.prompt, example.why, example.line) for example in category.examples]
    assert read_ == [
        (Outcome.REFUSE, 'say "it" now', 'because "so"', 5),
        (Outcome.SAFE_COMPLETE, "curly", "why it goes on", 6),
        (Outcome.COMPLY, "bare", "", 8),
    ]
    assert category.of_kind(SectionKind.EXAMPLES)[0].text == '- [R1] whatever: "x" — y\n- no example at all'
    assert [f.line for f in parsed.findings if f.code == "unread-example"] == [9, 10]


def test_a_long_document_is_split_at_its_highest_headings_with_rules(tmp_path: Path) -> None:
    parsed = read(
        tmp_path,
        """\
# The policy

Holds for all.

## How we decide {#decide}

Introduction of the part.

### Order of rules {#order authority=root}

First things first, see [honesty](#honesty).

## Background

No rule here.

## Honesty {#honesty authority=user outcome=comply}

Tell the truth.

## Décor & style

- Be neat {#neat}
""",
    )
    spec = parsed.spec
    assert (spec.title, spec.overview) == ("The policy", "Holds for all.")
    assert [(category.id, [c.anchor for c in category.clauses]) for category in spec.categories] == [
        ("decide", ["order"]),
        ("honesty", ["honesty"]),
        ("decor-style", ["neat"]),
    ]
    assert spec.category("decide").sections[0].text == "Introduction of the part."
    assert spec.by_anchor["order"].references == ("honesty",)
    rule = spec.by_anchor["honesty"]
    assert (rule.text, rule.outcome, rule.attributes) == (
        "Tell the truth.",
        Outcome.COMPLY,
        {"authority": "user"},
    )
    assert [(item.title, item.line, item.text) for item in parsed.unplaced] == [("Background", 13, "No rule here.")]


@pytest.mark.parametrize("beside", ["Definitions", "Examples", "Guidelines", "Edge cases"])
def test_a_section_for_all_beside_categories_does_not_make_them_one(beside: str, tmp_path: Path) -> None:
    violence = "## Violence\n\n### Refuse\n\n#### Weapons {#V-R1}\n\nNone.\n\n"
    self_harm = "## Self-harm\n\n### Comply\n\n#### Support {#S-C1}\n\nOffer it.\n\n"
    common = f"## {beside}\n\nA minor is under 18.\n\n"
    for text in (common + violence + self_harm, violence + self_harm + common):
        parsed = read(tmp_path, f"# Policy\n\nIntro.\n\n{text}")
        assert [category.id for category in parsed.spec.categories] == ["violence", "self-harm"]
        assert [item.title for item in parsed.unplaced] == [beside]
    alone = read(tmp_path, f"# Policy\n\n{common}## Weapons\n\n### Guns {{#V-R1}}\n\nNone.\n")
    assert len(alone.spec.categories) == 1, "with one that holds rules it is a section of the same category"


def test_a_folder_without_our_layout_is_one_category_a_file_or_more(tmp_path: Path) -> None:
    read(tmp_path, "# Refunds\n\n## Refuse\n\n### No cash {#RF-R1}\n\nNever.\n", "refunds.md")
    read(tmp_path, "# All\n## A {#a}\n### A one {#a1}\nx\n## B {#b}\n### B one {#b1}\ny\n", "more/all.md")
    read(tmp_path, "ignored {#i}", ".git/x.md")
    spec = load_spec(tmp_path)
    assert [category.id for category in spec.categories] == ["a", "b", "refunds"]
    assert spec.category("refunds").title == "Refunds"
    assert spec.by_anchor["RF-R1"].outcome is Outcome.REFUSE


def test_an_anchor_used_twice_is_an_error_with_both_places(tmp_path: Path) -> None:
    read(tmp_path, "## Refuse\n### A {#a}\nx\n\nAgain. {#a}\n")
    with pytest.raises(SpecError, match=r"policy\.md:5: Anchor 'a' is taken already at .*policy\.md:2") as caught:
        load_spec(tmp_path / "policy.md")
    assert caught.value.line == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nothing", "There is no spec"),
        (lambda folder: folder, "holds no Markdown file"),
        (lambda folder: _write(folder / "bad.md", b"# ok\n\n\xff\xfe"), r"bad\.md:3: The file is not UTF-8"),
        (
            lambda folder: _write(folder / "bad.md", b"---\na: [1\n---\n# T {#t}"),
            r"bad\.md:2: The front matter cannot",
        ),
        (
            lambda folder: _write(folder / "bad.md", b"---\n- a\n---\n# T {#t}"),
            r"bad\.md:1: The front matter is not",
        ),
        (lambda folder: _write(folder / "bad.md", b"---\na: b\n# T {#t}"), r"bad\.md:1: .*no closing"),
    ],
)
def test_what_cannot_be_read_says_where(make: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(make(tmp_path))  # type: ignore[operator]


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="Did you mean 'self-harm'"):
        load_spec("safety").category("selfharm")
    with pytest.raises(SpecError, match=r"packaged library \(safety, support\)"):
        load_spec("saefty")


def test_windows_line_ends_and_byte_order_marks_change_nothing(tmp_path: Path) -> None:
    text = "---\nid: x\n---\n## Refuse\n### A {#a}\nOne.\n\nTwo.\n"
    one = read(tmp_path, text).spec
    (tmp_path / "w").mkdir()
    two = load_spec(_write(tmp_path / "w" / "policy.md", b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()))
    assert one.content() == two.content()


def test_clause_table_has_every_clause_and_a_digest_of_what_it_says() -> None:
    spec = load_spec("safety")
    frame = CLAUSES.validate(clause_frame(spec))
    assert frame["anchor"].to_list() == list(spec.anchors)
    assert frame.filter(frame["category"].is_null())["anchor"].to_list() == [c.anchor for c in spec.style_clauses]
    clause = spec.by_anchor["SH-R1"]
    assert clause.model_copy(update={"anchor": "other", "line": 1}).digest == clause.digest
    for change in ({"text": "x"}, {"title": "x"}, {"outcome": Outcome.COMPLY}, {"attributes": {"a": "b"}}):
        assert clause.model_copy(update=change).digest != clause.digest
