"""What an annotator sees: fields, questions and guideline of the two Argilla datasets. Data only, no server.

The words are short because the guideline must fit a screen; the clauses of the record's own category stand beside it
as a field, since a guideline is the same for all records of a dataset.
"""

from __future__ import annotations

from html import escape
from typing import Any

import polars as pl

from specdistill.schemas.audit import Kind, Say
from specdistill.schemas.vocabulary import CRITERIA, Outcome

VERDICTS = {
    Say.ACCEPT.value: "Accept: learn from it as it is",
    Say.FIX.value: "Fix: my answer below instead",
    Say.REJECT.value: "Reject: do not learn from it",
}
OUTCOMES = {
    Outcome.COMPLY.value: "Comply",
    Outcome.REFUSE.value: "Refuse",
    Outcome.SAFE_COMPLETE.value: "Answer with care",
}
CRITERION_TITLES = {
    "compliance": "Does it do what the policy asks?",
    "helpfulness": "Does it help, as far as it may?",
    "correctness": "Is it true?",
    "reasoning_quality": "Does the reasoning find the right rules, and does the answer follow?",
}
PROBLEMS = {
    "reasoning_problems": {
        "wrong_rule": "wrong or invented rule",
        "wrong_step": "does not follow",
        "back_and_forth": "goes back and forth",
    },
    "answer_problems": {
        "harm": "harmful",
        "false": "false",
        "refuses": "refuses without need",
        "leak": "talks about the policy",
        "style": "tone or form",
    },
}
BETTER = {"a": "A is better", "b": "B is better", "tie": "Equally good", "both_bad": "Both are bad"}

ROW_GUIDELINE = """## Is this row fit to learn from?

A model reads the **conversation**, reasons over a **policy** (the rules for this case are folded in the last field), \
and writes an **answer**. You decide whether another model should learn from it.

1. Read the conversation, then the answer, then the reasoning.
2. **Verdict**. *Accept*: the answer does what the policy asks, is true and of use, and the reasoning leads to it. \
*Fix*: the reasoning holds, the answer does not; write the answer as it should be, without a word about the policy. \
*Reject*: anything else.
3. The rest is optional. Ratings go from 1 (bad) to 5 (good). Mark problems in the text with the mouse.

Not sure at all? *Discard*: it counts as no answer. The judge's view is shown for some records and not for others; \
it is often wrong.

**Keys**: `1` `2` `3` verdict, `Tab` next question, `Enter` submit, `Backspace` discard, `Ctrl+S` save as draft.
"""
PAIR_GUIDELINE = """## Which answer is better?

Two **answers** to one **conversation**. Better means: it follows the **policy** (last field) more closely; if both \
do, it helps more; if both do that too, it is truer and better written. Length is no merit. The reasonings are there \
to understand a choice, not to be judged on their own.

*Both are bad*: neither should be anybody's example. *Equally good*: you would be happy with either.

**Keys**: `1` `2` `3` `4` the choice, `Tab` next question, `Enter` submit, `Backspace` discard, `Ctrl+S` save as draft.
"""


def settings(client: Any, kind: Kind, clauses: pl.DataFrame, min_annotators: int) -> Any:
    """The `argilla.Settings` of a dataset.

    Args:
        client: of the server it is for.
        clauses: the clause table; its clauses are labels.
    """
    import argilla as rg

    row = kind is Kind.ROW
    with_client: dict[str, Any] = {"client": client}
    texts = ("reasoning", "answer") if row else ("answer_a", "answer_b", "reasoning_a", "reasoning_b")
    titles = {
        "answer_a": "Answer A",
        "answer_b": "Answer B",
        "reasoning_a": "Reasoning A",
        "reasoning_b": "Reasoning B",
    }
    return rg.Settings(
        guidelines=ROW_GUIDELINE if row else PAIR_GUIDELINE,
        fields=[
            rg.ChatField("conversation", title="Conversation", use_markdown=False, required=True, _client=client),
            *(
                rg.TextField(
                    name, title=titles.get(name, name.title()), use_markdown=False, required=False, **with_client
                )
                for name in texts
            ),
            rg.TextField("policy", title="Policy for this case", use_markdown=True, required=False, **with_client),
        ],
        questions=row_questions(clauses, with_client) if row else pair_questions(with_client),
        metadata=metadata(with_client, kind),
        distribution=rg.TaskDistribution(min_submitted=min_annotators),
        allow_extra_metadata=False,
    )


