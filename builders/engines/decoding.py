"""Decoding a batch of unlike requests with a transformers model. Imports torch: import this module late.

Every row has its own temperature, seed, length and JSON schema, and what it draws does not depend on which
rows it shares a batch with (up to rounding).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria, StoppingCriteriaList


@dataclass
class Row:
    """One sample to be drawn.

    Attributes:
        prompt: token ids.
        max_tokens: most tokens to draw.
        temperature: 0 is greedy.
        top_p: smallest set of tokens with this probability mass is drawn from.
        top_k: only so many of the likeliest tokens are drawn from; 0 for all.
        seed: of this row's own generator.
        matcher: an xgrammar matcher that holds the text to a grammar, or None.
    """

    prompt: list[int]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    matcher: Any = None
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        self.generator.manual_seed(self.seed)


def decode(
    model: Any,
    rows: list[Row],
    ends: set[int],
    pad: int,
    stopped: Callable[[], bool],
    options: dict[str, Any],
) -> list[list[int]]:
    """The tokens drawn for each row, without the end token; exactly `max_tokens` of them where none came.

    Args:
        model: a decoder-only PreTrainedModel.
        rows: what to draw.
        ends: ids of tokens that end a text.
        pad: any token id, for filling up.
        stopped: asked after each token; True ends the batch early.
        options: further arguments of `model.generate`, for the whole batch.
    """
    shared = shared_prefix([row.prompt for row in rows]) if _plain_cache(model) else 0
    rest = [row.prompt[shared:] for row in rows]
    width = max(map(len, rest))
    device = model.device
    # [what all share | filling | what each has of its own]: positions are counted over the mask, so filling
    # between
    # costs nothing, and the shared part is computed once.
    ids = torch.tensor(
        [row.prompt[:shared] + [pad] * (width - len(own)) + own for row, own in zip(rows, rest, strict=True)]
    )
    mask = torch.tensor([[1] * shared + [0] * (width - len(own)) + [1] * len(own) for own in rest])
    with torch.inference_mode():
        if shared:
            head = model(ids[:1, :shared].to(device), use_cache=True, logits_to_keep=1).past_key_values
            head.batch_repeat_interleave(len(rows))
            options = options | {"past_key_values": head}
        found = model.generate(
            ids.to(device),
            attention_mask=mask.to(device),
            do_sample=False,  # RowSampler leaves one token to choose from
            num_beams=1,
            max_new_tokens=max(row.max_tokens for row in rows),
            pad_token_id=pad,
            eos_token_id=sorted(ends),
            logits_processor=[RowSampler(rows, ends)],
            stopping_criteria=StoppingCriteriaList([_Stopped(stopped)]),
            **options,
        )
    drawn = found[:, shared + width :].tolist()
    return [
        list(takewhile(lambda token: token not in ends, tokens[: row.max_tokens]))
        for row, tokens in zip(rows, drawn, strict=True)
    ]


def shared_prefix(prompts: list[list[int]]) -> int:
    """Length of what all prompts begin with, at most one token less than the shortest; 0 for less than 16
    tokens."""
    first, last = min(prompts), max(prompts)  # of sorted lists, the outer two differ first
    length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    length = min(length, min(map(len, prompts)) - 1)
    return length if length >= 16 and len(prompts) > 1 else 0


def _plain_cache(model: Any) -> bool:
    """Whether every layer keeps all keys and values, so that a cache can be made for one row and given to
    many."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and not model._is_stateful and getattr(config, "sliding_window", None) is None


class RowSampler(LogitsProcessor):
    """Draws the next token of each row and leaves only that one possible.

    Args:
        rows: of one batch, in order.
        ends: ids of tokens that end a text.
    """

    def __init__(self, rows: list[Row], ends: set[int]) -> None:
        self._rows, self._ends = rows, ends
        self._done = [False] * len(rows)
        self._drawn = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores of shape (rows, vocabulary): 0 for the token drawn, -inf for all others."""
        if self._drawn:
            self._follow(input_ids[:, -1].tolist())
        allowed = self._hold_to_grammar(scores.to(torch.float32, copy=True))
        tokens = _draw(self._rows, allowed)
        tokens[torch.tensor(self._done)] = min(self._ends)
        self._drawn += 1
        chosen = torch.full_like(allowed, -torch.inf).scatter_(1, tokens[:, None], 0.0)
        return chosen  # type: ignore[return-value]

    def _follow(self, tokens: list[int]) -> None:
        """Take in the tokens drawn last."""
        for index, (row, token) in enumerate(zip(self._rows, tokens, strict=True)):
            if self._done[index]:
                continue
            if row.matcher is not None and not row.matcher.accept_token(token):
                raise RuntimeError("a token was drawn that the schema does not allow")
            self._done[index] = token in self._ends or self._drawn >= row.max_tokens

    def _hold_to_grammar(self, scores: torch.Tensor) -> torch.Tensor:
        """Leave only tokens that each row's grammar allows, in place; shape (rows, vocabulary)."""
        held = [i for i, row in enumerate(self._rows) if row.matcher is not None and not self._done[i]]
        if not held:
            return scores
        import xgrammar

        bitmask = xgrammar.allocate_token_bitmask(len(self._rows), scores.shape[1])
        for index in held:
            self._rows[index].matcher.fill_next_token_bitmask(bitmask, index)
        xgrammar.apply_token_bitmask_inplace(scores, bitmask.to(scores.device), indices=held)
        return scores


def _draw(rows: list[Row], scores: torch.Tensor) -> torch.Tensor:
    """One token for each row, shape (rows,), from scores of shape (rows, vocabulary).

    By inverse transform: one uniform number a row, from its own generator, against the cumulated
    probabilities.
    """
    warm = torch.tensor([row.temperature or 1.0 for row in rows], device=scores.device)
    probabilities = torch.softmax(scores / warm[:, None], dim=-1)
    for index, row in enumerate(rows):
        if row.top_k or row.top_p < 1:
            probabilities[index] = _head(probabilities[index], row.top_k, row.top_p)
    bounds = probabilities.cumsum(-1)
    uniform = torch.stack([torch.rand(1, generator=row.generator) for row in rows]).to(scores.device)
    drawn = torch.searchsorted(bounds, uniform * bounds[:, -1:], right=True).squeeze(1)
    likeliest = scores.argmax(-1)
    greedy = torch.tensor([row.temperature == 0 for row in rows], device=scores.device)
    # Rounding can put the number at the upper end itself, beyond the last token.
    return torch.where(greedy | (drawn >= scores.shape[1]), likeliest, drawn)


def _head(probabilities: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """Probabilities of shape (vocabulary,) without the tail that top-k and top-p (Holtzman et al. 2020,
    section 3.1) leave out; they no longer add up to one."""
    ordered, order = probabilities.sort(descending=True)
    keep = ordered.cumsum(-1) - ordered < top_p
    if top_k:
        keep[top_k:] = False
    return torch.zeros_like(probabilities).scatter(0, order[keep], ordered[keep])


class _Stopped(StoppingCriteria):
    """Ends a batch early when told to."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._asked = stopped

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any) -> torch.BoolTensor:
        """True for every row once stopped, shape (rows,)."""
        ended = torch.full((input_ids.shape[0],), self._asked(), device=input_ids.device)
        return ended  # type: ignore[return-value]
