"""Capabilities rows mixed in at a ratio, so that safety training does not wash general skill out.

TRL's own mixture takes the first N rows of each set unshuffled and cannot pin a revision. Here the rows are a seeded
draw, and what was drawn from where is part of the lineage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specdistill.builders.file_source import file_rows
from specdistill.errors import PromptError, TrainError, UsageError
from specdistill.schemas.verify import file_digest
from specdistill.train.arguments import DataArguments
from specdistill.train.data import Source, cache_for, pin

if TYPE_CHECKING:
    import datasets

_ROW = "__row"
"""Column of a row's number in its source, while rows are drawn."""
_FILES = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}


def mix(
    rows: datasets.Dataset, asked: DataArguments, method: str, seed: int
) -> tuple[datasets.Dataset, dict[str, Any] | None]:
    """The rows with capabilities rows shuffled in.

    Args:
        rows: published sft rows.
        asked: names the mixture and its share of the result.
        seed: decides which rows are drawn and where they go.

    Returns:
        The mixed rows, and what was mixed in for the lineage (None when nothing was asked for).

    Raises:
        UsageError: a method that cannot mix, or a source that is neither file, folder nor hub id.
        TrainError: a file that cannot be read, too few rows for the ratio, or a row that was drawn and is no
            recognisable conversation; with file and line where the mixture is a file of lines.
    """
    if not asked.mixture:
        return rows, None
    if method != "sft":
        raise UsageError(f"Method '{method}' cannot mix in capabilities rows.", "Leave --mixture out; it is for sft.")
    import datasets as hf

    extra, record, file = _load(asked)
    ratio = asked.mixture_ratio
    wanted = round(len(rows) * ratio / (1 - ratio))
    if wanted > len(extra):
        raise TrainError(
            f"A share of {ratio} needs {wanted} capabilities rows beside {len(rows)}; "
            f"'{asked.mixture}' has {len(extra)}.",
            "Lower --mixture_ratio, set --limit, or name a larger set: rows are not repeated.",
        )
    drawn = extra.add_column(_ROW, range(len(extra))).shuffle(seed=seed).select(range(wanted))
    core = {
        "id": hf.Value("string"),
        "prompt": hf.List({"role": hf.Value("string"), "content": hf.Value("string")}),
        "completion": hf.List({name: hf.Value("string") for name in ("role", "content", "reasoning_content")}),
    }
    features = hf.Features(core)
    settings = {"with_indices": True, "remove_columns": drawn.column_names, "features": features}
    try:
        plain = drawn.map(_conversation, **settings, fn_kwargs={"file": file})
    except UnicodeDecodeError as exc:  # Arrow takes any bytes for text until they are looked at
        raise TrainError(f"A text of the mixture is not UTF-8: {exc}.", "Save it as UTF-8.", file=file) from exc
    ours = rows.select_columns(list(core)).cast(features)
    mixed = hf.concatenate_datasets([ours, plain]).shuffle(seed=seed)
    return mixed, {**record, "ratio": ratio, "rows": wanted, "seed": seed}


def _load(asked: DataArguments) -> tuple[datasets.Dataset, dict[str, Any], Path | None]:
    """The rows, their record, and the file they are from, where they are from one."""
    import datasets as hf

    name, config, split = asked.mixture or "", asked.mixture_config, asked.mixture_split
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix not in _FILES:
            raise UsageError(f"'{name}' is no data file.", f"Give one of {', '.join(_FILES)}, a folder, or a hub id.")
        found = file_digest(path)
        kind, cache = _FILES[path.suffix], str(cache_for(found))
        try:
            rows = hf.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache)
        except StopIteration as exc:
            raise TrainError("The mixture has no rows.", "Name a file with rows.", file=path) from exc
        except (ValueError, OSError, hf.exceptions.DatasetsError) as exc:
            raise _unreadable(path, exc) from exc
        return rows, _record(Source(name, None, None, None, path), None, "train", found), path
    source = pin(name)
    digest = None if source.sha else _folder_digest(source.folder)
    try:
        cache = str(cache_for(source.sha or digest or ""))
        rows = hf.load_dataset(str(source.folder), config, split=split, cache_dir=cache)
    except (StopIteration, ValueError, OSError, hf.exceptions.DatasetsError) as exc:
        why = str(exc.__cause__ or exc) or "it has no rows"
        raise TrainError(
            f"The mixture '{name}' cannot be read: {why}", "Name its --mixture_config and --mixture_split."
        ) from exc
    return rows, _record(source, config, split, digest), None


