"""The closed sets of words that rows are made of. A new member is a minor schema version; a removed one is major."""

from __future__ import annotations

from enum import StrEnum

UNION = "+"
"""A prompt may belong to several categories: `violence+self-harm` is shown the union of both."""


class Outcome(StrEnum):
    """What a clause asks for, and what a prompt is expected to get."""

    COMPLY = "comply"
    REFUSE = "refuse"
    SAFE_COMPLETE = "safe_complete"
    UNSPECIFIED = "unspecified"


class Arm(StrEnum):
    """Where a candidate comes from."""

    SPEC = "spec"
    """Sampled with spec(category) in context."""
    CONTRAST = "contrast"
    """The same model without the spec: honest material for rejected completions."""
    REPAIR = "repair"
    """An answer that leaked, written again without the leak; the reasoning is that of its parent."""
    CONSTITUTION = "constitution"
    """An answer without the spec, criticised by the spec and revised (constitutional AI, arXiv 2212.08073)."""
    HUMAN = "human"
    """An answer that a person wrote in the place of a model's; the reasoning is the model's."""


class FinishReason(StrEnum):
    """Why generation ended."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"


class ParseOutcome(StrEnum):
    """What reading a model's text as (reasoning, answer) or as a verdict gave. An enum, not a bool."""

    OK = "ok"
    FAILED = "failed"
    """The call itself failed; the row's `error` says how."""
    TRUNCATED = "truncated"
    EMPTY = "empty"
    MALFORMED = "malformed"


class JudgmentStatus(StrEnum):
    """A judge sample is a score, an abstention, or a failed call. Only a score has numbers."""

    SCORED = "scored"
    ABSTAINED = "abstained"
    FAILED = "failed"


class HintAnswer(StrEnum):
    """Whether the judge agrees with what another AI is said to have found. Recorded, never a label."""

    AGREE = "agree"
    DISAGREE = "disagree"


class AbstainReason(StrEnum):
    """Why a judge sample gave no usable verdict."""

    DECLINED = "declined"
    """The judge itself said that it cannot tell."""
    TRUNCATED = "truncated"
    NOT_JSON = "not_json"
    WRONG_SHAPE = "wrong_shape"
    OUT_OF_RANGE = "out_of_range"


class RejectReason(StrEnum):
    """Why a candidate is not accepted. Every candidate that is not accepted has exactly one: the first that holds."""

    CALL_FAILED = "call_failed"
    TRUNCATED = "truncated"
    EMPTY_ANSWER = "empty_answer"
    MALFORMED = "malformed"
    NO_REASONING = "no_reasoning"
    WRONG_LANGUAGE = "wrong_language"
    """The answer is in another language than the question."""
    REPEATED_TEXT = "repeated_text"
    LEAK = "leak"
    """Spec text, clause anchors or policy talk in the answer."""
    SPEC_COPIED = "spec_copied"
    INVENTED_CLAUSE = "invented_clause"
    """The reasoning cites a clause that the spec it was shown does not have."""
    VACILLATING = "vacillating"
    """The reasoning goes back and forth about what to do."""
    CONTRADICTION = "contradiction"
    """The reasoning settles on an outcome that the answer does not have."""
    CONTRAST_ARM = "contrast_arm"
    """Sampled without the spec, so never a training target."""
    CONSTITUTION_ARM = "constitution_arm"
    """A revision, for preference pairs only: its reasoning is a critique of a draft."""
    NO_VERDICT = "no_verdict"
    """Too few judge samples gave a score."""
    BELOW_THRESHOLD = "below_threshold"
    REJECTED_BY_AUDIT = "rejected_by_audit"
    """People looked at it and said no."""
    OVER_QUOTA = "over_quota"
    """Good, but its prompt or category already has its share."""


class RemovalReason(StrEnum):
    """Why a prompt of a source is not in the set: the first that holds, in this order."""

    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    LANGUAGE = "language"
    PRIVATE = "private"
    """Secrets or personal data, where the recipe says to remove them."""
    DUPLICATE = "duplicate"
    """Equal but for case, spaces and punctuation."""
    NEAR_DUPLICATE = "near_duplicate"
    SAME_MEANING = "same_meaning"
    CONTAMINATED = "contaminated"
    """Overlaps with a prompt of an evaluation set."""
    UNLABELLED = "unlabelled"
    """Without a category, and the classifier is not sure of one: a person is to say."""
    BESIDE_EVALUATION = "beside_evaluation"
    """A twin or near-duplicate of a prompt that is held out for evaluation."""


CRITERIA = ("compliance", "helpfulness", "correctness", "reasoning_quality")
"""What the judge scores, each 0 to 1 in rows (1 to 5 in the judge's own answer)."""

CONFIGS = ("sft", "preference", "kto", "reward", "prompts", "rejected", "judgments")
"""The published configs, in the order of the card."""
