"""Rewriting as distilabel Tasks: a leak repaired, and a draft without the spec criticised and revised."""

# No `from __future__ import annotations` here: distilabel reads the type hints of `process` at run time.

from collections.abc import Mapping
from typing import Any

from distilabel.typing import FormattedInput

from specdistill.builders.engines.base import Completion
from specdistill.builders.keys import candidate_id
from specdistill.builders.reading import guided_schema
from specdistill.builders.rewriting import only_a_phrase, repair_messages, revise_messages
from specdistill.builders.tasks import GenerateWithSpec
from specdistill.schemas.vocabulary import Arm


class Rewrite(GenerateWithSpec):
    """A candidate made from a candidate. Rows that come in are candidates with their prompt."""

    @property
    def inputs(self) -> list[str]:
        """Columns needed."""
        return ["candidate_id", "prompt_id", "prompt", "category", "reasoning", "answer", "spec_digest"]

    def candidate_id(self, row: Mapping[str, Any], index: int) -> str:
        """The key of one sample: its parent stands in the place of a prompt. The parent of a revision saw no spec, so
        the digest of what the revision is shown is what tells two versions of the policy apart."""
        return candidate_id(
            row["candidate_id"], self.arm, self.generator_digest, self.spec_digest(row["category"]), index
        )

    def with_schema(self, messages: list[dict[str, str]]) -> FormattedInput:
        """The messages, with a JSON schema in guided mode."""
        if self.reasoning != "guided":
            return messages  # type: ignore[return-value]
        return messages, {"schema": guided_schema(self.reasoning_chars, self.answer_chars)}  # type: ignore[return-value]

    def row(self, row: Mapping[str, Any], index: int, completion: Completion) -> dict[str, Any]:
        """The rewritten candidate as read from one completion."""
        return super().row(row, index, completion) | {"parent_id": row["candidate_id"]}


class RepairLeak(Rewrite):
    """Writes an answer again without its leak; the reasoning stays that of the parent, and so does the spec it saw."""

    arm: str = Arm.REPAIR.value

    def format_input(self, input: dict[str, Any]) -> FormattedInput:
        """The messages of one repair."""
        asked = input["prompt"][-1]["content"]
        leak = only_a_phrase(input["answer"], self.contexts.anchors, asked) or ""
        return self.with_schema(repair_messages(input["prompt"], input["answer"], leak, self.reasoning))

    def row(self, row: Mapping[str, Any], index: int, completion: Completion) -> dict[str, Any]:
        """The repaired candidate: the new answer under the parent's reasoning."""
        made = super().row(row, index, completion)
        kept = {"reasoning": row["reasoning"]} if made["answer"] is not None else {}
        return made | kept | {"spec_digest": row["spec_digest"], "category_digest": row.get("category_digest")}


class ReviseBySpec(Rewrite):
    """Criticises an answer that was written without the spec, and revises it."""

    arm: str = Arm.CONSTITUTION.value

    def spec_digest(self, category: str) -> str | None:
        """Digest of the text shown for a category."""
        return self.contexts.digest(category)

    def format_input(self, input: dict[str, Any]) -> FormattedInput:
        """The messages of one critique and revision."""
        category = input["category"]
        anchor = self.contexts.example_anchor(category)
        text = self.contexts.text(category)
        return self.with_schema(revise_messages(text, input["prompt"], input["answer"], anchor, self.reasoning))
