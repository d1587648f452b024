"""distilabel with its own engine: OpenAILLM and TextGeneration under Pipeline.run."""

from __future__ import annotations

import argparse
import os

from work import SYSTEM, main, prompt


def work(args: argparse.Namespace) -> int:
    """All rows through one task."""
    os.environ |= {"DISTILABEL_LOG_LEVEL": "ERROR", "OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1"}
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    data = [{"instruction": prompt(number), "system_prompt": SYSTEM} for number in range(args.rows)]
    with Pipeline("peer", cache_dir=str(args.out / "cache")) as pipeline:
        llm = OpenAILLM(model="fake", base_url=args.url, generation_kwargs={"max_new_tokens": 512})
        LoadDataFromDicts(data=data, batch_size=args.concurrency) >> TextGeneration(
            llm=llm, input_batch_size=args.concurrency
        )
    found = pipeline.run(use_cache=False)["default"]["train"]
    found.save_to_disk(str(args.out / "rows"))
    return sum(map(bool, found["generation"]))


if __name__ == "__main__":
    main(work)
