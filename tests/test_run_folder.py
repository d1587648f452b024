"""A run folder is held by one build at a time, and is cleared of what killed writers left."""

import os
import threading
import time

import polars as pl
import pytest

from specdistill.builders.parts import write_part
from specdistill.builders.run import heal, is_locked, locked
from specdistill.errors import DiskError, RunLocked
from specdistill.schemas.files import alive, working_folder
from specdistill.schemas.layout import RunLayout


def test_a_lock_is_seen_and_refused(tmp_path):
    layout = RunLayout(tmp_path / "run")
    assert not is_locked(layout)
    with locked(layout):
        assert is_locked(layout)
        with pytest.raises(RunLocked, match=r"Another build \(process \d+\)"), locked(layout):
            pass
    assert not is_locked(layout)


def test_somebody_who_only_looks_does_not_keep_a_build_out(tmp_path):
    layout = RunLayout(tmp_path / "run")
    with locked(layout):
        pass
    stop = threading.Event()

    def look():
        while not stop.is_set():
            is_locked(layout)
            time.sleep(0.001)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(50):
            with locked(layout):
                pass
    finally:
        stop.set()
        watcher.join()


def test_what_killed_writers_left_is_cleared_away_and_nothing_else(tmp_path):
    layout = RunLayout(tmp_path)
    gone = [
        ".recipe.yaml.1.tmp",
        "candidates/.part-0.parquet.1.tmp",
        "spec/rendered/.a.md.1.tmp",
        "datasets/sft/.t.1.tmp",
    ]
    kept = ["notes.tmp", "candidates/keep.txt", ".release-7/sft/.t.1.tmp"]
    for name in [*gone, *kept]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert heal(layout) == []
    assert [name for name in gone if (tmp_path / name).exists()] == []
    assert [name for name in kept if not (tmp_path / name).exists()] == []


def test_damaged_parts_of_every_table_are_set_aside(tmp_path):
    layout = RunLayout(tmp_path)
    damaged = []
    for folder in (layout.prompts, layout.candidates, layout.judgments, layout.comparisons):
        for word in ("whole", "damaged"):
            part = write_part(folder, pl.DataFrame({"word": [word]}))
        part.write_bytes(part.read_bytes()[:-1])
        damaged.append(part)
    assert sorted(heal(layout)) == sorted(part.with_suffix(".damaged") for part in damaged)
    assert len(list(tmp_path.glob("*/part-*.parquet"))) == len(damaged), "whole ones stay"


def test_working_folders_of_dead_processes_are_cleared_away(tmp_path):
    dead = next(number for number in range(400_000, 500_000) if not alive(number))
    for name in (f".work-{dead}-x", ".work-strange", f".work-{os.getpid()}-mine", f".other-{dead}-x"):
        (tmp_path / name / "sub").mkdir(parents=True)
    kept = {f".work-{os.getpid()}-mine", f".other-{dead}-x"}
    with working_folder(tmp_path, ".work-") as place:
        assert place.is_dir()
        assert {path.name for path in tmp_path.iterdir()} == {place.name, *kept}
    assert {path.name for path in tmp_path.iterdir()} == kept
    with pytest.raises(DiskError), working_folder(tmp_path / "missing", ".work-"):
        pass
