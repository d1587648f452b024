"""What a recipe would cost, without a model call and without a file: what the capacity model is fed with.

The prompts are read and cleaned as a build does it, the messages are those that would be sent, and an earlier run can
say what its models answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.asking import generation_messages
from specdistill.builders.assumptions import Assumptions, Kind, Measured, scaled
from specdistill.builders.build import resolved
from specdistill.builders.capacity import CLASSIFY, COMPARE, estimate
from specdistill.builders.comparing import compare_messages
from specdistill.builders.contexts import SpecContexts
from specdistill.builders.engines.embedded import EMBEDDED, cache_dir, resolve_model
from specdistill.builders.judging import judge_messages
from specdistill.builders.labelling import label_messages
from specdistill.builders.measured import measure_run
from specdistill.builders.pipelines import GENERATE_OF, JUDGE_OF
from specdistill.builders.pool import make_prompts
from specdistill.builders.rewriting import repair_messages, revise_messages
from specdistill.builders.steps import Step, nobody
from specdistill.errors import SpecError
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import Arm, RemovalReason
from specdistill.specs.loader import load_spec, seed_files
from specdistill.specs.tokens import ESTIMATE, Counter, tokenizer_counter

A_TURN = 4
"""Tokens that a chat template adds to a turn, about."""
Messages = Sequence[Mapping[str, Any]]


def kinds_of(recipe: Recipe, base: Path, step: Step = nobody) -> tuple[list[Kind], int, Counter]:
    """(the prompts by category, how many of them are unlabelled, what tokens were counted with).

    Unlabelled prompts are shared out over the categories as the labelled ones are, or evenly where there are none.

    Raises:
        PromptError, SpecError: the sources or the policy cannot be read.
    """
    recipe = resolved(recipe, base)
    spec = load_spec(recipe.spec)
    categories = [category.id for category in spec.categories]
    made = make_prompts(recipe, categories, base, seed_files(spec), step=step)
    unlabelled = made.removed.filter(pl.col("reason") == RemovalReason.UNLABELLED).height if recipe.classifier else 0
    counter = counter_of(recipe)
    contexts = SpecContexts(spec, examples=recipe.context.examples)
    turns = {label: prompts["prompt"].to_list() for (label,), prompts in made.table.group_by("category")}
    if not turns and unlabelled:
        turns = {category: [] for category in categories}
    labelled = sum(map(len, turns.values()))
    kinds = []
    for label in sorted(turns):
        share = len(turns[label]) / labelled if labelled else 1 / len(turns)
        tokens = [counter.count("\n".join(turn["content"] for turn in prompt)) for prompt in turns[label]]
        fixed, prefix = fixed_parts(recipe, contexts, label, counter.count)
        mean = sum(tokens) / len(tokens) if tokens else 0.0
        kinds.append(Kind(label, len(turns[label]) + share * unlabelled, mean, fixed, prefix))
    return kinds, unlabelled, counter


def counter_of(recipe: Recipe) -> Counter:
    """The generator's tokenizer where it lies on this machine, else an estimate by bytes. Nothing is fetched."""
    named = recipe.context.tokenizer or recipe.generator.model
    if Path(named).exists() or (named == EMBEDDED and any(cache_dir().glob("smollm2-*"))):
        try:
            return tokenizer_counter(resolve_model(named), named)
        except SpecError:
            return ESTIMATE
    return ESTIMATE


def fixed_parts(
    recipe: Recipe, contexts: SpecContexts, label: str, count: Callable[[str], int]
) -> tuple[dict[str, float], dict[str, float]]:
    """(step to the tokens of its messages without the row's texts, step to the tokens that all of them begin with)."""
    fixed: dict[str, float] = {}
    prefix: dict[str, float] = {}
    for step, ask in asking(recipe, contexts, label).items():
        plain, other = ask("", ""), ask("A question.", "An answer.")
        fixed[step] = sum(count(turn["content"]) + A_TURN for turn in plain)
        prefix[step] = shared(plain, other, count)
    return fixed, prefix


