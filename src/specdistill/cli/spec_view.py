"""How `specdistill spec` shows diffs, coverage and imports in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.text import Text

    from specdistill.specs.diff import SpecDiff
    from specdistill.specs.importing import ImportReport
    from specdistill.specs.semver import Advice

_MOST_LISTED = 40
"""Most lines of a list in the terminal; `--json` gives all of them."""


def show_diff(console: Console, changes: SpecDiff, advice: Advice) -> None:
    """The changes side by side, then the version advice."""
    from rich import box
    from rich.table import Table

    from specdistill.specs.diff_text import advice_line, clause_lines

    before, after = changes.before, changes.after
    table = Table(
        f"before: {before.title} {before.version}",
        f"after: {after.title} {after.version}",
        box=box.SIMPLE_HEAD,
        expand=True,
        show_lines=True,
    )
    for column in table.columns:
        column.ratio = 1
    for change in changes.clauses:
        head = f"{' and '.join(change.kinds)}: [{change.anchor}]"
        _add(table, head, clause_lines(change.before), clause_lines(change.after))
    for part in changes.parts:
        _add(table, f"{part.kind}: {part.part}", part.before, part.after)
    if table.rows:
        console.print(table)
    console.print(_plain(advice_line(advice)), soft_wrap=True)


def _add(table: object, head: str, before: str, after: str) -> None:
    """One change as a row of two cells with the changed words marked."""
    from rich.table import Table
    from rich.text import Text

    from specdistill.specs.diff_text import word_runs

    left, right = Text(), Text()
    for cell in (left, right):
        cell.append(head + "\n", style="bold")
    for run in word_runs(_shown(before), _shown(after)):
        if run.side != "after":
            left.append(run.text, style="red strike" if run.side == "before" else "")
        if run.side != "before":
            right.append(run.text, style="green underline" if run.side == "after" else "")
    if isinstance(table, Table):
        table.add_row(left, right)


def show_coverage(console: Console, covered: pl.DataFrame, strays: pl.DataFrame, accepted: int) -> None:
    """Rows a clause by outcome, what nobody cites, and what is cited but should not be."""
    from rich.table import Table

    from specdistill.specs.coverage import OUTCOMES, uncovered

    names = [outcome.value for outcome in OUTCOMES]
    table = Table("clause", "outcome", "rows", *names, "share of category", box=None, pad_edge=False)
    for column in table.columns[:2]:
        column.no_wrap = True
    for row in covered.iter_rows(named=True):
        share = "" if row["share"] is None else f"{row['share']:.0%}"
        style = "red" if row["rows"] == 0 and row["category"] else ""
        numbers = [f"{row[name]:,}" for name in ("rows", *names)]
        table.add_row(_plain(row["anchor"]), row["outcome"], *numbers, share, style=style)
    console.print(table)
    bare = uncovered(covered)
    looked = covered.filter(covered["category"].is_not_null()).height
    which = f": {', '.join(bare['anchor'].to_list())}" if bare.height else ""
    console.print(
        f"{accepted:,} accepted rows; {bare.height} of {looked} clauses are cited by none{which}.", soft_wrap=True
    )
    if strays.height:
        listed = Table("cited", "problem", "category of the row", "rows", box=None, pad_edge=False)
        for row in strays.head(_MOST_LISTED).iter_rows(named=True):
            listed.add_row(_plain(row["anchor"]), row["problem"], _plain(row["category"]), f"{row['rows']:,}")
        console.print(listed)


def show_import(console: Console, report: ImportReport) -> None:
    """What was imported, and every place a person should look at."""
    spec = report.spec
    for finding in report.unresolved:
        console.print(_plain(str(finding)), soft_wrap=True)
    counts = {code: sum(f.code == code for f in report.unresolved) for code in ("no-anchor", "no-outcome")}
    console.print(
        f"{len(spec.anchors)} clauses in {len(spec.categories)} categories written to {report.folder}; "
        f"{counts['no-anchor']} passages without an anchor, {counts['no-outcome']} clauses without an outcome, "
        f"{len(report.unresolved) - sum(counts.values())} other remarks.",
        soft_wrap=True,
    )


def _plain(text: str) -> Text:
    """Text without markup, so that `[SH-R1]` stays what it is."""
    from rich.text import Text

    return Text(_shown(text))


def _shown(text: str) -> str:
    """Control characters of somebody's document as escapes."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\u{ord(char):04x}" for char in text)
