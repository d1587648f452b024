"""Two versions of a policy: all six kinds of change, what becomes stale, and what the version should be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from spec_strategies import specs, text
from typer.testing import CliRunner

from specdistill.cli.spec import app
from specdistill.errors import SpecError
from specdistill.specs.diff import ChangeKind, diff, stale_categories
from specdistill.specs.diff_text import diff_markdown, word_runs
from specdistill.specs.layout import write_spec
from specdistill.specs.loader import load_spec
from specdistill.specs.model import Spec
from specdistill.specs.render import render
from specdistill.specs.semver import Level, advise, next_version
from specdistill.specs.versions import open_version

GOLDEN = Path(__file__).parent / "golden"

BEFORE = {
    "spec.md": "---\nid: garden\ntitle: Garden policy\nversion: 1.2.3\nlicence: MIT\n---\nAbout gardens.\n",
    "categories/beds.md": """\
---
id: beds
title: Beds
summary: What grows.
---
## Definitions

- **Bed**: earth with an edge.

## Comply

### Roses {#BE-C1}

Roses may grow anywhere.

### Herbs {#BE-C2}

Herbs may grow near the kitchen.

### Mint {#BE-C3}

Mint may grow in a pot.

### Weeds {#BE-C4}

Weeds may stay a week.

## Refuse

### Salt {#BE-R1}

Never salt the earth.
""",
    "categories/paths.md": """\
---
id: paths
title: Paths
summary: Where to walk.
---
## Comply

### Gravel {#PT-C1}

Gravel is fine.

### Shoes {#PT-C2}

Shoes off on the grass, see [BE-R1].
""",
    "categories/pond.md": "---\nid: pond\ntitle: Pond\nsummary: Water.\n---\n## Comply\n\n### Fish {#PO-C1}\n\nFeed.\n",
}

AFTER = BEFORE | {
    "categories/beds.md": """\
---
id: beds
title: Beds
summary: What grows.
---
## Definitions

- **Bed**: earth with a low edge.

## Comply

### Herbs {#BE-C2}

Herbs may grow near the kitchen door.

### Roses {#BE-C1}

Roses may grow anywhere.

### Mint {#BE-C9}

Mint may grow in a pot.

### Moss {#BE-C5}

Moss may stay.

## Safe-complete

### Salt {#BE-R1}

Never salt the earth.
""",
    "categories/paths.md": """\
---
id: paths
title: Paths
summary: Where to walk.
---
## Comply

### Shoes {#PT-C2}

Shoes off on the grass, see [BE-R1].
""",
    "categories/pond.md": """\
---
id: pond
title: Pond
summary: Water.
---
## Comply

### Fish {#PO-C1}

Feed.

### Gravel {#PT-C1}

