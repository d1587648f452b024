"""The capacity model: what a build will ask of models and leave on disk, reckoned before it asks. Pure functions.

Calls follow from the recipe by multiplication: prompts × samples, judged candidates × k, pairs × both orders. Tokens
are counted on the very messages that would be sent; what a model will answer is not known beforehand, so it is taken
from an earlier run (`Measured`) or assumed, and the estimate says which. All token counts are per request: n samples
of one request pay for their prompt once, and its shared prefix is fresh once a category and cached afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specdistill.builders.assumptions import Assumptions, Kind, Measured, Sizes
from specdistill.builders.pipelines import GENERATE_OF, JUDGE_OF, PARENT_OF
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import Arm

CLASSIFY, COMPARE = "label", "compare"


@dataclass(frozen=True)
class Load:
    """What one step asks for.

    Attributes:
        requests: conversations that are sent.
        calls: samples that come back, one ledger entry each.
        prompt_tokens: of all requests; `cached_tokens` of them are answered from a prefix cache that holds them all.
        completion_tokens: of all samples.
    """

    step: str
    requests: float = 0.0
    calls: float = 0.0
    prompt_tokens: float = 0.0
    cached_tokens: float = 0.0
    completion_tokens: float = 0.0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.step,
            self.requests + other.requests,
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    def as_dict(self) -> dict[str, Any]:
        """Rounded, for people and JSON."""
        return {
            "step": self.step,
            "requests": round(self.requests),
            "calls": round(self.calls),
            "prompt_tokens": round(self.prompt_tokens),
            "cached_tokens": round(self.cached_tokens),
            "fresh_tokens": round(self.prompt_tokens - self.cached_tokens),
            "completion_tokens": round(self.completion_tokens),
        }


@dataclass(frozen=True)
class Estimate:
    """A build, reckoned.

    Attributes:
        loads: per step, in the order of the build; steps that ask nothing are left out.
        bytes: ledger, prompts, candidates, judgments, datasets.
        gpu_hours: None without a speed.
        cost: `tokens` and `gpus`, each only where its prices are given.
    """

    prompts: float
    loads: Sequence[Load]
    bytes: Mapping[str, float]
    gpu_hours: float | None
    cost: Mapping[str, float]

    @property
    def total(self) -> Load:
        """All steps together."""
        return sum(self.loads, Load("total"))


def estimate(
    recipe: Recipe,
    kinds: Sequence[Kind],
    assumed: Assumptions,
    measured: Measured | None = None,
    *,
    unlabelled: float = 0.0,
) -> Estimate:
    """What a recipe asks for.

    Args:
        kinds: the prompts by category.
        unlabelled: how many of them a classifier has to label first.
    """
    measured = measured or Measured("")
    loads = [*classifying(recipe, kinds, assumed, measured, unlabelled)]
    sampled = {arm: sampling(recipe, arm, kinds, assumed, measured) for arm in GENERATE_OF}
    loads += [total(found, GENERATE_OF[arm]) for arm, found in sampled.items()]
    for number in range(len(recipe.judge.judges)):
        loads += [judging(recipe, arm, number, kinds, found, assumed, measured) for arm, found in sampled.items()]
    loads += comparing(recipe, kinds, total(sampled[Arm.SPEC], "").completion_tokens, assumed, measured)
    loads = [load for load in loads if load.calls]
    whole = sum(loads, Load("total"))
    speed = assumed.tokens_per_second or measured.tokens_per_second
    hours = whole.completion_tokens / speed / 3600 if speed else None
    cost: dict[str, float] = {}
    if assumed.price_in is not None or assumed.price_out is not None:
        spent = whole.prompt_tokens * (assumed.price_in or 0.0) + whole.completion_tokens * (assumed.price_out or 0.0)
        cost["tokens"] = spent / 1e6
    if assumed.gpu_price is not None and hours is not None:
        cost["gpus"] = hours * assumed.gpu_price
    prompts = sum(kind.prompts for kind in kinds)
    return Estimate(prompts, loads, storage(prompts, loads, assumed, measured.sizes or Sizes()), hours, cost)


def total(loads: Sequence[Load], step: str) -> Load:
    """Several loads as one of this name."""
    return sum(loads, Load(step))


def sampling(recipe: Recipe, arm: Arm, kinds: Sequence[Kind], assumed: Assumptions, measured: Measured) -> list[Load]:
    """The generation of one arm, by category."""
    step = GENERATE_OF[arm]
    settings = {Arm.CONTRAST: recipe.contrast, Arm.REPAIR: recipe.repair, Arm.CONSTITUTION: recipe.constitution}
    asked = recipe.generator if arm == Arm.SPEC else settings[arm]
    if asked is None or (arm == Arm.CONSTITUTION and recipe.contrast is None):
        return [Load(step) for _ in kinds]
    out = answer_tokens(recipe.generator.max_tokens, step, assumed, measured)
    found = []
    for kind in kinds:
        requests, longer = kind.prompts, 0.0
        if arm in PARENT_OF:
            # A request for each candidate of the parent that is to be rewritten, which it holds.
            parent = PARENT_OF[arm]
            drafts = recipe.contrast.samples if recipe.contrast else 0
            samples = recipe.generator.samples if arm == Arm.REPAIR else drafts
            share = (measured.leaking or 0.0) if arm == Arm.REPAIR else passing(parent, assumed, measured)
            requests = kind.prompts * samples * share
            longer = answer_tokens(recipe.generator.max_tokens, GENERATE_OF[parent], assumed, measured)
        load = one_load(step, kind, requests, asked.samples, longer, out, measured)
        if arm == Arm.SPEC and recipe.quota.asked:  # samples are asked for in rounds, at worst one a request
            most = load.calls if recipe.quota.budget is None else min(load.calls, recipe.quota.budget)
            load = one_load(step, kind, most, 1, longer, out, measured)
        found.append(load)
    return found


def judging(
    recipe: Recipe,
    arm: Arm,
    number: int,
    kinds: Sequence[Kind],
    sampled: Sequence[Load],
    assumed: Assumptions,
    measured: Measured,
) -> Load:
    """The `number`-th judge on the candidates of one arm that pass the filters."""
    judge, step = recipe.judge.judges[number], judge_name(arm, number)
    out = answer_tokens(judge.max_tokens, step, assumed, measured)
    share = passing(arm, assumed, measured)
    loads = []
    for kind, made in zip(kinds, sampled, strict=True):
        longer = made.completion_tokens / made.calls if made.calls else 0.0
        loads.append(one_load(step, kind, made.calls * share, judge.k, longer, out, measured, JUDGE_OF[Arm.SPEC]))
    return total(loads, step)


def comparing(
    recipe: Recipe, kinds: Sequence[Kind], generated: float, assumed: Assumptions, measured: Measured
) -> list[Load]:
    """Preference pairs, each judged in both orders."""
    asked = recipe.preference.pairwise
    if asked is None:
        return []
    a_prompt = recipe.preference.pairs_per_prompt if measured.pairs is None else measured.pairs
    candidates = sum(kind.prompts for kind in kinds) * recipe.generator.samples
    answers = 2 * generated / candidates if candidates else 0.0
    out = answer_tokens(recipe.judge.max_tokens, COMPARE, assumed, measured)
    loads = [
        one_load(COMPARE, kind, 2 * kind.prompts * a_prompt, asked.samples, answers, out, measured) for kind in kinds
    ]
    return [total(loads, COMPARE)]


def classifying(
    recipe: Recipe, kinds: Sequence[Kind], assumed: Assumptions, measured: Measured, unlabelled: float
) -> list[Load]:
    """Unlabelled prompts, and some labelled ones to see whether the classifier agrees."""
    config, prompts = recipe.classifier, sum(kind.prompts for kind in kinds)
    if config is None or not unlabelled or not prompts:
        return []
    requests = unlabelled + min(config.check, max(prompts - unlabelled, 0.0))
    out = answer_tokens(config.max_tokens, CLASSIFY, assumed, measured)
    loads = [
        one_load(CLASSIFY, kind, requests * kind.prompts / prompts, config.k, 0.0, out, measured) for kind in kinds
    ]
    return [total(loads, CLASSIFY)]


def one_load(
    step: str,
    kind: Kind,
    requests: float,
    samples: int,
    longer: float,
    out: float,
    measured: Measured,
    messages: str = "",
) -> Load:
    """The requests of one step for one category.

    Args:
        longer: tokens of a request beyond its messages' fixed part and the conversation (an answer to judge).
        out: completion tokens of a sample.
        messages: whose fixed part it is, where that is not the step's own.
    """
    messages = messages or step
    each = measured.prompt_tokens.get(step, kind.fixed.get(messages, 0.0) + kind.prompt_tokens + longer)
    cached = max(requests - 1, 0.0) * min(kind.prefix.get(messages, 0.0), each)
    return Load(step, requests, requests * samples, requests * each, cached, requests * samples * out)


def answer_tokens(max_tokens: int, step: str, assumed: Assumptions, measured: Measured) -> float:
    """Completion tokens of a sample: measured, else the stated share of the most it may have."""
    return measured.completion_tokens.get(step, assumed.output_share * max_tokens)


def passing(arm: Arm, assumed: Assumptions, measured: Measured) -> float:
    """Share of an arm's candidates that reach the judge."""
    return measured.passing.get(arm.value, assumed.passing)