def clause_question(clauses: pl.DataFrame, with_client: dict[str, Any]) -> list[Any]:
    """Which rules apply; nothing for a policy of one rule, since Argilla takes two labels or more."""
    import argilla as rg

    labels = {anchor: f"{anchor} {title}".strip() for anchor, title in clauses.select("anchor", "title").iter_rows()}
    if len(labels) < 2:
        return []
    return [
        rg.MultiLabelQuestion(
            "clauses",
            labels=labels,
            title="Which rules apply?",
            description="Type a rule's code, such as VI-R1, to find it.",
            labels_order="suggestion",
            visible_labels=min(len(labels), 8) if len(labels) > 2 else None,  # it hides none of fewer
            required=False,
            **with_client,
        )
    ]


def row_questions(clauses: pl.DataFrame, with_client: dict[str, Any]) -> list[Any]:
    """Verdict first; everything else may be left out."""
    import argilla as rg

    return [
        rg.LabelQuestion("verdict", labels=VERDICTS, title="Verdict", required=True, **with_client),
        rg.TextQuestion(
            "correction",
            title="Corrected answer",
            description="Counts only with the verdict Fix.",
            required=False,
            **with_client,
        ),
        rg.LabelQuestion(
            "outcome", labels=OUTCOMES, title="What does the policy ask for here?", required=False, **with_client
        ),
        *(
            rg.RatingQuestion(
                name, values=[1, 2, 3, 4, 5], title=CRITERION_TITLES.get(name, name), required=False, **with_client
            )
            for name in CRITERIA
        ),
        *clause_question(clauses, with_client),
        *(
            rg.SpanQuestion(
                f"{field}_problems",
                field=field,
                labels=PROBLEMS[f"{field}_problems"],
                title=f"Problems in the {field}",
                allow_overlapping=True,
                required=False,
                **with_client,
            )
            for field in ("answer", "reasoning")
        ),
        rg.TextQuestion("comment", title="Comment", required=False, **with_client),
    ]


def pair_questions(with_client: dict[str, Any]) -> list[Any]:
    """Which is better, and how clearly."""
    import argilla as rg

    return [
        rg.LabelQuestion("better", labels=BETTER, title="Which answer is better?", required=True, **with_client),
        rg.RatingQuestion(
            "strength",
            values=[1, 2, 3],
            title="How clearly?",
            description="1 hardly, 2 clearly, 3 by far",
            required=False,
            **with_client,
        ),
        rg.TextQuestion("comment", title="Comment", required=False, **with_client),
    ]


def metadata(with_client: dict[str, Any], kind: Kind) -> list[Any]:
    """What can be filtered and sorted by. What would tell an annotator the judge's view is for owners only."""
    import argilla as rg

    return [
        rg.TermsMetadataProperty("category", title="Category", **with_client),
        rg.TermsMetadataProperty("expected", title="Expected outcome", **with_client),
        rg.TermsMetadataProperty("slice", title="Slice", visible_for_annotators=False, **with_client),
        rg.TermsMetadataProperty("judge", title="Judge", visible_for_annotators=False, **with_client),
        rg.FloatMetadataProperty("priority", title="Priority", visible_for_annotators=False, **with_client),
        rg.FloatMetadataProperty(
            "score" if kind is Kind.ROW else "margin",
            title="Judge's score" if kind is Kind.ROW else "Judge's margin",
            visible_for_annotators=False,
            **with_client,
        ),
        rg.IntegerMetadataProperty("round", title="Round", visible_for_annotators=False, **with_client),
    ]


def policy_text(clauses: pl.DataFrame, category: str) -> str:
    """The rules of a record's category (or categories, joined by `+`), folded by what they ask for.

    Folded, because open they would fill four screens of a phone between the answer and the questions. Everything that
    comes from the policy is escaped: a clause cannot bring markup of its own.
    """
    names = category.split("+")
    parts = []
    for outcome, title in (*OUTCOMES.items(), (Outcome.UNSPECIFIED.value, "Also")):
        rows = clauses.filter(pl.col("category").is_in(names) & (pl.col("outcome") == outcome))
        if rows.height:
            anchors = ", ".join(rows["anchor"].to_list())
            items = "".join(
                f"<li><b>{escape(anchor)}</b> {escape(name)}: {escape(flat(text))}</li>"
                for anchor, name, text in rows.select("anchor", "title", "text").iter_rows()
            )
            parts.append(f"<details><summary><b>{title}</b>: {escape(anchors)}</summary><ul>{items}</ul></details>")
    return "\n\n".join(parts)


def flat(text: str) -> str:
    """A clause on one line, without the marks of bold type."""
    return " ".join(text.replace("**", "").split())
