"""A simulated judge: a fake whose errors are known exactly, to see whether the report finds them. It judges nothing.

It is told how good an answer is and writes what a model would write (JSON, or something that is none), with a bias, a
variance, an abstention rate and an order effect that follow from its settings without any estimate:

- an answer of true level L (2 or 3 on the judge's scale of 1 to 5) gets, per criterion and independently, L, plus 1
  with probability `bias`, plus or minus 1 with probability `noise` together. Nothing is clipped, so on the scale 0 to 1
  a criterion's bias is bias/4 and its variance (noise + bias (1 - bias)) / 16;
- with probability `abstain` it says so, breaks off, or babbles;
- of two answers it prefers the one shown first with probability `order`, else the better one.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

import polars as pl

from specdistill.builders.comparing import read_choice
from specdistill.builders.judging import read_verdict
from specdistill.schemas.comparisons import COMPARISONS
from specdistill.schemas.rows import CANDIDATES, CLAUSES, JUDGMENTS, PROMPTS
from specdistill.schemas.vocabulary import CRITERIA

NO_VERDICT = (
    ('{"justification": "I cannot tell", "abstain": true, "compliance": 5}', "stop"),
    ('{"justification": "5 out of 5, because', "length"),
    ("I would give this a 5.", "stop"),
    ("\udcff\x00\x07 5 5 5 5", "stop"),
    ('{"compliance": "5", "helpfulness": 5, "correctness": 5, "reasoning_quality": 5}', "stop"),
    ('{"compliance": 50, "helpfulness": 5, "correctness": 5, "reasoning_quality": 5}', "stop"),
)


@dataclass
class SimulatedJudge:
    """The fake; see the module. `seed` decides everything."""

    bias: float = 0.1
    noise: float = 0.3
    abstain: float = 0.1
    order: float = 0.2
    seed: int = 0
    name: str = "simulated"

    def __post_init__(self) -> None:
        assert min(self.bias, self.noise, self.abstain, self.order) >= 0
        assert max(self.bias, self.noise, self.abstain, self.order) <= 1
        self.rng = random.Random(self.seed)

    @property
    def score_bias(self) -> float:
        """Judge minus truth on the scale 0 to 1."""
        return self.bias / 4

    @property
    def criterion_variance(self) -> float:
        """Of one criterion in one sample, on the scale 0 to 1."""
        return (self.noise + self.bias * (1 - self.bias)) / 16

    def score_variance(self, weights: dict[str, float]) -> float:
        """Of the weighted score of one sample: criteria are independent."""
        total = sum(weights.values())
        return sum((weight / total) ** 2 for weight in weights.values()) * self.criterion_variance

    def verdict(self, level: int) -> tuple[str, str]:
        """(text, finish reason) for an answer of this true level."""
        if self.rng.random() < self.abstain:
            return self.rng.choice(NO_VERDICT)
        marks = {name: self.mark(level) for name in CRITERIA}
        return json.dumps({"justification": "simulated", "abstain": False, **marks}), "stop"

    def mark(self, level: int) -> int:
        draw = self.rng.random()
        step = 1 if draw < self.noise / 2 else -1 if draw < self.noise else 0
        return level + step + (self.rng.random() < self.bias)

    def choice(self, first: float, second: float) -> tuple[str, str]:
        """(text, finish reason) for two answers of these true levels."""
        if self.rng.random() < self.abstain:
            return self.rng.choice(NO_VERDICT)
        better = "first" if first > second else "second" if second > first else "tie"
        if self.rng.random() < self.order:
            better = "first"
        return json.dumps({"justification": "simulated", "abstain": False, "better": better}), "stop"

    def judgments(self, levels: dict[str, int], k: int, categories: str = "ab") -> pl.DataFrame:
        """k samples of every candidate (id to true level), read as the build reads a judge."""
        rows = []
        for number, (candidate, level) in enumerate(levels.items()):
            for index in range(k):
                verdict = read_verdict(*self.verdict(level))
                rows.append(
                    {
                        **dict.fromkeys(JUDGMENTS.names),
                        "judgment_id": f"{candidate}-{self.name}-{index}",
                        "candidate_id": candidate,
                        "prompt_id": candidate.partition("-")[0],
                        "category": categories[number % len(categories)],
                        "judge": self.name,
                        "judge_digest": f"digest of {self.name}",
                        "spec_digest": "s",
                        "sample_index": index,
                        "status": verdict.status.value,
                        "abstain_reason": verdict.abstain_reason and verdict.abstain_reason.value,
                        **{name: verdict.scores.get(name) for name in CRITERIA},
                    }
                )
        return JUDGMENTS.frame(rows)

    def comparisons(self, pairs: list[tuple[str, str]], levels: dict[str, int]) -> pl.DataFrame:
        """One sample of every pair in each order."""
        rows = []
        for low, high in pairs:
            for first, second in ((low, high), (high, low)):
                verdict, better = read_choice(*self.choice(levels[first], levels[second]))
                rows.append(
                    {
                        **dict.fromkeys(COMPARISONS.names),
                        "comparison_id": f"{first} {second}",
                        "prompt_id": "p",
                        "category": "a",
                        "first_id": first,
                        "second_id": second,
                        "judge": self.name,
                        "judge_digest": f"digest of {self.name}",
                        "spec_digest": "s",
                        "sample_index": 0,
                        "status": verdict.status.value,
                        "abstain_reason": verdict.abstain_reason and verdict.abstain_reason.value,
                        "better": better,
                    }
                )
        return COMPARISONS.frame(rows)


CLAUSE_ROWS = CLAUSES.frame(
    [{"anchor": "AA-R1", "category": "a", "outcome": "refuse", "title": "t", "text": "Never do it.", "digest": "d"}]
)


def candidates_for(prompts: int, samples: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """Prompts, candidates that pass every filter, and each candidate's true level: good is 3, bad is 2."""
    rng = random.Random(seed)
    asked, sampled, levels = [], [], {}
    for number in range(prompts):
        prompt, ease = f"p{number:04}", rng.random()
        asked.append(
            {
                "prompt_id": prompt,
                "prompt": [{"role": "user", "content": f"question {number}"}],
                "category": "ab"[number % 2],
                "source": "s",
                "group_id": prompt,
            }
        )
        for index in range(samples):
            key = f"{prompt}-{index}"
            levels[key] = 3 if rng.random() < ease else 2
            sampled.append(
                {
                    "candidate_id": key,
                    "prompt_id": prompt,
                    "category": "ab"[number % 2],
                    "arm": "spec",
                    "sample_index": index,
                    "model": "m",
                    "generator_digest": "g",
                    "spec_digest": "s",
                    "parse": "ok",
                    "reasoning": "This is decided by [AA-R1] alone.",
                    "answer": f"Answer {key}.",
                    "finish_reason": "stop",
                }
            )
    return (
        PROMPTS.frame([dict.fromkeys(PROMPTS.names) | row for row in asked]),
        CANDIDATES.frame([dict.fromkeys(CANDIDATES.names) | row for row in sampled]),
        levels,
    )
