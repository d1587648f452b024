"""Taking over policies that were not written for us, short and long."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from specdistill.cli.spec import app
from specdistill.errors import DiskError, SpecError, UsageError
from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.importing import import_spec
from specdistill.specs.loader import load_spec

HARBOUR = Path(__file__).parent / "data" / "spec_harbour.md"


def anchors_of(markdown: str) -> list[str]:
    """Anchors of a document by the simplest reading there is: outside fences, `{#anchor …}` at the end of a line."""
    outside = re.sub(r"^(~~~|```).*?^\1", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\{#([\w.:-]+)[^}]*\}$", outside, re.MULTILINE)


def test_a_document_in_the_public_convention_imports_with_every_anchor(tmp_path: Path) -> None:
    report = import_spec(HARBOUR, tmp_path / "out")
    spec = load_spec(tmp_path / "out")
    assert spec.content() == report.spec.content()
    kept = {*spec.anchors, *(category.id for category in spec.categories)}
    assert kept == set(anchors_of(HARBOUR.read_text()))
    assert [category.id for category in spec.categories] == ["how_rules_work", "safety_first", "be_brief"]
    rules = spec.by_anchor
    assert {anchor: rules[anchor].outcome for anchor in rules if rules[anchor].outcome is not Outcome.UNSPECIFIED} == {
        "ask_when_in_doubt": Outcome.SAFE_COMPLETE,
        "give_weather": Outcome.COMPLY,
        "give_hours": Outcome.COMPLY,
        "never_open_lock": Outcome.REFUSE,
        "be_brief": Outcome.COMPLY,
    }
    assert rules["order_of_authority"].attributes == {"authority": "root"}
    assert "# A story of the tide {#no_anchor}" in rules["order_of_authority"].text
    assert rules["read_between_lines"].references == ("order_of_authority", "safety_first")
    assert rules["one_question"].text == "Ask one question, not five. A rule in a paragraph of its own."
    assert rules["give_hours"].text == "Opening hours too\n- of the lock\n- of the fuel dock"
    assert "Two boats were lost once." in rules["never_open_lock"].text
    assert (spec.title, spec.id) == ("The harbour assistant", "spec-harbour")
    assert spec.overview == "These rules say how the harbour assistant behaves. They hold for every conversation."


def test_the_report_names_every_gap_with_its_line(tmp_path: Path) -> None:
    report = import_spec(HARBOUR, tmp_path / "out")
    lines = HARBOUR.read_text().split("\n")
    gaps = [(finding.code, lines[(finding.line or 1) - 1]) for finding in report.unresolved]
    assert gaps == [
        ("no-front-matter", "# The harbour assistant"),
        ("no-anchor", "Rules have an authority. A rule of higher authority wins over one of lower authority."),
        ("no-outcome", "## Follow the order of authority {#order_of_authority authority=root}"),
        ("no-outcome", "## Read between the lines {#read_between_lines authority=user}"),
        ("no-outcome", lines[37]),
        ("no-anchor", "## Tone"),
        ("no-anchor", "# Acknowledgements"),
    ]
    leftovers = (tmp_path / "out" / "unplaced.md").read_text()
    assert "spec_harbour.md, line" in leftovers
    assert "Thanks to all who kept watch." in leftovers


def long_policy(seed: int = 0) -> tuple[str, dict[str, tuple[str, str]]]:
    """A made-up policy of about 300 kB, and its rules: anchor to (category, authority)."""
    chance = random.Random(seed)
    nouns = [
        "boat",
        "crane",
        "crew",
        "quay",
        "rope",
        "signal",
        "cargo",
        "tide",
        "pilot",
        "lamp",
        "chart",
        "bell",
        "hull",
    ]
    verbs = ["check", "move", "report", "lift", "hold", "clear", "mark", "count", "open", "close", "repair", "watch"]

    def sentence() -> str:
        picked = [chance.choice(nouns) for _ in range(4)]
        return f"The assistant may {chance.choice(verbs)} the {picked[0]} when the {picked[1]} is near the {picked[2]}."

    rules: dict[str, tuple[str, str]] = {}
    parts = ["# Harbour rules, the long form\n\n" + " ".join(sentence() for _ in range(5))]
    names: list[str] = []
    number = 0
    while sum(map(len, parts)) < 300_000:
        category = f"part_{len(parts)}"
        parts.append(f"## Part {len(parts)} {{#{category}}}\n\n{sentence()}")
        for _ in range(chance.randint(6, 14)):
            number += 1
            anchor = f"rule_{number}_{chance.choice(nouns)}"
            authority = chance.choice(["root", "system", "developer", "user", "guideline"])
            rules[anchor] = (category, authority)
            level = chance.choice(["###", "####"])
            link = f" See [another]({'#' + chance.choice(names)})." if names else ""
            body = "\n\n".join(" ".join(sentence() for _ in range(chance.randint(2, 9))) for _ in range(3))
            example = (
                f"\n\n~~~xml\n<user>\n## {sentence()} {{#x{number}}}\n</user>\n~~~" if chance.random() < 0.4 else ""
            )
            head = f"{level} Rule number {number} {{#{anchor} authority={authority}}}"
            parts.append(f"{head}\n\n{body}{link}{example}\n\n- {sentence()}\n- {sentence()}")
            names.append(anchor)
    return "\n\n".join(parts) + "\n", rules


def test_a_document_of_300_kilobytes_keeps_every_anchor_attribute_and_word(tmp_path: Path) -> None:
    source, rules = long_policy()
    assert len(source) > 300_000
    (tmp_path / "long.md").write_text(source)
    spec = import_spec(tmp_path / "long.md", tmp_path / "out").spec
    found = {c.anchor: (c.category, c.attributes["authority"]) for c in spec.clauses}
    assert found == rules
    words = re.findall(r"The assistant may [^.]*\.", source)
    kept = [spec.overview, *(s.text for _, s in spec.parts()), *(c.text for c in spec.clauses)]
    assert sorted(re.findall(r"The assistant may [^.]*\.", "\n".join(kept))) == sorted(words)


def test_a_folder_of_files_imports_too(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "refunds.md").write_text(
        "---\nversion: 2.0.0\nlicence: MIT\n---\n# Refunds\n## Refuse\n### No {#R1}\nx\n"
    )
    (source / "returns.md").write_text("# Returns\n## Comply\n- Take it back. {#T1}\n")
    spec = import_spec(source, tmp_path / "out").spec
    assert (spec.id, spec.version, spec.licence) == ("in", "2.0.0", "MIT")
    assert {clause.anchor: clause.outcome for clause in spec.clauses} == {"R1": "refuse", "T1": "comply"}


def test_what_cannot_be_imported_says_why_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "a.md").write_text("## Refuse\n### A {#a}\nx\n### B {#a}\ny\n### C {#a}\nz\n")
    with pytest.raises(SpecError, match=r"a\.md:4: .*line 4: Anchor 'a' is taken .*line 6: Anchor 'a'"):
        import_spec(tmp_path / "a.md", out)
    (tmp_path / "b.md").write_text("# Nothing\n\nto cite\n")
    with pytest.raises(SpecError, match="no anchored rule"):
        import_spec(tmp_path / "b.md", out)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="is not empty"):
        import_spec(HARBOUR, out)
    assert import_spec(HARBOUR, out, overwrite=True).spec.categories
    assert (out / "mine.txt").read_text() == "keep"
    with pytest.raises(UsageError, match="is not empty"):
        import_spec(HARBOUR, out / "mine.txt")
    with pytest.raises(DiskError, match="cannot be written"):
        import_spec(HARBOUR, out / "mine.txt" / "deeper")


def test_the_command_reports_gaps_for_people_and_machines(tmp_path: Path) -> None:
    runner = CliRunner(env={"COLUMNS": "200"})
    shown = runner.invoke(app, ["import", str(HARBOUR), "--to", str(tmp_path / "a")])
    assert shown.exit_code == 0
    assert f"{HARBOUR}:9: warning no-outcome: Clause 'order_of_authority'" in shown.stdout.replace("\n", " ")
    assert "8 clauses in 3 categories" in shown.stdout
    data = json.loads(runner.invoke(app, ["import", str(HARBOUR), "--to", str(tmp_path / "b"), "--json"]).stdout)
    assert data["clauses"] == list(load_spec(tmp_path / "b").anchors)
    assert len(data["unresolved"]) == 7
