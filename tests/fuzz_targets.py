"""What the fuzzers feed: every parser of something that others wrote, with inputs that are nearly right.

A target takes bytes and may end in two ways: quietly, or with one of our own errors. Anything else is a finding.
Used by `test_fuzz.py` (a few hundred inputs each) and `benchmarks/fuzz.py` (as long as you let it).
"""

from __future__ import annotations

import io
import json
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from specdistill.builders.audit.pull import read_response
from specdistill.builders.engines.base import Request
from specdistill.builders.engines.reply import completions, error_text
from specdistill.builders.engines.retrying import PassingFault, retry_after
from specdistill.builders.judging import read_verdict
from specdistill.builders.ledger import Call, Ledger, session_seconds, stage_totals
from specdistill.builders.parts import damaged_parts, read_parts
from specdistill.builders.reading import read_reasoned
from specdistill.builders.sources import read_source
from specdistill.cards.hub.listing import front_matter
from specdistill.errors import SpecdistillError
from specdistill.schemas.configs import TABLES
from specdistill.schemas.contract import card_schemas
from specdistill.schemas.recipe import PromptSource
from specdistill.schemas.recipe_file import dump_recipe, load_recipe, parse_recipe
from specdistill.schemas.rowfiles import read_rows
from specdistill.schemas.rows import CLAUSES
from specdistill.schemas.verify import read_manifest
from specdistill.schemas.vocabulary import FinishReason, JudgmentStatus, ParseOutcome
from specdistill.specs.lint import lint
from specdistill.specs.loader import load_spec
from specdistill.specs.render import render
from specdistill.specs.tokens import ESTIMATE

RECIPE = """name: x
spec: safety
prompts:
  - path: a.jsonl
    columns: {prompt: question}
generator: {engine: openai, model: m, base_url: "http://127.0.0.1:1/v1", samples: 2, options: {top_k: 5}}
judge: {model: m, k: 3, aggregate: q25, weights: {compliance: 1.0}}
quota: {per_category: 20}
licences: {dataset: CC-BY-4.0}
"""
SPEC = """---
id: shop
title: Shop policy
version: 1.2.0
licence: CC-BY-4.0
authors: [A, B]
---
# Shop policy

Be kind. See [SH-R1].

## Refunds

### Comply

#### Refunds within 30 days {#SH-C1 outcome=comply}

Give them. **Why:** the law.

### Refuse

- Never tell who else bought it. {#SH-R1}

Example: "Who?" — refuse.
"""
VERDICT = (
    '{"justification": "fine [SH-R1]", "abstain": false, "compliance": 5, "helpfulness": 4, "correctness": 5,'
    ' "reasoning_quality": 3}'
)
ANSWERS = (
    "<think>I weigh it.</think>Here you are.",
    "<reasoning>I weigh it.</reasoning><answer>Here you are.</answer>",
    '```json\n{"reasoning": "I weigh it.", "answer": "Here you are."}\n```',
)
REPLY = json.dumps(
    {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "x", "reasoning": "y"}}] * 2,
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}},
    }
)
MANIFEST = {
    "name": "x", "created": "2026-01-01T00:00:00+00:00", "specdistill": "0.1.0", "schemas": {"sft": "1.0.0"},
    "recipe": {"judge": {"k": 3}}, "models": [], "stages": {"prompts": {"rows": 3}}, "counts": {"sft": {"train": 3}},
    "files": {"sft/train.parquet": {"sha256": "00", "bytes": 3, "rows": 1}},
    "spec": {"id": "s", "title": "S", "version": "1.0.0", "licence": None, "digest": "d"},
}  # fmt: skip
TIMES = {"inserted_at": "2026-01-01T00:00:00", "updated_at": "2026-01-01T00:00:01"}
VALUES = {
    "verdict": "accept", "clauses": ["SH-R1"], "compliance": 4, "better": "a", "strength": 2, "comment": "so so",
    "answer_problems": [{"label": "leak", "start": 1, "end": 3}],
}  # fmt: skip
RESPONSE = {"id": "1", "user_id": "u", "status": "submitted", "values": {k: {"value": v} for k, v in VALUES.items()}}
CARD = """---
license: cc-by-4.0
dataset_info:
- config_name: sft
  features:
  - {name: id, dtype: string}
  - {name: prompt, list: [{name: role, dtype: string}, {name: content, dtype: string}]}
---
# Card
"""
_SIGNS = [
    *"'\"{}[]:|%\t\r\n\x00",
    ": ",
    "\n\n",
    "- ",
    "? ",
    "&a ",
    "*a",
    "```",
    "---\n",
    "...\n",
    "\ufeff",
    "\u202e",
    "😀",
]
_WORDS = """null true NaN Infinity -1 1e999 12345678901234567890 2026-01-01 {#A} [SH-R1] <think> </think> <answer>
</reasoning> <|im_end|> ../../x /etc/passwd ${HOME} \\ud800 <<:*a !!python/object/apply:os.system !!timestamp"""
_LONG = ["[" * 3000, '{"a":' * 2000, "- " * 400, "> " * 200, "#" * 7, "9" * 5000, "0x" + "f" * 40, "a" * 3000]
_LONG += ["{#A outcome=refuse}", "{{ 7*7 }}", "=cmd|' /C calc'!A0", "!!binary x", "!!timestamp 2001-99-99"]
TOKENS = [token.encode() for token in [*_SIGNS, *_WORDS.split(), *_LONG]] + [b"\xff", b"\xed\xa0\x80"]