def _unreadable(path: Path, exc: Exception) -> TrainError:
    """What is wrong with a file that `datasets` cannot read: the first faulty line, else its own word."""
    try:
        if path.suffix in (".jsonl", ".csv"):
            for _ in file_rows(path):
                pass
    except PromptError as found:
        return TrainError(found.cause, found.remedy, file=found.file, line=found.line)
    return TrainError(
        f"The mixture cannot be read: {exc.__cause__ or exc}",
        "It must be UTF-8 text or Parquet, and a column must have one type in all rows.",
        file=path,
    )


def _record(source: Source, config: str | None, split: str, sha256: str | None) -> dict[str, Any]:
    return {
        "id": source.name,
        "revision": source.revision,
        "sha": source.sha,
        "sha256": sha256,
        "config": config,
        "split": split,
    }


def _folder_digest(folder: Path) -> str:
    """Digest of a folder's names and contents."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode())
        total.update(file_digest(path).encode())
    return total.hexdigest()


def _conversation(row: Mapping[str, Any], index: int, file: Path | None) -> dict[str, Any]:
    """A row of any of the usual shapes as prompt and completion.

    Args:
        row: with its number in the source.
        index: among the rows drawn.
        file: the source, where it is a file.

    Raises:
        TrainError: it has none of the shapes, or no answer.
    """
    if isinstance(row.get("messages"), list):
        turns = list(row["messages"])
    elif row.get("prompt") and row.get("completion"):
        turns = [*_turns(row["prompt"], "user"), *_turns(row["completion"], "assistant")]
    else:
        columns = ", ".join(sorted(name for name in row if name != _ROW))
        raise _fault(
            "has neither `messages` nor `prompt` and `completion`",
            f"Its columns are {columns}; rename them or fill them first.",
            row[_ROW],
            file,
        )
    for turn in turns:
        if not isinstance(turn, Mapping) or not all(isinstance(turn.get(key), str) for key in ("role", "content")):
            said = ", ".join(map(str, turn)) if isinstance(turn, Mapping) else type(turn).__name__
            raise _fault(
                f"has a turn without `role` and `content` as text (it has: {said})",
                "Write turns as role and content, or remove such rows from the mixture first.",
                row[_ROW],
                file,
            )
    while turns and turns[-1]["role"] != "assistant":
        turns.pop()
    if len(turns) < 2 or not turns[-1]["content"]:
        raise _fault("has no answered question", "Remove such rows from the mixture first.", row[_ROW], file)
    last = turns[-1]
    return {
        "id": f"mixture-{index}",
        "prompt": [{"role": turn["role"], "content": turn["content"]} for turn in turns[:-1]],
        "completion": [
            {
                "role": "assistant",
                "content": last["content"],
                "reasoning_content": last.get("reasoning_content") or last.get("thinking"),
            }
        ],
    }


def _turns(value: Any, role: str) -> list[Any]:
    return list(value) if isinstance(value, list) else [{"role": role, "content": value}]


def _fault(what: str, remedy: str, number: int, file: Path | None) -> TrainError:
    """An error of a row.

    Args:
        number: of the row in its source, from 0.
    """
    line = None
    if file is not None and file.suffix == ".jsonl":
        with open(file, encoding="utf-8-sig") as handle:
            line = next(islice((at for at, text in enumerate(handle, start=1) if text.strip()), number, None), None)
    return TrainError(f"Row {number + 1} of the mixture {what}.", remedy, file=file, line=line)
