"""The model tasks of a build, as distilabel Tasks that also work in pipelines of the user's own.

Under our runner a task's samples are single ledger calls with an index; under stock `Pipeline.run` they come from
`llm.generate_outputs`. Both paths end in `rows`, so there is one place where a completion becomes columns.
"""

# No `from __future__ import annotations` here: distilabel reads the type hints of `process` at run time.

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from distilabel.steps.base import StepInput
from distilabel.steps.tasks.base import Task
from distilabel.typing import FormattedInput, StepOutput
from pydantic import PrivateAttr

from specdistill.builders.adaptive import Rule
from specdistill.builders.asking import generation_messages
from specdistill.builders.contexts import SpecContexts
from specdistill.builders.engines.base import Completion
from specdistill.builders.judging import judge_messages, read_verdict, verdict_schema
from specdistill.builders.keys import candidate_id, judgment_id
from specdistill.builders.reading import Reading, guided_schema, read_reasoned
from specdistill.schemas.rows import CANDIDATES, JUDGMENTS
from specdistill.schemas.text import storable, without_folder
from specdistill.schemas.vocabulary import CRITERIA, Arm, FinishReason, JudgmentStatus, ParseOutcome


class SampledTask(Task):
    """A task whose every sample becomes a row of its own, whatever became of the call."""

    add_raw_input: bool = False
    add_raw_output: bool = False

    @abstractmethod
    def row(self, row: Mapping[str, Any], index: int, completion: Completion) -> dict[str, Any]:
        """The input row with the columns of one sample."""

    def wave(self, row: Mapping[str, Any], wanted: Sequence[int], there: Mapping[int, Completion]) -> list[int]:
        """The samples to ask for in the next request; none ends the row. All that are wanted, at once."""
        return [index for index in wanted if index not in there]

    def rows(self, row: Mapping[str, Any], samples: Mapping[int, Completion]) -> list[dict[str, Any]]:
        """One output row a sample, in index order."""
        return [self.row(row, index, samples[index]) for index in sorted(samples)]

    def format_output(self, output: str | None, input: dict[str, Any] | None = None) -> dict[str, Any]:
        """distilabel's hook: the columns of one generation."""
        return self.row(input or {}, 0, completion_of(output))

    def process(self, inputs: StepInput) -> StepOutput:  # type: ignore[override]
        """distilabel's hook: the stock way, a batch at a time."""
        outputs = self.llm.generate_outputs(
            inputs=[self.format_input(row) for row in inputs],
            num_generations=self.num_generations,
            **self.llm.get_generation_kwargs(),
        )
        yield [
            out
            for row, output in zip(inputs, outputs, strict=True)
            for out in self.rows(row, completions_of(output, self.num_generations))
        ]


class SpecTask(SampledTask):
    """A task that shows its model spec(category).

    Attributes:
        spec: folder of the spec.
        examples: whether the spec's worked examples are shown.
    """

    spec: str
    examples: bool = False

    _contexts: SpecContexts | None = PrivateAttr(None)

    @property
    def contexts(self) -> SpecContexts:
        """The rendered specs; loaded on first use, so that the step can travel to another process without them."""
        # Read past pydantic's `__getattr__`, which costs 10 µs a time: every row asks five times.
        found: SpecContexts | None = (self.__pydantic_private__ or {}).get("_contexts")
        if found is None:
            found = self._contexts = SpecContexts.load(self.spec, examples=self.examples)
        return found


def completion_of(text: str | None, finish_reason: str | None = None) -> Completion:
    """A generation of any distilabel LLM as a completion; None is a failed call."""
    if text is None:
        return Completion("", None, FinishReason.ERROR, None, None, error="the engine gave no text")
    return Completion(text, None, FinishReason(finish_reason or FinishReason.STOP), None, None)


def completions_of(output: Mapping[str, Any] | None, samples: int) -> dict[int, Completion]:
    """The generations of one distilabel output by index; what is missing is a failed call."""
    texts: Sequence[str | None] = (output or {}).get("generations") or []
    statistics = (output or {}).get("statistics") or {}
    reasons: Sequence[str | None] = statistics.get("finish_reason") or []
    return {
        index: completion_of(
            texts[index] if index < len(texts) else None, reasons[index] if index < len(reasons) else None
        )
        for index in range(max(samples, len(texts)))
    }


