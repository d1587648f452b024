"""Parts exist whole or not at all; a damaged one is found by its name."""

import resource
import subprocess
import sys

import polars as pl
import pytest

from specdistill.builders.parts import PartWriter, damaged_parts, read_parts, set_aside, write_part
from specdistill.errors import RunError, SchemaError
from specdistill.schemas.table import Column, Table

TABLE = Table(
    "things", "1.0.0", "", (Column("id", pl.String, ""), Column("error", pl.String, "", nullable=True)), key=("id",)
)


def test_same_rows_same_part(tmp_path):
    frame = TABLE.frame([{"id": "a", "error": None}])
    assert write_part(tmp_path, frame) == write_part(tmp_path, frame)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_mended_row_wins_over_its_failure(tmp_path):
    write_part(tmp_path, TABLE.frame([{"id": "a", "error": "timeout"}, {"id": "b", "error": "refused"}]))
    write_part(tmp_path, TABLE.frame([{"id": "a", "error": None}]))
    rows = read_parts(tmp_path, TABLE).sort("id").to_dicts()
    assert rows == [{"id": "a", "error": None}, {"id": "b", "error": "refused"}]


def test_damage_is_found_and_set_aside(tmp_path):
    writer = PartWriter(tmp_path, TABLE, flush_rows=2)
    writer.add({"id": str(number), "error": None} for number in range(2))
    writer.add([{"id": "x", "error": None}])
    writer.flush()
    victim = sorted(tmp_path.glob("part-*.parquet"))[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0xFF
    victim.write_bytes(bytes(data))
    assert damaged_parts(tmp_path) == [victim]
    aside = set_aside(victim)
    assert aside.exists()
    assert damaged_parts(tmp_path) == []
    assert len(read_parts(tmp_path, TABLE)) in (1, 2)


def test_a_part_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "part-00.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(RunError, match=r"part-00\.parquet"):
        read_parts(tmp_path, TABLE)


def test_unknown_columns_are_refused(tmp_path):
    with pytest.raises(SchemaError, match="unknown columns"):
        TABLE.frame([{"id": "a", "eror": None}])


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    program = f"""
import resource, signal
from pathlib import Path
import polars as pl
from specdistill.builders.parts import write_part
from specdistill.errors import DiskError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
frame = pl.DataFrame({{"id": [str(n * 7919) for n in range(50_000)]}})
try:
    write_part(Path({str(tmp_path)!r}), frame)
except DiskError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "The disk is full" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000
