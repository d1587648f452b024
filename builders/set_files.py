"""The derived sets on disk, written range by range and put in place together at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from specdistill.builders.selection import Sets
from specdistill.builders.shard_writer import GROUP_BYTES, SHARD_BYTES, ShardWriter
from specdistill.schemas.configs import TABLES
from specdistill.schemas.files import sync_folder
from specdistill.schemas.layout import RunLayout


def write_sets(
    layout: RunLayout, ranges: Iterable[Sets], shard_bytes: int = SHARD_BYTES, group_bytes: int = GROUP_BYTES
) -> dict[str, dict[str, int]]:
    """Write every derived set, in the form it is published in; files of splits that no longer exist go.

    Args:
        ranges: the sets of each range of prompts; every config in each of them, with `train` at least.
        shard_bytes, group_bytes: as for `ShardWriter`.

    Returns:
        Config to split to rows.

    Raises:
        DiskError: the disk is full or the folder cannot be written; the files that were there are untouched.
    """
    writers: dict[tuple[str, str], ShardWriter] = {}
    # Arrow compresses without Python's lock: the sets of a range are written side by side.
    with ExitStack() as held, ThreadPoolExecutor(os.cpu_count()) as threads:
        for sets in ranges:
            given = {(config, split): frame for config, splits in sets.items() for split, frame in splits.items()}
            for config, split in given:
                if (config, split) not in writers:
                    made = ShardWriter(layout.datasets / config, split, TABLES[config], shard_bytes, group_bytes)
                    writers[config, split] = held.enter_context(made)
            for written in [threads.submit(writers[key].add, frame) for key, frame in given.items()]:
                written.result()
        for writer in writers.values():
            writer.close()
        placed = {path for writer in writers.values() for path in writer.place()}
    counts: dict[str, dict[str, int]] = {}
    for (config, split), writer in sorted(writers.items(), key=lambda item: item[0][1] != "train"):
        counts.setdefault(config, {})[split] = writer.rows
    for folder in layout.datasets.iterdir():
        for path in folder.glob("*.parquet"):
            if path not in placed:
                path.unlink()
        sync_folder(folder)
    return counts
