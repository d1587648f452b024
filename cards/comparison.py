"""A comparison as a page: Markdown, one HTML file, plots. The numbers come ready; nothing is computed here."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specdistill.cards.comparison_plots import CAPTIONS, comparison_plots
from specdistill.cards.text import Safe, code, decimals, render
from specdistill.errors import UsageError
from specdistill.schemas.files import write_whole

Page = Mapping[str, Any]
RECORD = "comparison.json"
"""By this file a folder is known as a comparison."""

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0;font-size:.9rem;display:block;overflow-x:auto}"
    "td,th{border:1px solid #ddd;padding:.3rem .6rem;vertical-align:top}th{background:#f5f5f5;text-align:left}"
    "img{max-width:100%}code{background:#f5f5f5;padding:.1em .3em}"
)


def write_comparison(page: Page, folder: Path) -> Path:
    """Write `README.md`, `index.html` (one file, plots inside), the plots and `comparison.json`.

    Returns:
        `README.md`.

    Raises:
        UsageError: the folder holds files and is no earlier comparison.
        DiskError: the folder cannot be written.
    """
    refuse_foreign(folder)
    plots = comparison_plots(page)
    # First, so that a folder in which we were stopped is known as ours.
    write_whole(folder / RECORD, (json.dumps(page, indent=1, ensure_ascii=False) + "\n").encode())
    for name in CAPTIONS:
        if f"{name}.png" not in plots:
            (folder / f"{name}.png").unlink(missing_ok=True)
    for name, data in plots.items():
        write_whole(folder / name, data)
    text = comparison_text(page, plots)
    write_whole(folder / "index.html", comparison_html(text, page["title"], plots).encode())
    write_whole(folder / "README.md", text.encode())
    return folder / "README.md"


def refuse_foreign(folder: Path) -> None:
    """Nothing of a user's own is written over.

    Raises:
        UsageError: the folder holds files and no comparison.json.
    """
    if not folder.is_dir() or (folder / RECORD).is_file():
        return
    found = sorted(path.name for path in folder.iterdir())
    if found:
        raise UsageError(
            f"This folder holds {found[0]}{f' and {len(found) - 1} more' if found[1:] else ''} and no {RECORD}: it is "
            "no earlier comparison, and its files are not written over.",
            "Name a new or empty folder with --out.",
            file=folder,
        )


def comparison_text(page: Page, plots: Mapping[str, bytes]) -> str:
    """The page in Markdown."""

    def plot(name: str) -> Safe:
        file = f"{name}.png"
        return Safe(f"![{CAPTIONS[name]}]({file})\n\n*{CAPTIONS[name]}*" if file in plots else "")

    names = [result["name"] for result in page["results"]]
    return render(
        "comparison.md.j2",
        page=page,
        plot=plot,
        metric_table=lambda rows: metric_table(rows, names, page["baseline"]),
        group_table=lambda rows: group_table(rows, names),
        token_table=token_table,
        number=number,
        points=points,
        variant_title=variant_title,
        seconds=seconds,
    )


def comparison_html(text: str, title: str, plots: Mapping[str, bytes]) -> str:
    """The Markdown as one HTML file that needs no other: plots are inside, no script, nothing fetched."""
    from html import escape

    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    for name, data in plots.items():
        body = body.replace(f'src="{name}"', f'src="data:image/png;base64,{base64.b64encode(data).decode()}"')
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )


def metric_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str], baseline: str) -> Safe:
    """Metrics down, results across; a difference under every value but the baseline's."""
    shown = [name for name in names if any(name in row["cells"] for row in rows)]
    lines = ["| metric | " + " | ".join(code(name) for name in shown) + " |", "| --- |" + " ---: |" * len(shown)]
    for row in rows:
        sign = {"higher": "↑", "lower": "↓"}.get(row["better"], "")
        cells = [cell_text(row["cells"].get(name), row["share"], name == baseline) for name in shown]
        lines.append(f"| {row['title']} {sign} | " + " | ".join(cells) + " |")
    return Safe("\n".join(lines))


def cell_text(cell: Mapping[str, Any] | None, share: bool, is_baseline: bool) -> str:
    """One value with its interval and its difference from the baseline, `on N` prompts where fewer were shared."""
    if cell is None:
        return "–"
    text = number(cell, share)
    gap = cell.get("difference")
    if is_baseline or not gap:
        return str(text)
    mark = {"better": "**better**", "worse": "**worse**", "differs": "differs", "not shown": "not shown"}
    fewer = f" on {gap['prompts']}" if gap["prompts"] < cell["prompts"] else ""
    return f"{text}; {points(gap, share)} {mark[gap['verdict']]}{fewer}"


def number(cell: Mapping[str, Any], share: bool = True) -> Safe:
    """A value with its interval: `93 % (88–97)`."""
    scale, unit = (100, " %") if share else (1, "")
    text = f"{decimals(scale * cell['value'], 0 if share else 1)}{unit}"
    if cell.get("low") is None:
        return Safe(text)
    places = 0 if share else 1
    return Safe(f"{text} ({decimals(scale * cell['low'], places)}–{decimals(scale * cell['high'], places)})")


def points(gap: Mapping[str, Any], share: bool = True) -> Safe:
    """A difference with its interval: `+93 (88 to 97)`."""
    scale, places = (100, 0) if share else (1, 1)
    text = f"{scale * gap['value']:+.{places}f}"
    if gap.get("low") is None:
        return Safe(text)
    return Safe(f"{text} ({scale * gap['low']:.{places}f} to {scale * gap['high']:.{places}f})")


def group_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Safe:
    """Groups down, results across."""
    shown = [name for name in names if any(name in row["cells"] for row in rows)]
    lines = ["| group | " + " | ".join(code(name) for name in shown) + " |", "| --- |" + " ---: |" * len(shown)]
    for row in rows:
        cells = [str(number(row["cells"][name], row["share"])) if name in row["cells"] else "–" for name in shown]
        lines.append(f"| {code(row['group'])} | " + " | ".join(cells) + " |")
    return Safe("\n".join(lines))


def token_table(rows: Sequence[Mapping[str, Any]]) -> Safe:
    """Tokens of an answer beside its scores."""
    metrics = list(dict.fromkeys(metric for row in rows for metric, cell in row["scores"].items() if cell))
    lines = ["| result | tokens | " + " | ".join(code(metric) for metric in metrics) + " |",
             "| --- | ---: |" + " ---: |" * len(metrics)]  # fmt: skip
    for row in rows:
        scores = [row["scores"].get(metric) for metric in metrics]
        shown = [str(number(cell)) if cell else "–" for cell in scores]
        lines.append(f"| {code(row['name'])} | {decimals(row['tokens'], 0)} | " + " | ".join(shown) + " |")
    return Safe("\n".join(lines))


def variant_title(variant: str) -> str:
    """A variant as a heading."""
    return {"*": "Worst case over all variants", "ood": "All transforms together"}.get(variant, f"Asked as {variant}")


def seconds(result: Mapping[str, Any], kind: str) -> Safe:
    """Seconds of training and evaluation together."""
    return decimals(result[kind] + ((result["training"] or {}).get(kind) or 0.0), 0)
