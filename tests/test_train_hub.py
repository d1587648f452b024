"""Training from a tag on a local hub, and pushing what was trained back to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_fixture import running_hub
from tiny_model import tiny_model
from tiny_set import rows, write_set
from train_worker import TrainWorker

pytest.importorskip("trl")
pytestmark = pytest.mark.integration

CORPUS = [row["prompt"][0]["content"] + row["reasoning"] + row["answer"] for row in rows()]
FAST = ["--max_steps", "4", "--per_device_train_batch_size", "4", "--learning_rate", "3e-3", "--bf16", "False"]
REPO = "org/tiny"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("hub")
    write_set(home / "set")
    write_set(home / "next", rows()[:100], version="2.0.0")
    tiny_model(home / "model", CORPUS)
    return home


@pytest.fixture(scope="module")
def hub(home):
    with running_hub(home / "served") as found:
        yield found


@pytest.fixture(scope="module")
def worker(hub, home):
    """A client with two releases on the hub."""
    with TrainWorker(hub.env(home / "client", xet=False) | {"OMP_NUM_THREADS": "1"}) as found:
        for tag, folder in (("v1.0.0", "set"), ("v2.0.0", "next")):
            assert "oid" in found.ask("release", repo=REPO, folder=str(home / folder), tag=tag)
        yield found


def argv(home, out, dataset, *more):
    """Arguments of a short run."""
    return ["--dataset", dataset, "--model", str(home / "model"), "--output_dir", str(out), *FAST, *more]


def test_tag_is_resolved_to_its_commit_and_recorded(hub, worker, home, tmp_path):
    oid = hub.store.repository("datasets", REPO).refs()["tags"]["v1.0.0"]
    record = worker.ask("train", method="sft", argv=argv(home, tmp_path, f"{REPO}@v1.0.0"))
    data = record["lineage"]["dataset"]
    assert (data["id"], data["revision"], data["sha"], data["version"]) == (REPO, "v1.0.0", oid, "1.0.0")
    assert data["rows"] == {"train": 175}  # not the 2.0.0 that main has moved on to
    assert f"datasets:\n- {REPO}" in (tmp_path / "README.md").read_text()


def test_unknown_revision_and_moved_tag_are_refused(hub, worker, home, tmp_path):
    found = worker.ask("train", method="sft", argv=argv(home, tmp_path, f"{REPO}@v9.9.9"))
    assert found["error"] == "TrainError"
    assert "no revision 'v9.9.9'" in found["text"]
    found = worker.ask("train", method="sft", argv=argv(home, tmp_path, "org/none@v1.0.0"))
    assert "no dataset 'org/none'" in found["text"]
    worker.ask("release", repo="org/moved", folder=str(home / "next"), tag="v1.0.0")
    found = worker.ask("train", method="sft", argv=argv(home, tmp_path, "org/moved@v1.0.0"))
    assert "points at version 2.0.0" in found["text"]


def test_mixture_of_its_own_revision(hub, worker, home, tmp_path):
    more = ["--mixture", f"{REPO}@v2.0.0", "--mixture_config", "sft", "--mixture_ratio", "0.2"]
    record = worker.ask("train", method="sft", argv=argv(home, tmp_path, f"{REPO}@v1.0.0", *more))
    mixed = record["lineage"]["mixture"]
    assert mixed["sha"] == hub.store.repository("datasets", REPO).refs()["tags"]["v2.0.0"]
    assert mixed["rows"] == round(175 / 4)


@pytest.mark.parametrize("strategy", ["end", "all_checkpoints"])
def test_push_uploads_lineage_and_nothing_secret(hub, worker, home, tmp_path, strategy):
    more = ["--push_to_hub", "--hub_model_id", f"org/model-{strategy}", "--hub_strategy", strategy]
    more += ["--save_strategy", "steps", "--save_steps", "2"]
    record = worker.ask("train", method="sft", argv=argv(home, tmp_path / "out", f"{REPO}@v1.0.0", *more))
    assert record.get("steps") == 4, record
    repository = hub.store.repository("models", f"org/model-{strategy}")
    tree = repository.commit_at("main").tree
    assert {"model.safetensors", "lineage.json", "README.md", "train.json", "curves.png"} <= set(tree)
    for commit in repository.history("main"):
        for name, entry in commit.tree.items():
            assert "training_args" not in name
            data = hub.store.objects.read(entry.sha256)
            assert hub.token.encode() not in data, name
            assert str(home.parent).encode() not in data, name  # no path of this machine either
    lineage = json.loads(hub.store.objects.read(tree["lineage.json"].sha256))
    assert lineage["dataset"]["sha"] == hub.store.repository("datasets", REPO).refs()["tags"]["v1.0.0"]
    checkpoints = {name.split("/")[0] for name in tree if name.startswith("checkpoint-")}
    assert checkpoints == ({"checkpoint-2", "checkpoint-4"} if strategy == "all_checkpoints" else set())


def test_hub_that_is_gone_is_an_error_for_a_tag_and_none_for_a_cached_commit(home, tmp_path):
    with running_hub(home / "short") as gone:
        env = gone.env(tmp_path / "client", xet=False) | {"OMP_NUM_THREADS": "1"}
        with TrainWorker(env) as client:
            oid = client.ask("release", repo=REPO, folder=str(home / "set"), tag="v1.0.0")["oid"]
            more = ["--max_steps", "1"]
            assert client.ask("train", method="sft", argv=argv(home, tmp_path / "a", f"{REPO}@v1.0.0", *more))["steps"]
    with TrainWorker(env) as client:
        found = client.ask("train", method="sft", argv=argv(home, tmp_path / "b", f"{REPO}@v1.0.0"))
        assert "cannot be resolved to a commit" in found["text"]
        record = client.ask("train", method="sft", argv=argv(home, tmp_path / "c", f"{REPO}@{oid}"))
        assert record["lineage"]["dataset"]["sha"] == oid


def test_two_processes_under_accelerate_train_as_one(home, tmp_path):
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command += ["-m", "specdistill.cli.app", "train", "sft", *argv(home, tmp_path / "out", str(home / "set"))]
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("175 rows") == 1
    record = json.loads((tmp_path / "out" / "train.json").read_text())
    assert record["steps"] == 4
    assert record["last_loss"] < record["first_loss"]
