"""Writing a policy and reading it back gives the same policy."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_strategies import specs

from specdistill.errors import DiskError, SpecError
from specdistill.specs.layout import spec_files, write_spec
from specdistill.specs.loader import libraries, load_spec, parse_spec, seed_files
from specdistill.specs.model import Category, Clause, Section, Spec


@given(specs())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_reading_what_was_written_gives_the_same_policy(spec: Spec) -> None:
    with TemporaryDirectory() as folder:
        assert load_spec(write_spec(spec, folder)).content() == spec.content()


LINES = [
    "# A",
    "## Refuse",
    "### B {#b}",
    "## {kind=comply}",
    "## Examples",
    "#### deep",
    "###### F {#f}",
    "- item {#c outcome=refuse}",
    "  - nested {#d}",
    "* other {#h .red}",
    '- [c] refuse: "p" — w',
    "\t- tab",
    "1. one {#o}",
    "para {#e}",
    "{#g}",
    "> quote {#q}",
    "> # quoted",
    "plain text",
    "text  ",
    "    indented",
    "```",
    "~~~xml",
    "# fence {#no}",
    "---",
    "===",
    "* * *",
    "[x]: y",
    "<b>",
    "<!-- open",
    "-->",
    "title: x",
    "a\u2028b {#u}",
]
SOURCE = st.lists(st.sampled_from([*LINES, "", "", ""]), max_size=14).map("\n".join)


@given(SOURCE)
@settings(max_examples=150, deadline=None)
def test_any_markdown_reads_and_survives_a_copy(source: str) -> None:
    """Whatever the document, reading never fails; where it has one meaning, a copy in our layout keeps it."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "policy.md")
        path.write_text(source, encoding="utf-8")
        parsed = parse_spec(path)
        last = source.count("\n") + 1
        assert all(finding.line is None or 1 <= finding.line <= last for finding in parsed.findings)
        codes = {finding.code for finding in parsed.findings}
        if codes & {"duplicate-anchor", "duplicate-category", "front-matter", "no-category"}:
            with pytest.raises(SpecError):
                load_spec(path)
        else:
            copy = write_spec(parsed.spec, Path(folder, "copy"))
            assert load_spec(copy).content() == parsed.spec.content()


@pytest.mark.parametrize("name", libraries())
def test_a_packaged_library_survives_a_copy(name: str, tmp_path: Path) -> None:
    spec = load_spec(name)
    copy = load_spec(write_spec(spec, tmp_path))
    assert copy.digest == spec.digest
    assert copy.content() == spec.content()
    assert copy.root != spec.root
    assert len(seed_files(spec)) >= len(spec.categories)
    assert seed_files(copy) == []


def test_order_of_categories_and_files_with_equal_names_survive(tmp_path: Path) -> None:
    ids = ["zeta", "A", "a", "a:b", "a_b"]
    spec = Spec(id="s", title="S", categories=tuple(Category(id=name, title=name) for name in ids))
    copy = load_spec(write_spec(spec, tmp_path))
    assert [category.id for category in copy.categories] == ids
    names = [name.lower() for name in spec_files(spec)]
    assert len(set(names)) == len(names)


def test_writing_again_removes_categories_that_are_gone_and_leaves_other_files(tmp_path: Path) -> None:
    spec = load_spec("support")
    write_spec(spec, tmp_path)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "refunds.jsonl").write_text("{}\n")
    smaller = spec.model_copy(update={"categories": spec.categories[1:], "style": ()})
    write_spec(smaller, tmp_path)
    assert load_spec(tmp_path).content() == smaller.content()
    assert not (tmp_path / "style.md").exists()
    assert (tmp_path / "prompts" / "refunds.jsonl").exists()


def test_a_policy_the_layout_cannot_express_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    clause = Clause(anchor="a", text="Two rules in one. {#b}", category="c")
    spec = Spec(id="s", title="S", categories=(Category(id="c", title="C", sections=(Section(clauses=(clause,)),)),))
    with pytest.raises(SpecError, match=r"read back differently at the spec › categories › c › sections"):
        write_spec(spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written"):
        write_spec(load_spec("support"), tmp_path / "file" / "out")
