"""What a built trainer would really train on, checked token by token before its first step.

Everything here looks at the trainer's own batches, after its tokenisation, masking, truncation and collation: a
check of the input rows would miss exactly what goes wrong (a template that drops the reasoning, a mask over the
prompt, a cut before the answer).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from specdistill.errors import TrainError
from specdistill.train.rendered import Rendered, TrainerRows, spread
from specdistill.train.rows import COMPLETIONS, reasoning_and_answer
from specdistill.train.specfacts import SpecText
from specdistill.train.template import Convention, chat_ids, common_prefix

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

REMEDIES = {
    "nothing_left": "Raise --max_length: no row is left to train on.",
    "mask_empty": "Leave --assistant_only_loss off: no token carries loss.",
    "reasoning_missing": "Leave --convention at auto, or use another chat template: this one drops the reasoning.",
    "answer_missing": "Leave --convention at auto, or use another chat template: this one drops the answer.",
    "prompt_trained": "Leave --completion_only_loss at its default: loss is taken on the prompt.",
    "prompt_missing": "Use another chat template: this one drops the user's question.",
    "no_stop": "Correct the chat template: the end of the turn carries no loss, so the model would never stop.",
    "truncated": "Raise --max_length to what is named, or allow more with --max_truncated.",
    "spec_in_prompt": "Publish a set whose prompts passed the checks: the model would learn with the spec in view.",
}
"""Code of a finding to what to do about it, worst first."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with what would be trained on.

    Attributes:
        code: a key of REMEDIES.
        row: id of the first row it was seen in, or None for the whole set.
        detail: what exactly was seen.
        rows: how many rows have it.
    """

    code: str
    row: str | None
    detail: str
    rows: int = 1


@dataclass(frozen=True)
class Inspection:
    """The result of a check.

    Attributes:
        rows: rows of the set.
        checked: sequences whose tokens were looked at.
        truncated: rows cut by max_length.
        dropped: rows the trainer left out for their length.
        mean_tokens: mean tokens of a checked sequence.
        trained_tokens: mean tokens of it that carry loss.
        longest: longest checked sequence, in tokens.
        findings: what is wrong, worst first; empty when training may start.
    """

    rows: int
    checked: int
    truncated: int
    dropped: int
    mean_tokens: float
    trained_tokens: float
    longest: int
    findings: tuple[Finding, ...] = ()

    def record(self) -> dict[str, Any]:
        """JSON-able form for the lineage."""
        return asdict(self)

    def refuse(self) -> None:
        """Stop when anything was found.

        Raises:
            TrainError: naming each finding with what to do about it.
        """
        if not self.findings:
            return
        seen = "; ".join(
            f"{one.code} in {one.rows} rows (first {one.row}: {one.detail})" if one.row else f"{one.code}: {one.detail}"
            for one in self.findings
        )
        raise TrainError(
            f"Training must not start: {seen}.",
            " ".join(REMEDIES[one.code] for one in self.findings)
            + " `specdistill train inspect` shows the tokens; --force trains all the same.",
        )


def inspect_trainer(
    trainer: Any,
    method: str,
    published: datasets.Dataset,
    given: datasets.Dataset,
    convention: Convention,
    spec: SpecText,
    *,
    rows: int,
    max_truncated: float,
) -> Inspection:
    """Check what a built trainer would train on.

    Args:
        published: the rows with reasoning and answer apart.
        given: the same rows as the trainer was given them.
        rows: how many are looked at token by token, spread over the set; lengths and prompts are checked on all.
        max_truncated: largest share of rows that may be cut or dropped.
    """
    tokenizer, total = trainer.processing_class, len(published)
    source = TrainerRows(trainer, method, given)
    limit = getattr(trainer.args, "max_length", None)
    seen: list[tuple[str, str, str]] = []
    checked: list[Rendered] = []
    for at in spread(total, rows):
        for one in source.sequences(given[at]):
            checked.append(one)
            if not is_cut(tokenizer, one.ids, limit, convention):  # counted below, within its own limit
                problems = list(check_row(tokenizer, published[at], one, convention))
                if method != "reward" and (wrong := check_mask(tokenizer, given[at], one, convention.kwargs)):
                    problems.append(wrong)
                seen += [(code, one.id, text) for code, text in problems]
    asked = ["\n".join(turn["content"] for turn in prompt) for prompt in published["prompt"]]
    leaks = zip(published["id"], spec.found_in(asked), strict=True)
    seen += [("spec_in_prompt", key, f"'{words}'") for key, words in leaks if words]
    dropped = total - source.kept(total)
    cut = _cut(source, method, tokenizer, limit, convention)
    findings = merged(seen)
    if dropped == total:
        findings.insert(0, Finding("nothing_left", None, f"all {total} rows are longer than --max_length {limit}"))
    elif (dropped + cut) / total > max_truncated:
        longest = _longest(tokenizer, given, method, convention)
        findings.append(
            Finding(
                "truncated",
                None,
                f"{cut} rows are cut and {dropped} dropped of {total}; the longest has {longest} tokens",
            )
        )
    lengths = [len(one.ids) for one in checked] or [0]
    carrying = [sum(one.trained) for one in checked] or [0]
    return Inspection(
        total,
        len(checked),
        cut,
        dropped,
        sum(lengths) / len(lengths),
        sum(carrying) / len(carrying),
        max(lengths),
        tuple(findings),
    )


def check_row(
    tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], seen: Rendered, convention: Convention
) -> Iterator[tuple[str, str]]:
    """What is wrong with one sequence, as (code, detail).

    Args:
        row: the published row, reasoning and answer apart.
    """
    question = row["prompt"][-1]["content"]
    if seen.column == "prompt":
        if squeezed(question) not in squeezed(decoded(tokenizer, seen.ids)):
            yield "prompt_missing", _short(question)
        return
    whole_sequence = all(seen.trained)
    trained = [token for token, on in zip(seen.ids, seen.trained, strict=True) if on]
    if not trained:
        yield "mask_empty", f"{len(seen.ids)} tokens, none with loss"
        return
    before = seen.ids if whole_sequence else seen.ids[: seen.trained.index(True)]
    text = squeezed(decoded(tokenizer, trained))
    reasoning, answer = reasoning_and_answer(row[seen.column])
    at = 0
    for code, part in (("reasoning_missing", reasoning), ("answer_missing", answer)):
        if not part:
            continue
        # Through the tokenizer and back: some normalise Unicode.
        wanted = squeezed(decoded(tokenizer, tokenizer(part, add_special_tokens=False)["input_ids"]))
        found = text.find(wanted, at)
        if found < 0:
            yield code, f"{seen.column} trains on {_short(decoded(tokenizer, trained))}"
        else:
            at = found + len(wanted)
    if squeezed(question) not in squeezed(decoded(tokenizer, before)):
        yield "prompt_missing", _short(question)
    end = squeezed(convention.after)
    if end and not text.endswith(end):
        yield "no_stop", f"{seen.column} ends with {_short(decoded(tokenizer, trained[-12:]))}"


def check_mask(
    tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], seen: Rendered, kwargs: Mapping[str, Any]
) -> tuple[str, str] | None:
    """Whether loss is taken on the prompt, from a tokenisation of our own."""
    prompt = row["prompt"]
    if isinstance(prompt, str):
        ids = tokenizer(prompt)["input_ids"]
    else:
        ids = chat_ids(tokenizer, prompt, add_generation_prompt=True, **kwargs)
    shared = common_prefix(ids, seen.ids)
    wrong = sum(seen.trained[:shared])
    return ("prompt_trained", f"{wrong} of {shared} prompt tokens carry loss") if wrong else None


def is_cut(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int], limit: int | None, convention: Convention) -> bool:
    """Whether a sequence ends because of the length limit rather than with its turn."""
    tail = list(ids)
    if limit is None or len(tail) < limit:
        return False
    end = squeezed(convention.after)
    return not end or not squeezed(decoded(tokenizer, tail[-12:])).endswith(end)


def merged(seen: Iterable[tuple[str, str, str]]) -> list[Finding]:
    """(code, row, detail) as one finding a code, worst first."""
    found: dict[str, Finding] = {}
    rows: dict[str, set[str]] = {}
    for code, row, detail in seen:
        found.setdefault(code, Finding(code, row, detail))
        rows.setdefault(code, set()).add(row)
    return [Finding(code, found[code].row, found[code].detail, len(rows[code])) for code in REMEDIES if code in found]


def squeezed(text: str) -> str:
    """Text without white space: templates strip and add it."""
    return "".join(text.split())


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> str:
    """Tokens as text, special tokens kept."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _cut(
    source: TrainerRows,
    method: str,
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    convention: Convention,
) -> int:
    """Rows of the prepared set that the trainer cuts."""
    rows = source.prepared
    if limit is None or source.packed or not len(rows):
        return 0
    if method == "sft":
        parts = rows.select_columns(["input_ids"]).iter(1000)
        full = (ids for part in parts for ids in part["input_ids"] if len(ids) >= limit)
        return sum(is_cut(tokenizer, ids, limit, convention) for ids in full)
    if method in ("dpo", "kto"):
        turns = [f"{name}_ids" for name in COMPLETIONS[method]]
        cut = 0
        for part in rows.select_columns(["prompt_ids", *turns]).iter(1000):
            lengths = zip(*([len(ids) for ids in part[name]] for name in ("prompt_ids", *turns)), strict=True)
            cut += sum(prompt + max(said) > limit for prompt, *said in lengths)
        return cut
    return 0  # a reward model's rows are dropped, not cut; GRPO does not cut prompts


def _longest(tokenizer: PreTrainedTokenizerBase, given: datasets.Dataset, method: str, convention: Convention) -> int:
    """Tokens of the longest row, to name a --max_length that fits. Reads at most 2,000 rows."""
    longest = 0
    for row in given.select(spread(len(given), 2000)):
        for column in COMPLETIONS[method]:
            if isinstance(row["prompt"], str):
                ids = tokenizer(row["prompt"] + row[column])["input_ids"]
            else:
                ids = chat_ids(tokenizer, row["prompt"] + row[column], **convention.kwargs)
            longest = max(longest, len(ids))
    return longest


def _short(text: str) -> str:
    shown = " ".join(text.split())
    return repr(shown if len(shown) <= 80 else f"{shown[:38]} … {shown[-38:]}")