class GenerateWithSpec(SpecTask):
    """Samples (reasoning, answer) for a prompt with spec(category) in context, or without it in the contrast arm.

    Attributes:
        spec, examples: as for `SpecTask`.
        arm: `spec` or `contrast`.
        reasoning: how reasoning is had: `native`, `prompted`, `guided`.
        placement: where the spec stands: `system` or `wrapped`.
        generator_digest: digest of model, sampling and template, on every row.
        reasoning_chars: most characters of a guided reasoning.
        answer_chars: most characters of a guided answer.

    Input columns:
        - prompt_id (`str`), prompt (list of messages), category (`str`)

    Output columns: those of the candidates table.
    """

    arm: str = Arm.SPEC.value
    reasoning: str = "native"
    placement: str = "system"
    generator_digest: str = ""
    reasoning_chars: int = 4000
    answer_chars: int = 4000

    @property
    def inputs(self) -> list[str]:
        """Columns needed."""
        return ["prompt_id", "prompt", "category"]

    @property
    def outputs(self) -> list[str]:
        """Columns given."""
        return [name for name in CANDIDATES.names if name not in ("prompt_id", "category")]

    def spec_digest(self, category: str) -> str | None:
        """Digest of the text shown for a category; None in the contrast arm."""
        return self.contexts.digest(category) if self.arm == Arm.SPEC else None

    def format_input(self, input: dict[str, Any]) -> FormattedInput:
        """The messages sent for one prompt, with a JSON schema in guided mode."""
        category, with_spec = input["category"], self.arm == Arm.SPEC
        messages = generation_messages(
            input["prompt"],
            spec_text=self.contexts.text(category) if with_spec else None,
            example_anchor=self.contexts.example_anchor(category) if with_spec else "",
            reasoning=self.reasoning,
            placement=self.placement,
        )
        if self.reasoning != "guided":
            return messages
        return messages, {"schema": guided_schema(self.reasoning_chars, self.answer_chars)}

    def read(self, text: str, finish_reason: FinishReason) -> Reading:
        """Reasoning and answer in one text."""
        bound = self.answer_chars if self.reasoning == "guided" else None
        return read_reasoned(text, self.reasoning, finish_reason, longest_answer=bound)  # type: ignore[arg-type]

    def candidate_id(self, row: Mapping[str, Any], index: int) -> str:
        """The key of one sample."""
        return candidate_id(row["prompt_id"], self.arm, self.generator_digest, self.spec_digest(row["category"]), index)

    def row(self, row: Mapping[str, Any], index: int, completion: Completion) -> dict[str, Any]:
        """The candidate as read from one completion."""
        failed = completion.error is not None
        text = storable(completion.canonical())
        reading = None if failed else self.read(text, completion.finish_reason)
        kept = reading is not None and reading.parse == ParseOutcome.OK
        spec_digest = self.spec_digest(row["category"])
        return {
            **row,
            "candidate_id": self.candidate_id(row, index),
            "arm": self.arm,
            "sample_index": index,
            "model": without_folder(self.llm.model_name),
            "generator_digest": self.generator_digest,
            "spec_digest": spec_digest,
            "category_digest": None if spec_digest is None else self.contexts.category_digest(row["category"]),
            "parse": (ParseOutcome.FAILED if reading is None else reading.parse).value,
            "reasoning": reading.reasoning if reading else None,
            "answer": reading.answer if reading else None,
            "raw": None if kept or failed else text,
            "finish_reason": FinishReason(completion.finish_reason).value,
            "error": completion.error,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
        }


class JudgeWithSpec(SpecTask):
    """Scores a candidate with the same spec in view; every sample is a judgment or an abstention.

    Attributes:
        spec, examples: as for `SpecTask`.
        judge_digest: digest of model, sampling and rubric, on every row.
        justification_chars: most characters of the justification.
        guided: whether the JSON schema is enforced by the engine.
        hint: whether the prompt's expected outcome is put to the judge, to agree or disagree with.
        adaptive: fields of `adaptive.Rule`; None asks for all samples at once.

    Input columns:
        - candidate_id, prompt_id, prompt, category, reasoning, answer; with a hint also outcome_hint

    Output columns: those of the judgments table.
    """

    judge_digest: str = ""
    justification_chars: int = 240
    guided: bool = True
    hint: bool = False
    adaptive: dict[str, Any] | None = None

    @property
    def inputs(self) -> list[str]:
        """Columns needed."""
        known = ["candidate_id", "prompt_id", "prompt", "category", "reasoning", "answer"]
        return [*known, "outcome_hint"] if self.hint else known

    @property
    def outputs(self) -> list[str]:
        """Columns given."""
        return [name for name in JUDGMENTS.names if name not in ("candidate_id", "prompt_id", "category")]

    def format_input(self, input: dict[str, Any]) -> FormattedInput:
        """The messages of one judge call, with the verdict's JSON schema."""
        hint = input["outcome_hint"] if self.hint else None
        text = self.contexts.text(input["category"])
        messages = judge_messages(text, input["prompt"], input["answer"], input["reasoning"], hint)
        if not self.guided:
            return messages
        schema = verdict_schema(input["reasoning"] is not None, self.justification_chars, hint is not None)
        return messages, {"schema": schema}

    def wave(self, row: Mapping[str, Any], wanted: Sequence[int], there: Mapping[int, Completion]) -> list[int]:
        """A first few samples, then more while they can change the verdict."""
        if self.adaptive is None:
            return super().wave(row, wanted, there)
        with_reasoning = row["reasoning"] is not None
        read = {
            index: None
            if one.error is not None
            else read_verdict(storable(one.text), one.finish_reason, with_reasoning=with_reasoning)
            for index, one in there.items()
        }
        return Rule.model_validate(self.adaptive).next(row["candidate_id"], wanted, read)

    def row(self, row: Mapping[str, Any], index: int, completion: Completion) -> dict[str, Any]:
        """The judgment as read from one completion."""
        kept = {name: row[name] for name in ("candidate_id", "prompt_id", "category")}
        spec_digest = self.contexts.digest(row["category"])
        text = storable(completion.text)
        judgment: dict[str, Any] = {
            **kept,
            "judgment_id": judgment_id(row["candidate_id"], self.judge_digest, spec_digest, index),
            "judge": without_folder(self.llm.model_name),
            "judge_digest": self.judge_digest,
            "spec_digest": spec_digest,
            "category_digest": self.contexts.category_digest(row["category"]),
            "sample_index": index,
            "raw": text,
            "error": completion.error,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
        }
        if completion.error is not None:
            return judgment | {
                "status": JudgmentStatus.FAILED.value,
                "abstain_reason": None,
                "justification": None,
                "hint": None,
                "raw": None,
                **dict.fromkeys(CRITERIA),
            }
        verdict = read_verdict(text, completion.finish_reason, with_reasoning=row["reasoning"] is not None)
        return judgment | {
            "status": verdict.status.value,
            "abstain_reason": verdict.abstain_reason.value if verdict.abstain_reason else None,
            "justification": verdict.justification,
            "hint": verdict.hint.value if verdict.hint and self.hint and row["outcome_hint"] else None,
            **{name: verdict.scores.get(name) for name in CRITERIA},
        }
