"""The build's judge as a reward: same rubric, prompt version, engine and aggregation, without the reasoning.

As in the paper (arXiv 2412.16339, section 3.3) the judge sees spec(category), the conversation and the answer, never
the chain of thought, so that reinforcement does not teach the model to please a reader of its thoughts. What cannot be
split into reasoning and answer beyond doubt is not sent at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from specdistill.builders.engines.exchange import Completion, Request
from specdistill.builders.judging import (
    aggregate_judgments,
    criteria_for,
    judge_messages,
    read_verdict,
    verdict_schema,
)
from specdistill.errors import TrainError
from specdistill.schemas.recipe import Judge
from specdistill.schemas.vocabulary import CRITERIA, JudgmentStatus
from specdistill.train.template import Convention, split_completion

if TYPE_CHECKING:
    from specdistill.builders.engines.base import Engine

CRITERIA_SEEN = criteria_for(with_reasoning=False)
_WINDOW, _LEAST = 64, 16
_JUDGMENTS: dict[str, Any] = {
    "candidate_id": pl.String,
    "judgment_id": pl.String,
    "status": pl.String,
    **dict.fromkeys(CRITERIA, pl.Float64),
}


class JudgeReward:
    """An asynchronous TRL reward function.

    State: shares of the last completions without an answer and without a verdict, so that a run whose judge is down or
    whose completions are all cut short stops instead of learning nothing for hours.

    Args:
        engine: loaded engine of the judge.
        judge: its configuration (k, aggregation, weights, votes).
        rendered: category to the text of spec(category).
        convention: how the policy's turns are rendered.
        decode: token ids to text, special tokens kept.
        mode: `score`, the build's weighted score, or `product`, helpfulness x compliance.
        max_failures: largest share without a verdict among the last 64 answered completions.
        max_answerless: largest share without an answer among the last 64 completions.
    """

    __name__ = "judge"

    def __init__(
        self,
        engine: Engine,
        judge: Judge,
        rendered: Mapping[str, str],
        convention: Convention,
        decode: Callable[[Sequence[int]], str],
        *,
        mode: str = "score",
        max_failures: float = 0.5,
        max_answerless: float = 0.95,
    ) -> None:
        self._engine, self._judge, self._rendered = engine, judge, rendered
        self._convention, self._decode, self._mode = convention, decode, mode
        self._limits = {"answer": max_answerless, "verdict": max_failures}
        self._without = {name: deque[bool](maxlen=_WINDOW) for name in self._limits}
        self._reasons: deque[str] = deque(maxlen=4)

    async def __call__(
        self,
        prompts: Sequence[Sequence[Mapping[str, Any]]],
        completion_ids: Sequence[Sequence[int]],
        category: Sequence[str],
        log_metric: Callable[[str, float], None] = lambda name, value: None,
        **others: Any,
    ) -> list[float | None]:
        """One reward a completion, 0 to 1; None where the judge gave no verdict, 0 where there is no answer to judge.

        Args:
            prompts: conversations without the spec.
            completion_ids: the policy's tokens, reasoning included.
            category: category of each prompt.
            log_metric: TRL's hook for further curves.

        Raises:
            TrainError: too large a share of completions without an answer, or without a verdict.
            EngineUnreachable: the judge does not answer at all.
        """
        split = [split_completion(self._convention, self._decode(ids)) for ids in completion_ids]
        asked = [
            self._ask(str(at), category[at], prompts[at], found[1])
            for at, found in enumerate(split)
            if found is not None
        ]
        rows = [row for samples in await asyncio.gather(*asked) for row in samples]
        scored = self._aggregate(rows)
        rewards = [0.0 if found is None else self._reward(scored.get(str(at))) for at, found in enumerate(split)]
        self._log(scored, rewards, [found is None for found in split], log_metric)
        self._check([found is None for found in split], rewards)
        return rewards

    async def _ask(
        self, key: str, category: str, prompt: Sequence[Mapping[str, Any]], answer: str
    ) -> list[dict[str, Any]]:
        """k judge samples of one answer, as judgment rows."""
        if category not in self._rendered:
            raise TrainError(
                f"The dataset has no rendered spec for category '{category}'.",
                "Publish the run again; spec/rendered/CATEGORY.md belongs to a published set.",
            )
        messages = judge_messages(self._rendered[category], prompt, answer, reasoning=None)
        schema = verdict_schema(with_reasoning=False) if self._judge.reasoning == "guided" else None
        found = await self._engine.complete(Request(messages, self._judge.k, schema))
        return [self._row(key, at, one) for at, one in enumerate(found)]

    def _row(self, key: str, at: int, one: Completion) -> dict[str, Any]:
        if one.error is not None:
            self._reasons.append(one.error)
            status, scores = JudgmentStatus.FAILED, {}
        else:
            verdict = read_verdict(one.text, one.finish_reason, with_reasoning=False)
            status, scores = verdict.status, dict(verdict.scores)
            if verdict.abstain_reason:
                self._reasons.append(f"abstention: {verdict.abstain_reason}")
        return {
            "candidate_id": key,
            "judgment_id": f"{key}-{at}",
            "status": str(status),
            **dict.fromkeys(CRITERIA),
            **scores,
        }

    def _aggregate(self, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        judge = self._judge
        frame = aggregate_judgments(
            pl.DataFrame(rows, schema=_JUDGMENTS),
            aggregate=judge.aggregate,
            weights=judge.weights,
            votes_needed=judge.votes_needed,
        )
        return {row["candidate_id"]: row for row in frame.iter_rows(named=True)}

    def _reward(self, row: Mapping[str, Any] | None) -> float | None:
        if row is None or row["score"] is None:
            return None
        if self._mode == "product":
            return float(row["helpfulness"] * row["compliance"])
        return float(row["score"])

    def _log(
        self,
        scored: Mapping[str, Mapping[str, Any]],
        rewards: Sequence[float | None],
        answerless: Sequence[bool],
        log_metric: Callable[[str, float], None],
    ) -> None:
        """Curves of every criterion and of what could not be judged. All names always, so that all processes agree."""
        for name in CRITERIA_SEEN:
            values = [row[name] for row in scored.values() if row[name] is not None and row["score"] is not None]
            if values:
                log_metric(f"judge/{name}", sum(values) / len(values))
        total = max(1, len(rewards))
        log_metric("judge/answerless", sum(answerless) / total)
        log_metric("judge/no_verdict", sum(reward is None for reward in rewards) / total)

    def _check(self, answerless: Sequence[bool], rewards: Sequence[float | None]) -> None:
        self._without["answer"].extend(answerless)
        self._without["verdict"].extend(
            reward is None for reward, missing in zip(rewards, answerless, strict=True) if not missing
        )
        for name, seen in self._without.items():
            if len(seen) >= _LEAST and sum(seen) / len(seen) > self._limits[name]:
                share = f"{sum(seen)} of the last {len(seen)} completions have no {name}"
                if name == "answer":
                    raise TrainError(
                        f"{share}, so there is nothing to learn from.",
                        "Raise --max_completion_length above the length of a reasoning, or train with sft first.",
                    )
                why = "; ".join(dict.fromkeys(self._reasons))
                raise TrainError(
                    f"{share} ({why}), so the reward says nothing.",
                    "Mend the judge, or allow more with --max_judge_failures; resume with --resume_from_checkpoint.",
                )
