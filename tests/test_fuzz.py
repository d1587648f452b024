"""Every parser on inputs that are nearly right, for seconds; `benchmarks/fuzz.py` does it for as long as you let it."""

import random

import pytest
from fuzz_targets import feed, mutated, targets
from hypothesis import given, settings
from hypothesis import strategies as st

TARGETS = targets()
EXAMPLES = {"recipe": 40, "override": 40, "spec": 25, "ledger": 40}
"""Fewer where one input takes ten milliseconds."""


@pytest.mark.parametrize("name", TARGETS)
def test_nearly_right_input_is_read_or_is_our_error(name, tmp_path):
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed, tmp_path)

    @settings(max_examples=EXAMPLES.get(name, 150), deadline=None, database=None)
    @given(st.integers(0, 2**48) | st.binary(max_size=300))
    def nearly_right(source):
        data = source if isinstance(source, bytes) else mutated(target.seeds, random.Random(source))
        if (error := feed(target, data, tmp_path)) is not None:
            raise AssertionError(f"{name}: {data[:2000]!r}") from error

    nearly_right()
