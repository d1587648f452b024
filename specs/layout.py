"""Writing a policy as a folder of our layout, such that reading it gives the same policy again.

spec.md                front matter id, title, version, licence, authors; the overview
style.md               how to comply, refuse and safe-complete
categories/ID.md       front matter id, title, summary; sections; clauses `### Title {#anchor key=value}`
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from specdistill.errors import DiskError, SpecError
from specdistill.schemas.files import write_whole
from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.loader import CATEGORIES, OVERVIEW, STYLE, load_spec
from specdistill.specs.model import Category, Clause, Example, Section, Spec
from specdistill.specs.sections import default_outcome
from specdistill.specs.words import SectionKind, kind_of_heading

_PLAIN_VALUE = re.compile(r"^[^\s\"'{}]+$")


def write_spec(spec: Spec, folder: str | Path) -> Path:
    """Write a policy to a folder; other category files there are removed, all else is left alone.

    Returns:
        The folder: `load_spec(write_spec(spec, folder)).content() == spec.content()`.

    Raises:
        SpecError: the policy holds something that would read back as another policy.
        DiskError: the folder cannot be written.
    """
    root = Path(folder)
    files = spec_files(spec)
    with TemporaryDirectory() as scratch:  # so that a folder never holds another policy than it was given
        _put(files, Path(scratch))
        if where := _difference(spec.content(), load_spec(Path(scratch)).content()):
            raise SpecError(
                f"This spec would read back differently at {where}.",
                "Look there for Markdown that means something else at the start or end of a clause.",
                file=spec.root,
            )
    _put(files, root, whole=True)
    return root


def _put(files: dict[str, str], root: Path, *, whole: bool = False) -> None:
    """Write the files; `whole` for a folder that must survive a crash: no file is ever half there."""
    try:
        for name, text in files.items():
            path, data = root / name, text.encode("utf-8")
            path.parent.mkdir(parents=True, exist_ok=True)
            if not whole:
                path.write_bytes(data)
            elif not path.is_file() or path.read_bytes() != data:
                write_whole(path, data)
        for old in (root / CATEGORIES).glob("*.md"):
            if f"{CATEGORIES}/{old.name}" not in files:
                old.unlink()
        if STYLE not in files:
            (root / STYLE).unlink(missing_ok=True)
    except DiskError:  # from `write_whole`, which says it all
        raise
    except OSError as exc:
        cause = f"The spec cannot be written to {root}: {exc.strerror or exc}."
        raise DiskError(cause, "Free some space or name another folder.") from exc
    except UnicodeEncodeError as exc:
        raise SpecError("The spec holds text that is no UTF-8.", "Replace the lone surrogates.") from exc


def spec_files(spec: Spec) -> dict[str, str]:
    """Path in the folder to text, for every file of a policy."""
    ids = [category.id for category in spec.categories]
    names = _file_names(ids)
    front: dict[str, Any] = {"id": spec.id, "title": spec.title, "version": spec.version}
    if spec.licence is not None:
        front["licence"] = spec.licence
    if spec.authors:
        front["authors"] = list(spec.authors)
    if [names[name] for name in ids] != sorted(names[name] for name in ids):
        front["categories"] = ids
    files = {OVERVIEW: _file(front, [spec.overview])}
    if spec.style or spec.style_title != "Style":
        files[STYLE] = _file({"kind": "style", "title": spec.style_title}, _sections(spec.style))
    for category in spec.categories:
        files[f"{CATEGORIES}/{names[category.id]}"] = category_file(category)
    return files


def category_file(category: Category) -> str:
    """The text of one category's file."""
    front = {"id": category.id, "title": category.title, "summary": category.summary}
    return _file({key: value for key, value in front.items() if value}, _sections(category.sections))


def _file(front: dict[str, Any], blocks: list[str]) -> str:
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=10**9)
    return f"---\n{head}---\n" + "".join(f"\n{block}\n" for block in blocks if block)


def _file_names(ids: list[str]) -> dict[str, str]:
    """A distinct file name for every id, also on systems that ignore case."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name in ids:
        base = re.sub(r"[^\w.-]", "_", name)[:120].lstrip(".") or "category"
        chosen, number = base, 2
        while chosen.lower() in taken:
            chosen, number = f"{base}-{number}", number + 1
        taken.add(chosen.lower())
        names[name] = f"{chosen}.md"
    return names


def _sections(sections: tuple[Section, ...]) -> list[str]:
    """The sections as Markdown blocks. Clauses stand one level below sections, alone at level 2."""
    alone = len(sections) == 1 and not sections[0].title and sections[0].kind is SectionKind.OTHER
    blocks: list[str] = []
    for number, section in enumerate(sections):
        if number or section.title or section.kind is not SectionKind.OTHER:
            blocks.append(_section_heading(section))
        blocks += [section.text, "\n".join(_example(example) for example in section.examples)]
        for clause in section.clauses:
            blocks += [_clause_heading(clause, section, "##" if alone else "###"), clause.text]
    return [block for block in blocks if block]


def _section_heading(section: Section) -> str:
    attributes = "" if kind_of_heading(section.title) is section.kind and section.title else f"{{kind={section.kind}}}"
    return " ".join(part for part in ("##", section.title, attributes) if part)


def _clause_heading(clause: Clause, section: Section, mark: str) -> str:
    values = dict(sorted(clause.attributes.items()))
    if default_outcome(section.kind, section.title, clause.title, clause.text) is not clause.outcome:
        values = {"outcome": Outcome(clause.outcome).value} | values
    block = " ".join([f"#{clause.anchor}", *(f"{key}={_value(value)}" for key, value in values.items())])
    return " ".join(part for part in (mark, clause.title, f"{{{block}}}") if part)


def _value(value: str) -> str:
    if _PLAIN_VALUE.match(value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def _example(example: Example) -> str:
    why = f" — {example.why}" if example.why else ""
    return f'- [{example.anchor}] {example.outcome}: "{example.prompt}"{why}'


def _difference(ours: Any, theirs: Any, at: str = "the spec") -> str:
    """Where two contents first differ, in words; empty if they do not."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours | theirs:
            if found := _difference(ours.get(key), theirs.get(key), f"{at} › {key}"):
                return found
        return ""
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            name = pair[0].get("anchor") or pair[0].get("id") or number if isinstance(pair[0], dict) else number
            if found := _difference(*pair, f"{at} › {name}"):
                return found
        return ""
    return "" if ours == theirs else at
