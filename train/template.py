"""The one place that maps reasoning + answer onto a tokenizer's own convention.

Chat templates disagree on where a reasoning goes: a `reasoning_content` key, a `thinking` key, `<think>` tags in the
text, or nowhere: many drop it without a word, and DeepSeek-R1-like ones cut an inline `<think>` away too. A model
trained on dropped reasonings reaches a low loss and learns nothing. So no table of model names here: every template
is probed with sentinel texts, the first way that survives is taken, and nothing is trained when none does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from specdistill.errors import TrainError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]

NATIVE = ("reasoning_content", "thinking", "reasoning")
"""Message keys that templates read a reasoning from."""
AUTOMATIC = (*NATIVE, "inline")
"""Tried in this order. `text` must be asked for, since it goes around the template."""
CONVENTIONS = (*AUTOMATIC, "text")

THINK = ("<think>", "</think>")
_MARKUP = (*THINK, "<|channel|>", "<|start|>")
"""Never part of an answer: where they are, reasoning may be near."""

_ASK, _EARLIER, _REASON, _ANSWER = (
    "probe-ask-5d1c",
    "probe-earlier-9b2e",
    "probe-reason-3f7a",
    "probe-answer-e04d",
)
_PROMPTS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": _ASK}],
    [
        {"role": "user", "content": "probe-first"},
        {"role": "assistant", "content": _EARLIER},
        {"role": "user", "content": _ASK},
    ],
)


class Verdict(StrEnum):
    """What became of a reasoning and an answer that were put through a template in one way."""

    OK = "ok"
    ERROR = "error"
    """The template raised."""
    REASONING_LOST = "reasoning_lost"
    ANSWER_LOST = "answer_lost"
    DOUBLED = "doubled"
    """The reasoning sits behind an empty or second thought of the template's own."""
    MISPLACED = "misplaced"
    """Both survive, but the reasoning lands where the template's own convention puts the answer."""
    PROMPT_DIFFERS = "prompt_differs"
    """The prompt rendered for generation is not how the training text begins."""


@dataclass(frozen=True)
class Convention:
    """How one tokenizer renders an assistant turn that has a reasoning, as found by probing.

    Attributes:
        name: `reasoning_content`, `thinking`, `reasoning`, `inline` or `text`.
        before: what stands between the generation prompt and the reasoning; empty where the prompt already opens it.
        between: what stands between reasoning and answer.
        after: what ends the turn.
        kwargs: arguments the chat template needs, in training and at inference alike.
        prefilled: whether the generation prompt already opens the reasoning.
    """

    name: str
    before: str
    between: str
    after: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    prefilled: bool = False


@dataclass(frozen=True)
class Cell:
    """One way of passing a reasoning to one template, and what came of it.

    Attributes:
        detail: what was seen, for the reader of an error.
        convention: how the turn is rendered; set where reasoning and answer both survive.
    """

    name: str
    verdict: Verdict
    detail: str
    convention: Convention | None = None