@dataclass(frozen=True)
class Target:
    """A parser and inputs it takes.

    Attributes:
        run: feeds one input; may raise SpecdistillError.
        seeds: inputs that are right.
    """

    run: Callable[[bytes, Path], None]
    seeds: tuple[bytes, ...]


def text_of(data: bytes) -> str:
    """Any bytes as text, lone surrogates included: what a model or a file system may hand us."""
    return data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace") if is_text(data) else repr(data)


def is_text(data: bytes) -> bool:
    """Whether the bytes are text if half characters are allowed."""
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def run_recipe(data: bytes, folder: Path) -> None:
    path = folder / "recipe.yaml"
    path.write_bytes(data)
    recipe = load_recipe(path)
    assert parse_recipe(dump_recipe(recipe)) == recipe


def run_override(data: bytes, folder: Path) -> None:
    parse_recipe(RECIPE, [text_of(data)])


def run_spec(data: bytes, folder: Path) -> None:
    path = folder / "policy.md"
    path.write_bytes(data)
    lint(str(path), count=ESTIMATE.count)
    spec = load_spec(path)
    for category in spec.categories[:2]:
        render(spec, [category.id])


def run_prompts(kind: str) -> Callable[[bytes, Path], None]:
    def run(data: bytes, folder: Path) -> None:
        path = folder / f"p.{kind}"
        path.write_bytes(data)
        rows = read_source(PromptSource(path=path, category="a"), ["a", "b"], folder, [])
        for row in rows:
            assert row["prompt"][-1]["role"] == "user"
            row["prompt"][-1]["content"].encode()
        if kind == "parquet":
            assert len(rows) == pq.read_metadata(path).num_rows, "rows vanished without a word"

    return run


def run_verdict(data: bytes, folder: Path) -> None:
    for with_reasoning in (True, False):
        verdict = read_verdict(text_of(data), with_reasoning=with_reasoning)
        assert all(0 <= score <= 1 for score in verdict.scores.values())
        assert bool(verdict.scores) == (verdict.status == JudgmentStatus.SCORED)
        (verdict.justification or "").encode()


def run_answer(data: bytes, folder: Path) -> None:
    for mode in ("native", "prompted", "guided"):
        reading = read_reasoned(text_of(data), mode, FinishReason.STOP, longest_answer=2000)  # type: ignore[arg-type]
        assert (reading.parse == ParseOutcome.OK) == bool(reading.answer)
        for part in (reading.answer, reading.reasoning, reading.detail):
            (part or "").encode("utf-8", "strict" if reading.parse == ParseOutcome.OK else "surrogatepass")


def run_reply(data: bytes, folder: Path) -> None:
    assert error_text(data).isprintable()
    try:
        found = completions(data, Request([{"role": "user", "content": "x"}], samples=3))
    except PassingFault:
        return
    assert 1 <= len(found) <= 3


def run_header(data: bytes, folder: Path) -> None:
    wait = retry_after(text_of(data), 60.0)
    assert wait is None or 0 <= wait <= 60


