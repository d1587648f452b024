"""NeMo Data Designer: a seed data set and one text column."""

from __future__ import annotations

import argparse
import os

from work import SYSTEM, main, prompt


def work(args: argparse.Namespace) -> int:
    """All rows through one column."""
    os.environ |= {"NEMO_TELEMETRY_ENABLED": "false", "HF_HUB_OFFLINE": "1"}
    import data_designer.config as dd
    import pandas
    from data_designer.interface import DataDesigner

    provider = dd.ModelProvider(name="local", endpoint=args.url, provider_type="openai", api_key="none")
    model = dd.ModelConfig(
        alias="answerer",
        model="fake",
        provider="local",
        skip_health_check=True,
        inference_parameters=dd.ChatCompletionInferenceParams(max_tokens=512, max_parallel_requests=args.concurrency),
    )
    config = dd.DataDesignerConfigBuilder(model_configs=[model])
    seeds = pandas.DataFrame({"question": [prompt(number) for number in range(args.rows)]})
    config.with_seed_dataset(dd.DataFrameSeedSource(df=seeds))
    config.add_column(
        dd.LLMTextColumnConfig(name="answer", model_alias="answerer", system_prompt=SYSTEM, prompt="{{ question }}")
    )
    designer = DataDesigner(artifact_path=args.out / "artifacts", model_providers=[provider])
    found = designer.create(config, num_records=args.rows, dataset_name="rows")
    return int(found.load_dataset()["answer"].astype(bool).sum())


if __name__ == "__main__":
    main(work)