def probe(tokenizer: PreTrainedTokenizerBase) -> dict[str, Cell]:
    """Every convention's verdict for a tokenizer's chat template, on a single-turn and a multi-turn prompt.

    Raises:
        TrainError: the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise TrainError(
            f"The tokenizer of '{os.path.basename(tokenizer.name_or_path)}' has no chat template.",
            "Train an instruction-tuned model, or add a chat_template.jinja to the model folder.",
        )
    cells = {name: _first_ok(tokenizer, name) for name in AUTOMATIC}
    natives = [cells[name].convention for name in NATIVE if cells[name].verdict is Verdict.OK]
    inline = cells["inline"]
    if natives and inline.convention and inline.convention != _renamed(natives[0], "inline"):
        cells["inline"] = Cell(
            "inline",
            Verdict.MISPLACED if inline.verdict is Verdict.OK else inline.verdict,
            "the template has a place of its own for the reasoning, and inline tags are not put there",
            inline.convention,
        )
    cells["text"] = _text_cell(tokenizer, has_native=bool(natives))
    return cells


def choose(tokenizer: PreTrainedTokenizerBase, asked: str = "auto", *, forced: bool = False) -> Convention:
    """The convention to train a tokenizer's model with.

    Args:
        asked: `auto` or one of CONVENTIONS.
        forced: take what was asked even though the probe failed, for control experiments.

    Raises:
        TrainError: the reasoning or the answer is lost, with every convention's verdict.
    """
    cells = probe(tokenizer)
    for name in AUTOMATIC if asked == "auto" else (asked,):
        cell = cells.get(name)
        if cell and cell.verdict is Verdict.OK and cell.convention:
            return cell.convention
    if forced and asked != "auto":
        return cells[asked].convention or Convention(asked, "", "", "")
    seen = "; ".join(f"{cell.name}: {cell.verdict} ({cell.detail})" for cell in cells.values())
    usable = [name for name, cell in cells.items() if cell.verdict is Verdict.OK]
    raise TrainError(
        f"The chat template does not keep reasoning and answer with convention '{asked}': {seen}.",
        f"Use --convention {usable[0]}"
        + (
            ", which renders the turn as text around the template, as the model itself generates it."
            if usable[0] == "text"
            else "."
        )
        if usable
        else "Use a model whose chat template renders reasonings, or fix its chat_template.jinja.",
    )


def assistant_turn(name: str, reasoning: str | None, answer: str) -> dict[str, str]:
    """One assistant message with the reasoning where the convention wants it. Without a reasoning: the answer only.

    Raises:
        TrainError: an inline reasoning or answer that itself contains think tags, so its end could not be found.
    """
    if not reasoning:
        return {"role": "assistant", "content": answer}
    if name in NATIVE:
        return {"role": "assistant", "content": answer, name: reasoning}
    if any(tag in text for tag in THINK for text in (reasoning, answer)):
        raise TrainError(
            "A row contains <think> tags of its own inside its reasoning or answer.",
            "Such a row should not have passed selection; filter it and publish again.",
        )
    return {
        "role": "assistant",
        "content": f"{THINK[0]}\n{reasoning.strip()}\n{THINK[1]}\n\n{answer.strip()}",
    }


def as_text(
    tokenizer: PreTrainedTokenizerBase,
    convention: Convention,
    prompt: Sequence[Message],
    reasoning: str | None,
    answer: str,
) -> tuple[str, str]:
    """Prompt and completion as text, for the `text` convention: the prompt exactly as it is rendered for generation."""
    rendered = render(tokenizer, prompt, add_generation_prompt=True, **convention.kwargs)
    bos = tokenizer.bos_token
    if bos and rendered.startswith(bos) and tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id:
        rendered = rendered[len(bos) :]  # the tokenizer adds it again
    thought = f"{convention.before}{(reasoning or '').strip()}{convention.between}"
    return rendered, f"{thought}{answer.strip()}{convention.after}"


def split_completion(convention: Convention, text: str) -> tuple[str | None, str] | None:
    """A generated completion as (reasoning, answer), or None when where the answer begins is not beyond doubt.

    Fails closed: a judge must never see the reasoning, so a reopened tag, a thought that never ends, a second
    channel or an empty answer give None rather than a guess.

    Args:
        text: the completion decoded with its special tokens.

    Returns:
        The reasoning is None for a turn that has none at all: then the user sees the whole text.
    """
    opener, marker, end = convention.before.strip(), convention.between.strip(), convention.after.strip()
    if end:
        text = text.split(end, 1)[0]
    text = text.strip()
    head, found, answer = text.partition(marker) if marker else (text, "", "")
    if not found:
        unfinished = convention.prefilled or any(tag in text for tag in (*_MARKUP, opener) if tag)
        return None if unfinished or not text else (None, text)
    if opener:
        if not head.startswith(opener):
            return None
        head = head[len(opener) :]
    pieces = [tag for tag in (*_MARKUP, opener, marker) if tag]
    if not answer.strip() or any(tag in part for tag in pieces for part in (head, answer)):
        return None
    return head.strip(), answer.strip()


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **kwargs: Any) -> str:
    """Messages as the template renders them."""
    return str(tokenizer.apply_chat_template([dict(turn) for turn in messages], tokenize=False, **kwargs))


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **kwargs: Any) -> list[int]:
    """Messages as the token ids the template renders them to."""
    turns: Any = [dict(turn) for turn in messages]
    return list(cast(Any, tokenizer).apply_chat_template(turns, tokenize=True, return_dict=True, **kwargs)["input_ids"])


def common_prefix(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many leading items two sequences share."""
    same = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        same += 1
    return same


