"""Our engines in a stock distilabel pipeline with a stock task, under distilabel's own `Pipeline.run`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from fake_openai_server import FakeOpenAI, Rule
from tiny_model import tiny_model

pytestmark = pytest.mark.integration

SCRIPT = """
import json, multiprocessing, sys

def main(kind, fields):
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration
    from specdistill.builders.engines.openai import OpenAIEngine
    from specdistill.builders.engines.transformers import TransformersEngine

    engine = {"openai": OpenAIEngine, "transformers": TransformersEngine}[kind](**fields)
    with Pipeline(name="stock") as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": f"row {n}"} for n in range(6)])
        load >> TextGeneration(llm=engine, num_generations=2)
    rows = pipeline.run(use_cache=False)["default"]["train"]
    statistics = [row["distilabel_metadata"]["statistics_text_generation_0"] for row in rows]
    print(json.dumps([rows["instruction"][:], rows["generation"][:], statistics]))

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main(sys.argv[1], json.loads(sys.argv[2]))
"""


def run(tmp_path, kind: str, fields: dict) -> list:
    script = tmp_path / "stock.py"
    script.write_text(SCRIPT)
    found = subprocess.run(
        [sys.executable, script, kind, json.dumps(fields)], capture_output=True, text=True, timeout=240, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout.strip().splitlines()[-1])


def test_openai_engine_where_one_row_is_refused(tmp_path):
    with FakeOpenAI(Rule("http_400", contains="row 3")) as server:
        fields = {"model": "fake", "base_url": server.url, "max_tokens": 64}
        instructions, texts, statistics = run(tmp_path, "openai", fields)
    assert instructions == [f"row {n}" for n in range(6) for _ in range(2)]
    refused = [text is None for text in texts]
    assert refused == [instruction == "row 3" for instruction in instructions]
    assert statistics[6]["error"] == "HTTP 400: the request is refused"
    assert statistics[0] == {
        "input_tokens": statistics[0]["input_tokens"],
        "output_tokens": 25,
        "finish_reason": "stop",
        "error": "",
    }
    assert len(set(texts)) == 11
    assert server.asked == {f"row {n}": 1 for n in range(6)}


def test_transformers_engine(tmp_path):
    model = tiny_model(tmp_path / "tiny", ["Tell me about cats."] * 3)
    fields = {"model": str(model), "max_tokens": 8, "options": {"dtype": "float32"}}
    instructions, texts, statistics = run(tmp_path, "transformers", fields)
    assert instructions == [f"row {n}" for n in range(6) for _ in range(2)]
    assert len(set(texts)) == 12
    assert all(0 < one["output_tokens"] <= 8 and one["input_tokens"] > 0 for one in statistics)
