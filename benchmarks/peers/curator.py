"""Bespoke Curator, as its documentation shows it: an LLM subclass on the OpenAI backend; its cache is its journal."""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec
from pathlib import Path

from work import SYSTEM, main, prompt


def work(args: argparse.Namespace) -> int:
    """All rows through one LLM object."""
    os.environ |= {
        "CURATOR_CACHE_DIR": str(args.out / "cache"),
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "TELEMETRY_ENABLED": "0",
        "OPENAI_API_KEY": "none",
        "HF_HUB_OFFLINE": "1",
    }
    # It counts tokens with an encoding that tiktoken would download; litellm, which it depends on, carries the file.
    if litellm := find_spec("litellm"):
        tokenizers = Path(str(litellm.origin)).parent / "litellm_core_utils" / "tokenizers"
        os.environ["TIKTOKEN_CACHE_DIR"] = str(tokenizers)
    from bespokelabs import curator

    class Answer(curator.LLM):
        """Answers a row."""

        def prompt(self, row: dict) -> list[dict[str, str]]:
            """The conversation of a row."""
            return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": row["prompt"]}]

        def parse(self, row: dict, response: str) -> dict:
            """The row with its answer."""
            return {"prompt": row["prompt"], "answer": response}

    answer = Answer(
        model_name="fake",
        backend="openai",
        generation_params={"max_tokens": 512},
        backend_params={
            "base_url": args.url,
            "api_key": "none",
            "max_requests_per_minute": 10**7,
            "max_tokens_per_minute": 10**11,
            "max_concurrent_requests": args.concurrency,
        },
    )
    found = answer([{"prompt": prompt(number)} for number in range(args.rows)])
    dataset = getattr(found, "dataset", found)
    dataset.save_to_disk(str(args.out / "rows"))
    return sum(map(bool, dataset["answer"]))


if __name__ == "__main__":
    main(work)