def table(cells: Iterable[Cell]) -> list[str]:
    """Verdicts as lines of text."""
    return [f"{cell.name:>18}  {cell.verdict:<15} {cell.detail}" for cell in cells]


def _first_ok(tokenizer: PreTrainedTokenizerBase, name: str) -> Cell:
    """The verdict with the template's defaults, or with thinking switched on where only that works."""
    plain = _worst(tokenizer, name, {})
    if plain.verdict in (Verdict.OK, Verdict.ERROR):
        return plain
    thinking = _worst(tokenizer, name, {"enable_thinking": True})
    return thinking if thinking.verdict is Verdict.OK else plain


def _worst(tokenizer: PreTrainedTokenizerBase, name: str, kwargs: dict[str, Any]) -> Cell:
    cells = [_cell(tokenizer, name, prompt, kwargs) for prompt in _PROMPTS]
    return next((cell for cell in cells if cell.verdict is not Verdict.OK), cells[0])


def _cell(tokenizer: PreTrainedTokenizerBase, name: str, prompt: list[dict[str, str]], kwargs: dict[str, Any]) -> Cell:
    turn = assistant_turn(name, _REASON, _ANSWER)
    try:
        asked = render(tokenizer, prompt, add_generation_prompt=True, **kwargs)
        whole = render(tokenizer, [*prompt, turn], **kwargs)
    except Exception as exc:  # noqa: BLE001 - templates raise whatever they like; the verdict carries it
        return Cell(name, Verdict.ERROR, f"the template raises {type(exc).__name__}: {exc}"[:200])
    cut = common_prefix(asked, whole)
    said = whole[cut:]
    if _REASON not in said:
        return Cell(name, Verdict.REASONING_LOST, "the rendered turn has no reasoning")
    before, _, rest = said.partition(_REASON)
    if _ANSWER not in rest:
        return Cell(name, Verdict.ANSWER_LOST, "the rendered turn has no answer after the reasoning")
    between, _, after = rest.partition(_ANSWER)
    turn_head = asked[asked.rfind(_ASK) + len(_ASK) : cut]
    prefilled = turn_head.rstrip().endswith(THINK[0])
    found = Convention(name, before, between, after, kwargs, prefilled)
    if (turn_head + said).count(THINK[0]) > 1 or (turn_head + said).count(THINK[1]) > 1:
        return Cell(name, Verdict.DOUBLED, f"the turn is rendered as {said!r}", found)
    if asked[cut:].strip():
        return Cell(name, Verdict.PROMPT_DIFFERS, f"generation starts from {asked[cut:]!r}, training does not", found)
    return Cell(name, Verdict.OK, f"rendered as {_shown(found)}", found)


def _text_cell(tokenizer: PreTrainedTokenizerBase, *, has_native: bool) -> Cell:
    """Going around the template: right only where tags are the model's own way, which no key of its template says."""
    if has_native:
        return Cell("text", Verdict.MISPLACED, "the template has a place of its own for the reasoning")
    try:
        asked = render(tokenizer, _PROMPTS[0], add_generation_prompt=True)
        whole = render(tokenizer, [*_PROMPTS[0], {"role": "assistant", "content": _ANSWER}])
    except Exception as exc:  # noqa: BLE001 - see _cell
        return Cell("text", Verdict.ERROR, f"the template raises {type(exc).__name__}: {exc}"[:200])
    if _ANSWER not in whole:
        return Cell("text", Verdict.ANSWER_LOST, "the template renders no answer")
    after = whole.partition(_ANSWER)[2].rstrip()
    prefilled = asked.rstrip().endswith(THINK[0])
    before = "" if prefilled and asked != asked.rstrip() else "\n" if prefilled else f"{THINK[0]}\n"
    found = Convention("text", before, f"\n{THINK[1]}\n\n", after, {}, prefilled)
    return Cell("text", Verdict.OK, f"rendered as {_shown(found)}", found)


def _shown(found: Convention) -> str:
    return repr(f"{found.before}REASONING{found.between}ANSWER{found.after}")


def _renamed(found: Convention | None, name: str) -> Convention | None:
    return found and Convention(name, found.before, found.between, found.after, found.kwargs, found.prefilled)
