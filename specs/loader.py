"""Where a policy comes from: a packaged library, a folder in our layout, any folder or file."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from specdistill.errors import SpecError
from specdistill.specs.findings import Finding, in_order
from specdistill.specs.front import CATEGORY_KEYS, SPEC_KEYS, STYLE_KEYS, front_findings, spec_head, word
from specdistill.specs.markdown import Document, read_document
from specdistill.specs.model import Category, Clause, Section, Spec
from specdistill.specs.passage import passage
from specdistill.specs.references import cited
from specdistill.specs.sections import read_sections
from specdistill.specs.split import Split, Unplaced, slug, split_document, title_block

OVERVIEW, STYLE, CATEGORIES, SEEDS = "spec.md", "style.md", "categories", "prompts"
"""The names of our layout."""

_PLAIN_ID = re.compile(r"[^\s/\\+.][^/\\+]{0,119}")
_RAISED = ("duplicate-anchor", "duplicate-category", "category-id", "front-matter", "no-category")
"""Faults that leave no one meaning; everything else loads and is left to lint."""


@dataclass(frozen=True)
class Parsed:
    """A policy as read, with everything the parser has to say about it."""

    spec: Spec
    findings: tuple[Finding, ...]
    unplaced: tuple[Unplaced, ...] = field(default=())


def libraries() -> list[str]:
    """Names of the packaged spec libraries."""
    here = Path(__file__).parent
    return sorted(folder.name for folder in here.iterdir() if (folder / OVERVIEW).is_file())


def load_spec(source: str | Path) -> Spec:
    """A policy from a library name (`safety`), a folder, or a Markdown file.

    A bare name of a packaged library always means the library; write `./safety` for a folder of that name.

    Raises:
        SpecError: nothing is there, it cannot be read, or it does not say one thing (an anchor or category id
            twice, front matter that is no YAML). Everything else loads; `lint` reports it.
    """
    parsed = parse_spec(source)
    wrong = [finding for finding in parsed.findings if finding.code in _RAISED]
    if wrong:
        first = wrong[0]
        more = f" ({len(wrong) - 1} more such faults)" if len(wrong) > 1 else ""
        raise SpecError(
            first.message + more,
            "`specdistill spec lint` lists every fault.",
            file=first.file,
            line=first.line,
        )
    return parsed.spec


def parse_spec(source: str | Path) -> Parsed:
    """As `load_spec`, with the faults as findings. Only what cannot be read at all raises.

    Raises:
        SpecError: nothing is there, or it is not UTF-8 text.
    """
    path = _locate(source)
    if path.is_file():
        parsed = _from_files([path], path)
    elif (path / OVERVIEW).is_file():
        parsed = _from_layout(path)
    else:
        files = sorted(file for file in path.rglob("*.md") if not _hidden(file, path))
        if not files:
            raise SpecError(
                "This folder holds no Markdown file.",
                f"Name a folder with {OVERVIEW}, or a .md file.",
                file=path,
            )
        parsed = _from_files(files, path)
    spec = linked(parsed.spec)
    findings = [*parsed.findings, *_duplicates(spec), *_bad_ids(spec)]
    if not spec.categories:
        findings.append(Finding(str(path), None, "no-category", "The policy has no category."))
    return replace(parsed, spec=spec, findings=tuple(in_order(findings)))


def seed_files(spec: Spec) -> list[Path]:
    """The seed prompts that lie beside the policy (`prompts/*.jsonl`), sorted; empty if it has none."""
    if spec.root is None:
        return []
    return sorted((Path(spec.root) / SEEDS).glob("*.jsonl"))


def linked(spec: Spec) -> Spec:
    """The same policy with every clause's `references` read from its text."""
    known = {*spec.anchors, *(category.id for category in spec.categories)}

    def relink_clause(clause: Clause) -> Clause:
        found = tuple(anchor for anchor in cited(clause.text, known) if anchor != clause.anchor)
        return clause.model_copy(update={"references": found})

    def relink(sections: Sequence[Section]) -> tuple[Section, ...]:
        return tuple(
            section.model_copy(update={"clauses": tuple(relink_clause(clause) for clause in section.clauses)})
            for section in sections
        )

    return spec.model_copy(
        update={
            "style": relink(spec.style),
            "categories": tuple(
                category.model_copy(update={"sections": relink(category.sections)}) for category in spec.categories
            ),
        }
    )


def _locate(source: str | Path) -> Path:
    if isinstance(source, str) and source in (known := libraries()):
        return Path(__file__).parent / source
    path = Path(source)
    if not path.exists():
        raise SpecError(
            f"There is no spec '{source}'.",
            f"Name a packaged library ({', '.join(known) or 'none'}), a folder or a Markdown file."
            if isinstance(source, str)
            else "Name a folder or a Markdown file.",
        )
    return path


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _read(path: Path) -> Document:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as exc:
        line = path.read_bytes()[: exc.start].count(b"\n") + 1
        raise SpecError("The file is not UTF-8 text.", "Save it as UTF-8.", file=path, line=line) from exc
    except OSError as exc:
        raise SpecError(f"The file cannot be read: {exc.strerror}.", "Check its permissions.", file=path) from exc
    return read_document(text, str(path))


