"""Progress of a push: pace and time left, on a terminal and in a log."""

import io

import pytest
from rich.console import Console

from specdistill.cli.counting import Counting


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("there", "done", "seconds", "pace"),
    [
        (0, 400, 2.0, "200 records/s, about 3 s left"),
        (600, 700, 10.0, "10 records/s, about 30 s left"),  # what was there before is no part of the rate
        (0, 1, 2.0, "0.5 records/s, about 1998 s left"),
        (1000, 1000, 5.0, ""),
    ],
)
def test_pace(there, done, seconds, pace):
    clock = Clock()
    counting = Counting(Console(file=io.StringIO()), "records", clock)
    counting("run-rows", there, 1000)
    clock.now = seconds
    assert counting.pace("run-rows", done, 1000) == pace


def test_a_log_gets_a_line_every_ten_seconds_and_a_terminal_a_bar():
    for terminal in (False, True):
        clock, file = Clock(), io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=120)
        with Counting(console, "records", clock) as counting:
            for done in range(0, 1001, 100):
                counting("run-rows", done, 1000)
                clock.now += 2.5
        said = file.getvalue()
        if terminal:
            assert "1000/1000" in said
            assert "40 records/s" in said
        else:
            assert said.splitlines() == [
                "run-rows 400 of 1,000 40 records/s, about 15 s left",
                "run-rows 800 of 1,000 40 records/s, about 5 s left",
            ]