def run_manifest(data: bytes, folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(data)
    read_manifest(path)


def run_card(data: bytes, folder: Path) -> None:
    card_schemas(text_of(data))
    front_matter(text_of(data))


def run_rows(kind: str) -> Callable[[bytes, Path], None]:
    def run(data: bytes, folder: Path) -> None:
        path = folder / f"rows.{kind}"
        path.write_bytes(data)
        read_rows(path, TABLES["kto"])

    return run


def run_response(data: bytes, folder: Path) -> None:
    response = json.loads(text_of(data)) if is_json(data) else text_of(data)
    for kind in ("row", "pair"):
        ask = {"record_id": "r", "round": 1, "kind": kind, "target_id": "t", "first_is_chosen": True}
        read_response(response, ask, "d", {"u": "ann"})


def is_json(data: bytes) -> bool:
    """Whether the bytes are JSON at all; the rest is the HTTP client's to refuse."""
    try:
        json.loads(text_of(data))
    except (ValueError, RecursionError):
        return False
    return True


def run_part(data: bytes, folder: Path) -> None:
    for old in folder.glob("part-*"):
        old.unlink()
    name = blake2b(parquet(CLAUSES.empty()), digest_size=12).hexdigest()  # what stood there before it was damaged
    (folder / f"part-{name}.parquet").write_bytes(data)
    damaged_parts(folder)
    read_parts(folder, CLAUSES)


def run_ledger(data: bytes, folder: Path) -> None:
    for old in folder.glob("ledger*"):
        old.unlink()
    path = folder / "ledger.sqlite"
    path.write_bytes(data)
    stage_totals(path)
    session_seconds(path)
    ledger = Ledger(path)
    try:
        ledger.lookup(["k1", "k2"])
        ledger.record(Call("k3", "s", True, {}))
    finally:
        ledger.close()


def ledger_bytes() -> bytes:
    """A small ledger."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        ledger = Ledger(path)
        for number in range(20):
            ledger.record(Call(f"k{number}", "s", True, {"text": "x" * 50}, 1, 2, 0.5))
        ledger.close()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.close()
        return path.read_bytes()


def parquet(frame: pl.DataFrame) -> bytes:
    """A frame as Parquet."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def prompt_rows() -> list[dict[str, object]]:
    """Rows of a prompt file."""
    turns = [{"role": "system", "content": "You are a shop."}, {"role": "user", "content": "Hello"}]
    return [{"prompt": "How?", "category": "a", "id": 1}, {"prompt": turns, "category": "b", "twin_id": "1"}]


def targets() -> dict[str, Target]:
    """Every target by name."""
    rows = prompt_rows()
    jsonl = "\n".join(map(json.dumps, rows)).encode()
    table = b'prompt,category,id\n"How, then?",a,1\n"[{""role"": ""user"", ""content"": ""x""}]",b,2\n'
    frame = pl.DataFrame({"prompt": ["How?", "Why?"], "category": ["a", "b"], "n": [1, 2]})
    turns = pl.DataFrame({"prompt": [rows[1]["prompt"]], "category": ["a"]})
    kto = json.dumps({"id": "1", "prompt": rows[1]["prompt"], "completion": [], "label": True, "score": 0.5}).encode()
    return {
        "recipe": Target(run_recipe, (RECIPE.encode(),)),
        "override": Target(run_override, (b"judge.k=5", b"prompts.0.columns.prompt=x", b"quota={per_category: 3}")),
        "spec": Target(run_spec, (SPEC.encode(), SPEC.partition("---\n# ")[2].encode())),
        "prompts.jsonl": Target(run_prompts("jsonl"), (jsonl,)),
        "prompts.csv": Target(run_prompts("csv"), (table,)),
        "prompts.parquet": Target(run_prompts("parquet"), (parquet(frame), parquet(turns))),
        "verdict": Target(run_verdict, (VERDICT.encode(), f"```json\n{VERDICT}\n```".encode())),
        "answer": Target(run_answer, tuple(answer.encode() for answer in ANSWERS)),
        "server reply": Target(run_reply, (REPLY.encode(), b'{"error": {"message": "overloaded"}}')),
        "Retry-After": Target(run_header, (b"3", b"0.5", b"Wed, 21 Oct 2026 07:28:00 GMT")),
        "manifest": Target(run_manifest, (json.dumps(MANIFEST).encode(),)),
        "card": Target(run_card, (CARD.encode(),)),
        "rows.jsonl": Target(run_rows("jsonl"), (kto,)),
        "rows.parquet": Target(run_rows("parquet"), (parquet(frame),)),
        "audit response": Target(run_response, (json.dumps(RESPONSE | TIMES).encode(),)),
        "part": Target(run_part, (parquet(CLAUSES.empty()),)),
        "ledger": Target(run_ledger, (ledger_bytes(),)),
    }


def mutated(seeds: tuple[bytes, ...], chance: random.Random) -> bytes:
    """A seed with one to eight things wrong with it."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 2, 4, 8))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 5, 20, 200)))
        match chance.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end] * chance.choice((1, 2, 50))
            case 3:
                other = chance.choice(seeds)
                start = chance.randrange(len(other) + 1)
                data[at:end] = other[start : start + chance.choice((3, 30, 300))]
            case 4:
                data[at:end] = chance.randbytes(chance.choice((1, 2, 4, 8)))
            case _:
                data[at : chance.choice((at, end))] = chance.choice(TOKENS)
    return bytes(data[:200_000])


def feed(target: Target, data: bytes, folder: Path) -> BaseException | None:
    """What a target does with an input that it should not do; None if all is well."""
    try:
        target.run(data, folder)
    except SpecdistillError as error:
        if not (error.cause and error.remedy):
            return error
    except Exception as error:
        return error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Polars' own, which is no Exception
            raise
        return error
    return None
