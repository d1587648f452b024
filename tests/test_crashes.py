"""Crashes at some moments of a build; `benchmarks/crashes.py` tries every moment and 200 random ones."""

import signal
import time

import pytest
from build_helpers import finished, keys
from crash_matrix import STOPPED, bench, crash_at, damage, durable_operations, read_only, soak, stage_of
from forked_cli import Trouble

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bench with an undisturbed run."""
    with bench(tmp_path_factory.mktemp("crashes"), latency=0.02) as bench_made:
        yield bench_made


@pytest.fixture(scope="module")
def operations(made):
    """The durable operations of a build."""
    return durable_operations(made)


def test_every_stage_is_among_the_moments(operations):
    assert {stage_of(operation) for operation in operations} == {
        "spec", "cleaning", "prompts", "recipe", "the run folder",
        "candidates", "screens", "judgments", "datasets", "manifest", "report",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "number"),
    [
        ("replace screens/", signal.SIGKILL),
        ("replace judgments/part-", signal.SIGKILL),
        ("replace datasets/preference/", signal.SIGTERM),
        ("replace manifest.json", signal.SIGINT),
    ],
)
def test_a_crash_between_two_stages_loses_nothing(made, operations, file, number):
    moment = next(n for n, operation in enumerate(operations, start=1) if operation.startswith(file))
    done, wrong = crash_at(made, moment, number)
    assert done.code in STOPPED[number]
    assert wrong == []


def test_crashes_at_random_moments_lose_nothing(made):
    found = soak(made, kills=4, seed=int(time.time()))
    assert found.wrong == []
    assert found.finished >= 1
    assert found.repeated <= sum(found.stops.values()) * 2 * 8 * 2  # engines, requests in flight, samples each


@pytest.mark.parametrize("file_bytes", [500, 40_000])
def test_a_full_disk_is_one_message_and_the_run_resumes(made, file_bytes):
    out = made.fresh()
    done = made.build(out, Trouble(file_bytes=file_bytes))
    assert done.code == 1
    assert "what to do Free some space" in done.output
    assert "Traceback" not in done.output
    assert made.finish(out) == []


def test_a_read_only_folder_is_one_message(made, tmp_path):
    with read_only(tmp_path / "fixed") as folder:
        if folder is None:
            pytest.skip("this machine lets root neither mount nor be refused")
        done = made.build(folder / "run")
    assert done.code == 1
    assert "Make the folder writable" in done.output
    assert "Traceback" not in done.output


def test_a_clock_that_jumps_changes_nothing(made):
    out = made.fresh()
    done = made.build(out, Trouble(clock_jump=-4e7))
    assert done.code == 0, done.output
    assert made.differs(out) == []


def test_a_damaged_part_is_named_and_rebuilt_from_the_ledger(made):
    out = made.fresh()
    assert made.build(out).code == 0
    part = sorted((out / "judgments").glob("part-*.parquet"))[0]
    damage(part)
    calls = finished(out)
    done = made.build(out)
    assert done.code == 0, done.output
    assert f"A damaged part was set aside as {part.with_suffix('.damaged')}" in done.output.replace("\n", "")
    assert finished(out) == calls, "no call was made"
    assert keys(out) == made.reference
