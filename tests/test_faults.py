"""Whole builds behind the fault harness, a few faults of each kind; `benchmarks/faults.py` tries all, everywhere.

What the engine makes of every single fault is in `test_engine_openai.py`.
"""

import pytest
from fault_harness import try_fault
from forked_cli import ForkedCLI

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    """The command line, imported once."""
    with ForkedCLI(tmp_path_factory.mktemp("faults")) as forked:
        yield forked


@pytest.mark.parametrize(
    ("fault", "place", "failed", "reason"),
    [
        ("http_503", "one prompt", 2, "HTTP 503: overloaded (tried 2 times)"),
        ("wrong_schema", "one judged answer", 0, "abstains: wrong_shape"),
        ("fewer_choices", "one prompt", 2, "the answer has no choices (tried 2 times)"),
    ],
)
def test_a_poisoned_row_fails_alone_with_its_reason_and_a_rerun_mends_it(cli, tmp_path, fault, place, failed, reason):
    found = try_fault(cli, tmp_path / "run", fault, place)
    assert found.ended == "finished"
    assert found.neighbours == 0
    assert (found.failed, found.reasons) == (failed, (reason,))
    assert found.whole


@pytest.mark.parametrize(
    ("fault", "place", "says"),
    [
        ("cut", "a third of all requests", "finished"),
        ("refused", "every request", "Nobody answers"),
        ("http_401", "every request", "refuses every request: HTTP 401"),
    ],
)
def test_no_weather_loses_or_doubles_a_row(cli, tmp_path, fault, place, says):
    found = try_fault(cli, tmp_path / "run", fault, place)
    assert says in found.ended
    assert (found.lost, found.doubled, found.still_failed) == (0, 0, 0)
    assert found.served > 0 or fault == "refused"