Gravel is fine.
""",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "before", BEFORE), write(tmp_path / "after", AFTER)


def test_all_six_kinds_of_change_are_told_apart(both: tuple[Path, Path]) -> None:
    changes = diff(load_spec(both[0]), load_spec(both[1]))
    kinds = {change.anchor: [str(kind) for kind in change.kinds] for change in changes.clauses}
    assert kinds == {
        "BE-C2": ["reworded", "moved"],
        "BE-C9": ["renamed"],
        "BE-C5": ["added"],
        "BE-R1": ["re-outcomed"],
        "PT-C1": ["moved"],
        "BE-C4": ["removed"],
    }
    assert {kind for change in changes.clauses for kind in change.kinds} == set(ChangeKind)
    (renamed,) = changes.of_kind(ChangeKind.RENAMED)
    assert renamed.before is not None
    assert renamed.before.anchor == "BE-C3"
    assert [(part.part, part.kind) for part in changes.parts] == [("beds: Definitions", ChangeKind.REWORDED)]


def test_stale_categories_are_those_whose_text_changed_each_with_its_reasons(both: tuple[Path, Path]) -> None:
    before, after = load_spec(both[0]), load_spec(both[1])
    stale = stale_categories(before, after)
    assert stale == {
        "beds": [
            "reworded and moved: [BE-C2]",
            "renamed: [BE-C9]",
            "added: [BE-C5]",
            "re-outcomed: [BE-R1]",
            "removed: [BE-C4]",
            "reworded: beds: Definitions",
        ],
        "paths": ["re-outcomed: [BE-R1]", "moved: [PT-C1]"],
        "pond": ["moved: [PT-C1]"],
    }
    one = write(both[0].parent / "one", BEFORE | {"categories/pond.md": BEFORE["categories/pond.md"] + "More.\n"})
    assert stale_categories(before, load_spec(one)) == {"pond": ["reworded: [PO-C1]"]}
    summary = BEFORE["categories/pond.md"].replace("Water.", "Water and fish.")
    everywhere = stale_categories(before, load_spec(write(one, {"categories/pond.md": summary})))
    assert everywhere == {name: ["reworded: pond: summary"] for name in ("beds", "paths", "pond")}


@given(specs(), specs())
@settings(max_examples=25, deadline=None)
def test_a_category_is_stale_exactly_when_its_rendered_text_is_another(before: Spec, after: Spec) -> None:
    assert not diff(before, before)
    stale = stale_categories(before, after)
    known = {category.id for category in after.categories}
    for category in before.categories:
        same = category.id in known and (render(before, category.id).digest == render(after, category.id).digest)
        assert (category.id in stale) is not same
        assert stale.get(category.id) != []


@pytest.mark.parametrize(
    ("edit", "level", "needed"),
    [
        ({}, Level.NONE, "1.2.3"),
        ({"categories/pond.md": ("Feed.", "Feed daily.")}, Level.PATCH, "1.2.4"),
        ({"spec.md": ("About gardens.", "On gardens.")}, Level.PATCH, "1.2.4"),
        ({"categories/pond.md": ("Feed.", "Feed.\n\n### Frogs {#PO-C2}\n\nListen.")}, Level.MINOR, "1.3.0"),
        ({"categories/pond.md": ("## Comply", "## Refuse")}, Level.MAJOR, "2.0.0"),
        ({"categories/pond.md": ("PO-C1", "PO-C7")}, Level.MAJOR, "2.0.0"),
        ({"categories/pond.md": ("### Fish {#PO-C1}\n\nFeed.\n", "")}, Level.MAJOR, "2.0.0"),
    ],
)
def test_version_advice(edit: dict[str, tuple[str, str]], level: Level, needed: str, tmp_path: Path) -> None:
    after = {
        name: text_.replace(*edit.get(name, ("", ""))) if name in edit else text_ for name, text_ in BEFORE.items()
    }
    changes = diff(load_spec(write(tmp_path / "a", BEFORE)), load_spec(write(tmp_path / "b", after)))
    advice = advise(changes)
    assert (advice.level, advice.needed, advice.enough) == (level, needed, level is Level.NONE)


def test_version_advice_of_categories_moves_and_stated_versions(both: tuple[Path, Path]) -> None:
    before = load_spec(both[0])
    fewer = before.model_copy(update={"categories": before.categories[:2], "version": "2.0.0"})
    gone = advise(diff(before, fewer))
    assert (gone.level, gone.enough) == (Level.MAJOR, True)
    assert "category pond removed" in gone.reasons
    more = advise(diff(fewer, before.model_copy(update={"version": "2.1"})))
    assert (more.level, more.needed, more.enough) == (Level.MINOR, "2.1.0", True)
    odd = advise(diff(before.model_copy(update={"version": "spring"}), fewer))
    assert (odd.needed, odd.enough) == (None, None)


def test_next_versions() -> None:
    assert [next_version("v1.9", level) for level in Level] == ["1.9.0", "1.9.1", "1.10.0", "2.0.0"]
    assert next_version("2024-05-01", Level.PATCH) is None


@given(text, text)
@settings(max_examples=80)
def test_word_runs_give_back_both_texts(before: str, after: str) -> None:
    runs = word_runs(before, after)
    assert "".join(run.text for run in runs if run.side != "after") == before
    assert "".join(run.text for run in runs if run.side != "before") == after


def test_the_markdown_page_is_the_golden_one(both: tuple[Path, Path]) -> None:
    changes = diff(load_spec(both[0]), load_spec(both[1]))
    assert diff_markdown(changes, advise(changes)) == (GOLDEN / "spec_diff.md").read_text()


def test_the_command_shows_it_side_by_side_as_markdown_and_as_json(both: tuple[Path, Path]) -> None:
    names = [str(path) for path in both]
    runner = CliRunner(env={"COLUMNS": "100"})
    shown = runner.invoke(app, ["diff", *names])
    assert shown.exit_code == 0
    assert any(
        "Herbs may grow near the kitchen." in line and "Herbs may grow near the kitchen" in line.split("kitchen.")[1]
        for line in shown.stdout.splitlines()
    )
    assert "the version should be 2.0.0 or later, not 1.2.3" in shown.stdout
    assert "become stale: beds, paths, pond" in shown.stderr
    page = runner.invoke(app, ["diff", *names, "--markdown"]).stdout
    assert page == (GOLDEN / "spec_diff.md").read_text()
    data = json.loads(runner.invoke(app, ["diff", *names, "--json"]).stdout)
    assert data["counts"] == dict.fromkeys(["added", "removed", "renamed", "re-outcomed", "reworded"], 1) | {"moved": 2}
    assert data["advice"]["needed"] == "2.0.0"
    assert runner.invoke(app, ["diff", *names, "--check"]).exit_code == 1
    assert runner.invoke(app, ["diff", names[0], names[0], "--check"]).exit_code == 0


def test_versions_from_git_runs_and_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = write(tmp_path / "repo" / "policy", BEFORE).parent
    (repository / "long.md").write_text("## Refuse\n### No {#L1}\nNever.\n")

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=repository, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1")
    write(repository / "policy", AFTER)
    monkeypatch.chdir(repository)
    old = open_version("v1:policy")
    assert old.content() == load_spec(write(tmp_path / "b", BEFORE)).content()
    assert open_version("policy").content() == load_spec(write(tmp_path / "a", AFTER)).content()
    assert old.by_anchor["BE-C1"].file == "v1:policy/categories/beds.md"
    assert open_version("HEAD:./long.md").by_anchor["L1"].text == "Never."
    for folder in (repository / "policy", repository / "new"):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        assert open_version("v1:policy").content() == old.content(), "from any folder of the repository"
    monkeypatch.chdir(repository / "policy")
    assert open_version("v1:.").content() == old.content()
    monkeypatch.chdir(repository)
    write_spec(old, tmp_path / "run" / "spec")
    assert open_version(str(tmp_path / "run")).content() == old.content()
    assert open_version("safety").id == "safety"
    with pytest.raises(SpecError, match=r"There is no spec 'v9:policy': git says"):
        open_version("v9:policy")
    with pytest.raises(SpecError, match="no git revision"):
        open_version("--output=x:policy")
    with pytest.raises(SpecError, match="There is no spec 'nothing'"):
        open_version("nothing")


def test_a_release_on_a_hub_that_does_not_answer_is_an_error_not_a_cached_policy() -> None:
    code = "from specdistill.specs.versions import open_version; open_version('hub:org/name@v1.0.0')"
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "SpecError: The spec of 'hub:org/name@v1.0.0' cannot be fetched" in done.stderr
