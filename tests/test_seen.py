"""Values that were seen before, against a set."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from specdistill.schemas.seen import Seen


@given(st.lists(st.lists(st.text(max_size=2) | st.none(), max_size=30), max_size=20))
def test_each_value_is_new_once(parts):
    seen, known = Seen(), set()
    for part in parts:
        expected = []
        for value in part:
            expected.append(value not in known)
            known.add(value)
        assert seen.new(pl.Series("value", part, dtype=pl.String)).to_list() == expected


def test_many_values_are_held_in_few_arrays():
    seen = Seen()
    for start in range(0, 50_000, 100):
        assert seen.new(pl.Series(range(start, start + 100)).cast(pl.String)).all()
    assert not seen.new(pl.Series(range(50_000)).cast(pl.String)).any()
    assert len(seen._known) < 20
    assert sum(len(known) for known in seen._known) == 50_000
