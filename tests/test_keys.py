"""What makes a row another row: the digests of generator and judge."""

import pytest

from specdistill.builders.keys import generator_digest, judge_digest, rewrite_digest
from specdistill.schemas.recipe import Generator, Judge


def test_keys_of_stored_rows_stay_what_they_were():
    """A change here makes every stored row of the setting stale: do it knowingly."""
    assert {
        mode: generator_digest(Generator(model="m", reasoning=mode)) for mode in ("native", "prompted", "guided")
    } == {
        "native": "fa3b146bfa8a07e8cf8af4fc79b387a3",
        "prompted": "b65c59320c3e6a129dd124204a5e75a2",
        "guided": "efc9c3c5a1a0e2b85e63631019c78606",
    }
    assert judge_digest(Judge(model="m")) == "7a7131aef5c5f821da57abd347b7f73b"


@pytest.mark.parametrize("bound", ["reasoning_chars", "answer_chars"])
def test_the_bound_of_a_guided_text_is_in_its_key_and_of_another_is_not(bound):
    """It is in the schema that a guided model is held to; other models are not told."""
    for digest in (generator_digest, rewrite_digest):
        guided = {
            digest(Generator(model="m", reasoning="guided", **given)) for given in ({}, {bound: 100}, {bound: 200})
        }
        assert len(guided) == 3
        for mode in ("native", "prompted"):
            free = [Generator(model="m", reasoning=mode, **given) for given in ({}, {bound: 100})]
            assert digest(free[0]) == digest(free[1])
    one, other = ({"reasoning_chars": 1, "answer_chars": 2}, {"reasoning_chars": 2, "answer_chars": 1})
    assert len({generator_digest(Generator(model="m", reasoning="guided", **given)) for given in (one, other)}) == 2


def test_the_bound_of_a_justification_is_in_the_key_of_a_guided_judge():
    assert len({judge_digest(Judge(model="m", justification_chars=chars)) for chars in (100, 200, 600)}) == 3
    hinted = Judge(model="m", hint=True, justification_chars=100)
    assert judge_digest(hinted) not in {judge_digest(Judge(model="m", hint=True)), judge_digest(Judge(model="m"))}
    free = {judge_digest(Judge(model="m", reasoning="prompted", justification_chars=chars)) for chars in (100, 600)}
    assert len(free) == 1
