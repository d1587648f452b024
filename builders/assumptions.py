"""What the capacity model is fed with: the prompts, what an earlier run measured, and what is assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Kind:
    """The prompts of one category.

    Attributes:
        prompts: how many.
        prompt_tokens: mean tokens of a conversation.
        fixed: step to the tokens of its messages that do not depend on the row.
        prefix: step to the tokens that all its requests of the category begin with.
    """

    category: str
    prompts: float
    prompt_tokens: float
    fixed: Mapping[str, float]
    prefix: Mapping[str, float]


@dataclass(frozen=True)
class Sizes:
    """Bytes on disk a row; the defaults are those of benchmarks/results/capacity.md.

    Attributes:
        prompt: a prompt, in `prompts/`.
        call: a call in the ledger, its text included; None to reckon it from its text.
        candidate, judgment: a row beside its text, in `candidates/` and `judgments/`.
        text: what a byte of text takes in a part: Parquet compresses it.
        derived: bytes of all derived sets together for each byte of the candidates' and judgments' parts.
    """

    prompt: float = 250.0
    call: float | None = None
    candidate: float = 110.0
    judgment: float = 110.0
    text: float = 0.32
    derived: float = 2.3


@dataclass(frozen=True)
class Measured:
    """What an earlier run says; a step it lacks is reckoned as without it.

    Attributes:
        name: of that run.
        prompt_tokens: step to mean tokens of a request.
        completion_tokens: step to mean tokens of a sample.
        passing: arm to the share of its candidates that was judged.
        leaking: share of the spec arm's candidates that were repaired.
        pairs: preference pairs a prompt that were compared.
        tokens_per_second: completion tokens over the seconds of all its sessions; None where it took none.
        sizes: what its rows took on disk.
    """

    name: str
    prompt_tokens: Mapping[str, float] = field(default_factory=dict)
    completion_tokens: Mapping[str, float] = field(default_factory=dict)
    passing: Mapping[str, float] = field(default_factory=dict)
    leaking: float | None = None
    pairs: float | None = None
    tokens_per_second: float | None = None
    sizes: Sizes | None = None


@dataclass(frozen=True)
class Assumptions:
    """What the recipe does not say.

    Attributes:
        output_share: completion tokens of a sample over its `max_tokens`, where nothing was measured.
        passing: share of candidates that the filters let through to the judge, where nothing was measured.
        bytes_per_token: of completions, in UTF-8.
        tokens_per_second: completion tokens of one replica, prompts included in its time.
        gpu_price: of a replica's hour.
        price_in, price_out: of a million prompt and completion tokens.
    """

    output_share: float = 0.5
    passing: float = 1.0
    bytes_per_token: float = 4.0
    tokens_per_second: float | None = None
    gpu_price: float | None = None
    price_in: float | None = None
    price_out: float | None = None


def scaled(kinds: Sequence[Kind], prompts: float) -> list[Kind]:
    """The same mix of categories at another number of prompts."""
    here = sum(kind.prompts for kind in kinds)
    return [replace(kind, prompts=kind.prompts * prompts / here) for kind in kinds] if here else list(kinds)
