"""The template matrix: every family of chat template x every way of passing a reasoning has a verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import TEMPLATES, tiny_tokenizer
from tiny_set import rows

from specdistill.errors import TrainError
from specdistill.train.template import CONVENTIONS, as_text, assistant_turn, choose, probe, render, split_completion

CORPUS = [row["prompt"][0]["content"] + row["reasoning"] + row["answer"] for row in rows()]
LOST = "reasoning_lost"
MATRIX = {
    # reasoning_content, thinking, reasoning, inline, text; what `auto` takes
    "chatml": ((LOST, LOST, LOST, "ok", "ok"), "inline"),
    "qwen3": (("ok", LOST, LOST, "ok", "misplaced"), "reasoning_content"),
    "qwen3_prefilled": (("ok", LOST, LOST, "doubled", "misplaced"), "reasoning_content"),
    "r1": ((LOST, LOST, LOST, LOST, "ok"), None),
    "gpt_oss": ((LOST, "ok", LOST, "misplaced", "misplaced"), "thinking"),
    "llama3": ((LOST, LOST, LOST, "ok", "ok"), "inline"),
}


@pytest.fixture(scope="module")
def tokenizers():
    return {name: tiny_tokenizer(CORPUS, name) for name in TEMPLATES}


@pytest.mark.parametrize("name", MATRIX)
def test_every_cell_has_its_verdict(tokenizers, name):
    verdicts, automatic = MATRIX[name]
    cells = probe(tokenizers[name])
    assert {key: str(cell.verdict) for key, cell in cells.items()} == dict(zip(CONVENTIONS, verdicts, strict=True))
    if automatic is None:
        with pytest.raises(TrainError, match="--convention text") as caught:
            choose(tokenizers[name])
        assert "inline: reasoning_lost" in caught.value.cause
    else:
        assert choose(tokenizers[name]).name == automatic


@pytest.mark.parametrize("name", [name for name in MATRIX if name != "r1"])
@pytest.mark.parametrize("asked", CONVENTIONS)
def test_what_failed_the_probe_is_refused_unless_forced(tokenizers, name, asked):
    verdict = dict(zip(CONVENTIONS, MATRIX[name][0], strict=True))[asked]
    if verdict == "ok":
        assert choose(tokenizers[name], asked).name == asked
        return
    with pytest.raises(TrainError):
        choose(tokenizers[name], asked)
    assert choose(tokenizers[name], asked, forced=True).name == asked


@pytest.mark.parametrize("name", MATRIX)
def test_turn_reads_back_as_it_was_written(tokenizers, name):
    tokenizer = tokenizers[name]
    how = choose(tokenizer, "text" if name == "r1" else "auto")
    prompt = [{"role": "user", "content": "Tell me about a padlock."}]
    asked = render(tokenizer, prompt, add_generation_prompt=True)
    if how.name == "text":
        before, said = as_text(tokenizer, how, prompt, "It is a lock.", "I can't help.")
        assert before == asked
    else:
        said = render(tokenizer, [*prompt, assistant_turn(how.name, "It is a lock.", "I can't help.")])[len(asked) :]
    assert split_completion(how, said) == ("It is a lock.", "I can't help.")


def test_prefilled_thought_is_not_opened_twice(tokenizers):
    how = choose(tokenizers["r1"], "text")
    assert (how.before, how.prefilled) == ("", True)
    how = choose(tokenizers["chatml"], "text")
    assert (how.before, how.prefilled) == ("<think>\n", False)


def test_tokenizer_without_template_is_refused(tokenizers):
    plain = tiny_tokenizer(CORPUS)
    plain.chat_template = None
    with pytest.raises(TrainError, match="no chat template"):
        probe(plain)


def test_template_that_raises_is_a_verdict(tokenizers):
    broken = tiny_tokenizer(CORPUS)
    broken.chat_template = "{{ raise_exception('no') }}"
    assert {str(cell.verdict) for cell in probe(broken).values()} == {"error"}


def test_thinking_is_switched_on_where_only_that_works():
    tokenizer = tiny_tokenizer(CORPUS, "qwen3")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{{ '<|im_start|>assistant\n' }}{% endif %}",
        "{{ '<|im_start|>assistant\n' }}"
        "{% if not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
    )
    how = choose(tokenizer)
    assert how.kwargs == {"enable_thinking": True}


def test_inline_refuses_a_reasoning_with_tags_of_its_own():
    with pytest.raises(TrainError, match="<think> tags"):
        assistant_turn("inline", "so </think> it ends", "answer")


SECRET = "the secret thought"
BAD = {
    "never ends": f"<think>\n{SECRET}",
    "reopened": f"<think>a</think> <think>{SECRET}</think> answer",
    "closed twice": f"<think>a</think> {SECRET} </think> answer",
    "no answer": f"<think>{SECRET}</think>  ",
    "text before the thought": f"Well. <think>{SECRET}</think> answer",
    "stray close": f"{SECRET}</think> answer",
    "channels": f"<|channel|>analysis<|message|>{SECRET}<|end|><|start|>assistant<|channel|>final<|message|>answer",
}


@pytest.mark.parametrize("text", BAD.values(), ids=list(BAD))
def test_split_fails_closed(tokenizers, text):
    assert split_completion(choose(tokenizers["chatml"]), text) is None


def test_split_of_a_prefilled_thought_that_was_cut_short_fails_closed(tokenizers):
    how = choose(tokenizers["qwen3_prefilled"])
    assert split_completion(how, f"{SECRET} and more") is None
    assert split_completion(how, f"{SECRET}\n</think>\n\nanswer<|im_end|>") == (SECRET, "answer")


def test_split_of_channels(tokenizers):
    how = choose(tokenizers["gpt_oss"])
    whole = (
        f"<|channel|>analysis<|message|>{SECRET}<|end|><|start|>assistant<|channel|>final<|message|>answer<|return|>"
    )
    assert split_completion(how, whole) == (SECRET, "answer")
    assert split_completion(how, f"<|channel|>analysis<|message|>{SECRET}<|end|>") is None
    assert split_completion(how, f"<|channel|>final<|message|>{SECRET}") is None


def test_turn_without_any_thought_is_what_the_user_sees(tokenizers):
    assert split_completion(choose(tokenizers["chatml"]), "Just an answer.<|im_end|>") == (None, "Just an answer.")


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "\n", " ", SECRET, "answer", "<|im_end|>", "<|channel|>"]), max_size=9
    )
)
def test_no_arrangement_of_tags_lets_a_thought_through(tokenizers, parts):
    """Whatever the model writes: what is between tags, or unclear, never reaches the judge."""
    found = split_completion(choose_cached(tokenizers), "".join(parts))
    if found and found[0] is not None:
        head, _, answer = "".join(parts).split("<|im_end|>")[0].partition("</think>")
        assert head.strip().startswith("<think>")
        assert found[1] == answer.strip()
    if found:
        assert not any(tag in found[1] for tag in ("<think>", "</think>", "<|channel|>"))


_CHOSEN: list = []


def choose_cached(tokenizers):
    """One probe for all examples."""
    if not _CHOSEN:
        _CHOSEN.append(choose(tokenizers["chatml"]))
    return _CHOSEN[0]


@pytest.mark.parametrize(
    ("name", "automatic", "inline"),
    [
        ("qwen2_5", "inline", "ok"),
        ("qwen3", "reasoning_content", "ok"),
        ("qwen3_8", "reasoning_content", "doubled"),
        ("llama3", "inline", "ok"),
        ("gptoss", "thinking", "misplaced"),
        ("deepseek_r1_distill", None, LOST),
    ],
)
def test_verdicts_on_the_real_templates_that_trl_ships(name, automatic, inline):
    trl = pytest.importorskip("trl")
    from pathlib import Path

    tokenizer = tiny_tokenizer(CORPUS)
    path = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
    tokenizer.chat_template = path.read_text("utf-8")
    cells = probe(tokenizer)
    taken = next((key for key in CONVENTIONS[:-1] if cells[key].verdict == "ok"), None)
    assert (taken, str(cells["inline"].verdict)) == (automatic, inline)