def asking(recipe: Recipe, contexts: SpecContexts, label: str) -> dict[str, Callable[[str, str], Messages]]:
    """Step to what it sends for a prompt and an answer (the judges' steps share one)."""
    text, anchor, mode = contexts.text(label), contexts.example_anchor(label), recipe.generator.reasoning
    hint = "refuse" if recipe.judge.hint else None

    def user(prompt: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": prompt}]

    def generate(prompt: str, shown: str | None) -> Messages:
        place = recipe.generator.placement
        return generation_messages(
            user(prompt), spec_text=shown, example_anchor=anchor, reasoning=mode, placement=place
        )

    return {
        GENERATE_OF[Arm.SPEC]: lambda prompt, _: generate(prompt, text),
        GENERATE_OF[Arm.CONTRAST]: lambda prompt, _: generate(prompt, None),
        GENERATE_OF[Arm.REPAIR]: lambda prompt, answer: repair_messages(user(prompt), answer, answer, mode),
        GENERATE_OF[Arm.CONSTITUTION]: lambda prompt, answer: revise_messages(text, user(prompt), answer, anchor, mode),
        JUDGE_OF[Arm.SPEC]: lambda prompt, answer: judge_messages(text, user(prompt), answer, answer, hint),
        COMPARE: lambda prompt, answer: compare_messages(text, user(prompt), answer, answer),
        CLASSIFY: lambda prompt, _: label_messages(contexts.spec, user(prompt)),
    }


def shared(one: Messages, other: Messages, count: Callable[[str], int]) -> int:
    """Tokens that two conversations have in common from the start."""
    tokens = 0
    for left, right in zip(one, other, strict=True):
        if left != right:
            return tokens + count(common_start(left["content"], right["content"]))
        tokens += count(left["content"]) + A_TURN
    return tokens


def common_start(one: str, other: str) -> str:
    """The characters that two texts begin with."""
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return one[:at]
    return min(one, other, key=len)


def dry_run(
    recipe: Recipe,
    base: Path,
    assumed: Assumptions,
    *,
    like: Path | None = None,
    prompts: int | None = None,
    step: Step = nobody,
) -> dict[str, Any]:
    """What a recipe would ask for and leave on disk. Makes no model call and writes nothing.

    Args:
        like: an earlier run whose models answered as these will.
        prompts: another number of prompts in the same mix of categories.

    Returns:
        recipe, prompts, categories (to prompts), steps, total, gpu_hours, cost, bytes, and
        assumptions in words; JSON-able.

    Raises:
        PromptError, SpecError: the sources or the policy cannot be read.
        RunError: there is no run `like`.
    """
    kinds, unlabelled, counter = kinds_of(recipe, base, step)
    measured = measure_run(like) if like else None
    asked = float(unlabelled)
    if prompts is not None:
        asked *= prompts / (sum(kind.prompts for kind in kinds) or 1)
        kinds = scaled(kinds, prompts)
    found = estimate(recipe, kinds, assumed, measured, unlabelled=asked)
    return {
        "recipe": recipe.name,
        "prompts": round(found.prompts),
        "categories": {kind.category: round(kind.prompts) for kind in kinds},
        "steps": [load.as_dict() for load in found.loads],
        "total": found.total.as_dict(),
        "gpu_hours": None if found.gpu_hours is None else round(found.gpu_hours, 3),
        "cost": {name: round(value, 2) for name, value in found.cost.items()},
        "bytes": {name: round(value) for name, value in found.bytes.items()},
        "assumptions": said(recipe, assumed, measured, counter, unlabelled, prompts),
    }


def said(
    recipe: Recipe,
    assumed: Assumptions,
    measured: Measured | None,
    counter: Counter,
    unlabelled: int,
    prompts: int | None,
) -> list[str]:
    """What the estimate rests on, in words."""
    told = [f"Prompts were counted with {counter.name}; a chat template adds {A_TURN} tokens a turn."]
    if measured is None:
        told += [
            f"A sample takes {assumed.output_share:.0%} of its max_tokens; --like RUN takes it from a run.",
            f"The filters let {assumed.passing:.0%} of the candidates through to the judge.",
            f"A completion token is {assumed.bytes_per_token:g} bytes of text; what a row takes on disk is that of "
            "benchmarks/results/capacity.md.",
        ]
    else:
        told.append(
            f"Tokens a call, the share that passes the filters and bytes a row are those of the run {measured.name}."
        )
    told.append("The prefix cache holds every category's policy: it is computed once for each step that shows it.")
    if assumed.tokens_per_second or (measured and measured.tokens_per_second):
        speed, whose = assumed.tokens_per_second, "as given"
        if speed is None and measured is not None:
            speed, whose = measured.tokens_per_second, f"as in {measured.name}"
        told.append(f"A replica gives {speed:,.0f} completion tokens a second, prompts included in its time ({whose}).")
    if assumed.price_in is not None or assumed.price_out is not None:
        told.append("Cached prompt tokens cost as much as fresh ones, and every step is paid by the token.")
    if prompts is not None:
        told.append("The categories are mixed as in the recipe's own prompts.")
    if recipe.quota.asked:
        told.append("With a quota, generation ends when it is met: this is the most it may ask, a request a sample.")
    if recipe.judge.adaptive:
        told.append("An adaptive judge stops when its verdict cannot change: this is the most it may ask.")
    if recipe.repair and not (measured and measured.leaking is not None):
        told.append("No answer leaks, so none is repaired.")
    if recipe.preference.pairwise and not (measured and measured.pairs is not None):
        told.append("Every prompt gives the pairs it may.")
    if unlabelled:
        told.append(f"{unlabelled:,} prompts without a category are shared out as the others are.")
    told.append(
        "Failed calls and retries are not counted; a run that is there, and answers that are equal, are not taken off."
    )
    return told