def judge_name(arm: Arm, number: int) -> str:
    """Name of a judge's step, as the ledger has it."""
    return JUDGE_OF[arm] + (f"_{number + 1}" if number else "")


def storage(prompts: float, loads: Sequence[Load], assumed: Assumptions, sizes: Sizes) -> dict[str, float]:
    """Bytes on disk when the run is done."""
    judged = tuple(JUDGE_OF.values())
    found = {"prompts": prompts * sizes.prompt, "ledger": 0.0, "candidates": 0.0, "judgments": 0.0}
    for load in loads:
        text = load.completion_tokens * assumed.bytes_per_token
        each = ledger_call(text / load.calls) if sizes.call is None else sizes.call
        found["ledger"] += load.calls * each
        if load.step in GENERATE_OF.values():
            found["candidates"] += load.calls * sizes.candidate + text * sizes.text
        elif load.step.startswith(judged):
            found["judgments"] += load.calls * sizes.judgment + text * sizes.text
    found["datasets"] = sizes.derived * (found["candidates"] + found["judgments"])
    return found


PAGE, RECORD, KEY = 4096, 170, 120
"""Bytes of a page of SQLite, of a call beside its text, and of its key in the index and among those sent."""


def ledger_call(text: float) -> float:
    """Bytes of a call with so many bytes of text. Calls follow each other on pages, where half a call's room is lost on
    average; what is longer than a page takes pages of its own."""
    record = RECORD + text
    if record > PAGE:
        return KEY + record + PAGE / 2
    return KEY + PAGE / max(1.0, PAGE / record - 0.5)
