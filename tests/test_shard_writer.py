"""Published Parquet: what decides where shards and row groups end, and what is left of a writer that fails."""

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from specdistill.builders.shard_writer import GROUP_ROWS, ShardWriter, group_ends, text_bytes
from specdistill.schemas.configs import KTO
from specdistill.schemas.features import features

SIZES = {"shard_bytes": 30_000, "group_bytes": 100_000}


def rows(count):
    """Rows with texts of different lengths, some of them in a message, some missing."""
    number = pl.int_range(count)
    word = number.hash(seed=1).cast(pl.String)
    said = pl.struct(
        pl.lit("assistant").alias("role"),
        pl.concat_str(pl.lit("é"), word.repeat_by(number % 5).list.join(" ")).alias("content"),
        pl.when(number % 3 == 0).then(word).alias("reasoning_content"),
    )
    made = KTO.empty().clear(count).with_columns(number.cast(pl.String).alias("id"), word.alias("category"))
    return made.with_columns(pl.concat_list(said).cast(KTO.schema["completion"]).alias("completion"))


def write(folder, frames, **sizes):
    with ShardWriter(folder, "train", KTO, **sizes) as writer:
        for frame in frames:
            writer.add(frame)
        writer.close()
        return writer.place()


def test_large_splits_are_cut_into_shards_and_row_groups(tmp_path):
    frame = rows(GROUP_ROWS * 2 + 7)
    shards = write(tmp_path / "one", [frame], **SIZES)
    assert len(shards) > 1
    assert [shard.name for shard in shards] == [
        f"train-{number:05d}-of-{len(shards):05d}.parquet" for number in range(len(shards))
    ]
    assert_frame_equal(pl.concat([pl.read_parquet(shard) for shard in shards]), frame)
    for shard in shards:
        assert pq.read_schema(shard).metadata == features(KTO).arrow_schema.metadata
        footer = pq.ParquetFile(shard).metadata
        assert all(footer.row_group(at).num_rows <= GROUP_ROWS for at in range(footer.num_row_groups))
    [small] = write(tmp_path / "small", [frame])
    assert small.name == "train.parquet"
    assert [pq.ParquetFile(small).metadata.row_group(at).num_rows for at in range(3)] == [GROUP_ROWS, GROUP_ROWS, 7]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 700), max_size=12))
def test_the_same_rows_give_the_same_bytes_however_many_come_at_once(tmp_path_factory, counts):
    folder = tmp_path_factory.mktemp("shards")
    frame = rows(sum(counts))
    offsets = [sum(counts[:at]) for at in range(len(counts))]
    pieces = [frame.slice(start, count).rechunk() for start, count in zip(offsets, counts, strict=True)]
    sizes = {"shard_bytes": 3_000, "group_bytes": 5_000}
    one = write(folder / "one", [frame.select(reversed(frame.columns))], **sizes)
    many = write(folder / "many", pieces, **sizes)
    assert [path.name for path in one] == [path.name for path in many]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in many]


@given(st.integers(0, 400), st.integers(1, 5_000))
def test_a_row_group_is_full_with_the_row_that_fills_it(count, most):
    frame = rows(count)
    size = text_bytes(pl.col("completion"), KTO.schema["completion"])
    texts = frame["completion"].explode().struct.unnest() if count else None
    if texts is not None:
        assert frame.select(size.sum()).item() == sum(
            len((value or "").encode()) for name in texts.columns for value in texts[name]
        )
    total = sum((text_bytes(pl.col(c.name), c.dtype) for c in KTO.columns), pl.lit(0))
    weights = frame.select(total.alias("w"))["w"].to_list()
    start = 0
    for end in group_ends(frame, KTO, most):
        assert sum(weights[start:end]) >= most
        assert sum(weights[start : end - 1]) < most
        start = end
    assert sum(weights[start:]) < most


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    [before] = write(tmp_path, [rows(5)])
    kept = before.read_bytes()

    def frames():
        yield rows(GROUP_ROWS + 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(tmp_path, frames(), **SIZES)
    assert [path.name for path in tmp_path.iterdir()] == ["train.parquet"]
    assert before.read_bytes() == kept


def test_no_rows_are_one_file_without_any(tmp_path):
    [path] = write(tmp_path, [KTO.empty()])
    assert pl.read_parquet(path).schema == KTO.schema
    assert pq.ParquetFile(path).metadata.num_rows == 0