def _from_layout(root: Path) -> Parsed:
    overview = _read(root / OVERVIEW)
    findings = front_findings(overview, SPEC_KEYS, ("id", "title", "version", "licence"))
    title, start = _title(overview, root.name)
    style: tuple[Section, ...] = ()
    style_title = "Style"
    if (root / STYLE).is_file():
        document = _read(root / STYLE)
        style_title, begin = _title(document, style_title)
        style = read_sections(document, begin, len(document.lines), None)
        findings += document.findings + front_findings(document, STYLE_KEYS, ())
    categories = []
    for file in sorted((root / CATEGORIES).glob("*.md")):
        document = _read(file)
        categories.append(_one_category(document, file))
        findings += document.findings + front_findings(document, CATEGORY_KEYS, ("id", "title"))
    order = overview.front.get("categories") or []
    if isinstance(order, list):
        place = {str(name): number for number, name in enumerate(order)}
        categories.sort(key=lambda category: place.get(category.id, len(place)))
    findings += overview.findings
    spec = Spec(
        **spec_head(overview, root.name),  # type: ignore[arg-type]
        title=title,
        overview=passage("\n".join(overview.lines[start:])),
        style_title=style_title,
        style=style,
        categories=tuple(categories),
        root=str(root),
    )
    return Parsed(spec, tuple(findings))


def _title(document: Document, fallback: str) -> tuple[str, int]:
    """(title, 0-based first line of the body): a first `# Heading` is the title if nothing else is."""
    stated = word(document, "title")
    top = title_block(document)
    if top is not None and top.level == 1 and stated in ("", top.title):
        return top.title or fallback, top.end
    return stated or fallback, document.body_start


def _one_category(document: Document, file: Path) -> Category:
    """A category file of our layout."""
    name = word(document, "id") or file.stem
    title, start = _title(document, name)
    return Category(
        id=name,
        title=title,
        summary=word(document, "summary"),
        sections=read_sections(document, start, len(document.lines), name),
        file=str(file),
        line=1,
    )


def _from_files(files: Sequence[Path], root: Path) -> Parsed:
    """Any Markdown: `split_document` takes every file apart; the first front matter names the policy."""
    documents = [_read(file) for file in files]
    splits: list[Split] = []
    for file, document in zip(files, documents, strict=True):
        splits.append(split_document(document, slug(file.stem)))
    head = next((document for document in documents if "version" in document.front), documents[0])
    name = slug(root.stem if root.is_file() else root.resolve().name)
    alone = len(documents) == 1
    spec = Spec(
        **spec_head(head, name) | ({} if alone else {"id": name}),  # type: ignore[arg-type]
        title=splits[0].title if alone else root.resolve().name,
        overview="\n\n".join(split.overview for split in splits if split.overview),
        categories=tuple(category for split in splits for category in split.categories),
        root=str(root),
    )
    findings = [finding for document in documents for finding in document.findings]
    if not any(document.has_front for document in documents):
        findings.append(
            Finding(
                str(files[0]),
                1,
                "no-front-matter",
                "There is no front matter with id, title, version and licence.",
                "warning",
            )
        )
    return Parsed(spec, tuple(findings), tuple(item for split in splits for item in split.unplaced))


def _bad_ids(spec: Spec) -> list[Finding]:
    """Category ids that cannot be what they become: names of files, and labels that `+` joins."""
    return [
        Finding(
            category.file,
            category.line,
            "category-id",
            f"The category id {category.id[:60]!a} is no plain name: no '/', '\\\\', '+' or invisible characters, "
            "no '.' at its start.",
        )
        for category in spec.categories
        if not (_PLAIN_ID.fullmatch(category.id) and category.id.isprintable())
    ]


def _duplicates(spec: Spec) -> list[Finding]:
    places: dict[str, list[tuple[str | None, int | None]]] = defaultdict(list)
    for clause in spec.clauses:
        places[clause.anchor].append((clause.file, clause.line))
    found = [
        Finding(
            file,
            line,
            "duplicate-anchor",
            f"Anchor '{anchor}' is taken already at {first[0]}:{first[1]}.",
        )
        for anchor, (first, *others) in places.items()
        for file, line in others
    ]
    counts = Counter(category.id for category in spec.categories)
    seen: set[str] = set()
    for category in spec.categories:
        if counts[category.id] > 1 and category.id in seen:
            found.append(
                Finding(
                    category.file,
                    category.line,
                    "duplicate-category",
                    f"Category '{category.id}' exists twice.",
                )
            )
        seen.add(category.id)
    return found
