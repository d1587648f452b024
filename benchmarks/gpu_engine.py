"""The engines on a GPU: tokens/s beside bare vLLM, prefix hit rate, judge throughput.

NOT YET RUN: no GPU was at hand when this was written. It was written for one H200 and needs the extra `vllm`:

    python benchmarks/gpu_engine.py --model Qwen/Qwen3-8B

It writes `results/gpu_engine.md`: the contests `vllm` and `server` of engine_overhead.py with 1,000 requests of 4
samples (goal: at least 95 % of the bare tokens/s), and then, through VLLMEngine on the packaged safety policy, the
share of prompt tokens that the prefix cache answered and the judge samples a second for k = 5 as one request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "gpu_engine.md"
K, CONTEXT = 5, 16_384
ANSWER = "I can help with the part of this that is safe. Here is what is known, and where to turn for more. " * 6
REASONING = "The user asks for something that the policy speaks about; what decides is what they mean to do. " * 8


def contest(name: str, args: argparse.Namespace, out: Path) -> list[str]:
    """One contest of engine_overhead.py: the lines of its table."""
    line = [sys.executable, str(HERE / "engine_overhead.py"), name, "--model", args.model, "--rows", str(args.rows)]
    line += ["--max-tokens", "512", "--rounds", "3", "--out", str(out), "--to", str(out.with_suffix(".md"))]
    subprocess.run(line, check=True)
    found = json.loads(out.read_text())
    ratio = found["ratios"]["tokens/s"]
    ours, bare = found["medians"]["ours"]["tokens/s"], found["medians"]["bare"]["tokens/s"]
    return [f"| {name} | {ours:,.0f} | {bare:,.0f} | {ratio:.3f} | {'met' if ratio >= 0.95 else '**missed**'} |"]


async def judged(engine: Any, args: argparse.Namespace) -> dict[str, float]:
    """Judge samples through an engine, categories in turn, and what the cache answered of their prompts."""
    from specdistill.builders.contexts import SpecContexts
    from specdistill.builders.engines.base import Request
    from specdistill.builders.judging import judge_messages, read_verdict, verdict_schema

    contexts = SpecContexts.load("safety")
    categories = [category.id for category in contexts.spec.categories]

    async def one(number: int) -> list[Any]:
        asked = [{"role": "user", "content": f"Question {number}: what am I to do about it?"}]
        text = contexts.text(categories[number % len(categories)])
        messages = judge_messages(text, asked, ANSWER, REASONING)
        found: list[Any] = await engine.complete(Request(messages, K, verdict_schema(True, 240)))
        return found

    await asyncio.gather(*(one(number) for number in range(8)))
    started = time.perf_counter()
    found = await asyncio.gather(*(one(number) for number in range(100, 100 + args.judged)))
    seconds = time.perf_counter() - started
    every = [sample for samples in found for sample in samples]
    read = sum(bool(read_verdict(sample.text, sample.finish_reason, with_reasoning=True).scores) for sample in every)
    prompt = sum(samples[0].prompt_tokens or 0 for samples in found)
    return {
        "judge samples/s": len(every) / seconds,
        "completion tokens/s": sum(sample.completion_tokens or 0 for sample in every) / seconds,
        "prompt tokens/s": prompt / seconds,
        "share of prompt tokens from the prefix cache": sum(one[0].cached_tokens or 0 for one in found) / prompt,
        "share of samples with a verdict": read / len(every),
    }


def judging(args: argparse.Namespace) -> dict[str, float]:
    """The judge's figures, on an engine of its own."""
    from specdistill.builders.engines.vllm import VLLMEngine

    engine = VLLMEngine(
        model=args.model,
        max_tokens=300,
        temperature=0.7,
        concurrency=512,
        options={"max_model_len": CONTEXT, "chat_template_kwargs": {"enable_thinking": False}},
    )
    engine.load()
    try:
        return asyncio.run(judged(engine, args))
    finally:
        engine.unload()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="hub id or folder")
    parser.add_argument("--rows", type=int, default=1000, help="requests a round of the contests")
    parser.add_argument("--judged", type=int, default=2000, help="candidates to judge")
    parser.add_argument("--to", type=Path, default=RESULT)
    args = parser.parse_args()
    import torch

    device = torch.cuda.get_device_name(0)
    scratch = args.to.with_suffix(".json")
    lines = [
        f"# The engines on {device}\n",
        f"Written by `python benchmarks/gpu_engine.py --model {args.model}` on {datetime.now(UTC).date()}.\n",
        "| engine | tokens/s | bare tokens/s | ratio | goal 0.95 |",
        "| --- | --: | --: | --: | --- |",
        *contest("vllm", args, scratch),
        *contest("server", args, scratch),
        "",
        f"Judging {args.judged:,} candidates with k = {K} on the safety policy:\n",
        *(f"- {name}: {value:,.3g}" for name, value in judging(args).items()),
        "",
    ]
    args.to.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
