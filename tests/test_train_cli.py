"""The `train` commands: help, errors, and the token view for machines."""

from __future__ import annotations

import dataclasses
import errno
import json
from types import SimpleNamespace

import pytest
from tiny_model import tiny_model, tiny_tokenizer
from tiny_set import rows, write_set
from typer.testing import CliRunner

from specdistill.cli.train import app
from specdistill.errors import DiskError, TrainError, UsageError
from specdistill.train.arguments import METHODS, DataArguments, RewardArguments, parse
from specdistill.train.lineage import changed_arguments, check_resume, write_lineage

RUN = CliRunner()


@pytest.mark.parametrize("method", METHODS)
def test_help_names_every_argument_of_ours(method):
    found = RUN.invoke(app, [method, "--help"])
    assert found.exit_code == 0
    kinds = [DataArguments, RewardArguments] if method == "grpo" else [DataArguments]
    for kind in kinds:
        for one in dataclasses.fields(kind):
            assert f"--{one.name}" in found.output


def test_help_all_lists_trls_arguments():
    pytest.importorskip("trl")
    found = RUN.invoke(app, ["kto", "--help-all"])
    assert found.exit_code == 0
    assert "--desirable_weight" in found.output


def test_usage_errors_reach_the_caller():
    pytest.importorskip("trl")
    found = RUN.invoke(app, ["sft", "--model", "m"])
    assert isinstance(found.exception, UsageError)
    found = RUN.invoke(app, ["inspect", "--method", "ppo", "--dataset", "d"])
    assert isinstance(found.exception, UsageError)
    assert "sft, dpo, reward, kto, grpo" in found.exception.remedy


@pytest.mark.integration
def test_inspect_prints_json_and_fails_when_something_is_wrong(tmp_path):
    pytest.importorskip("trl")
    made = rows()[:40]
    write_set(tmp_path / "set", made)
    tiny_model(tmp_path / "model", [row["reasoning"] for row in made])
    argv = ["inspect", "--json", "--rows", "1", "--dataset", str(tmp_path / "set"), "--model", str(tmp_path / "model")]
    found = RUN.invoke(app, argv)
    assert found.exit_code == 0, found.exception
    said = json.loads(found.stdout)
    assert said["inspection"]["findings"] == []
    assert [token["loss"] for token in said["sequences"][0]["tokens"]][0::200] == [False]
    found = RUN.invoke(app, [*argv, "--max_length", "40"])
    assert isinstance(found.exception, TrainError)
    assert json.loads(found.stdout)["inspection"]["truncated"] > 0


def test_export_distill_writes_the_file(tmp_path):
    write_set(tmp_path / "set", rows()[:40])
    found = RUN.invoke(
        app, ["export-distill", "--dataset", str(tmp_path / "set"), "--out", str(tmp_path / "d.parquet")]
    )
    assert found.exit_code == 0, found.exception
    assert (tmp_path / "d.parquet").is_file()


@pytest.mark.parametrize("command", [["sft"], ["inspect"]])
@pytest.mark.parametrize("limit", ["0", "-1"])
def test_a_limit_of_no_rows_is_refused(command, limit):
    pytest.importorskip("trl")
    found = RUN.invoke(app, [*command, "--dataset", "d", "--model", "m", "--limit", limit])
    assert isinstance(found.exception, UsageError), found.exception
    assert f"--limit is {limit}" in found.exception.cause


def test_what_trl_refuses_is_told_in_its_words(tmp_path):
    pytest.importorskip("trl")
    made = rows(1)
    write_set(tmp_path / "set", made)
    tiny_tokenizer([row["reasoning"] for row in made]).save_pretrained(tmp_path / "model")
    argv = ["--dataset", str(tmp_path / "set"), "--model", str(tmp_path / "model"), "--report_to", "none"]
    found = RUN.invoke(app, ["inspect", "--method", "kto", *argv, "--per_device_train_batch_size", "1"])
    assert isinstance(found.exception, UsageError), found.exception
    assert "batch size" in found.exception.cause
    assert "train kto --help-all" in found.exception.remedy


def test_what_trl_refuses_at_the_first_step_is_told_and_later_failures_are_not_taken_for_it():
    pytest.importorskip("torch")
    from specdistill.train.run import _trained

    def train(resume_from_checkpoint):
        raise ValueError("Unknown loss type: nope.")

    trainer = SimpleNamespace(train=train, state=SimpleNamespace(global_step=0))
    with pytest.raises(UsageError, match="Unknown loss type: nope"):
        _trained("dpo", trainer, None)
    trainer.state.global_step = 1
    with pytest.raises(ValueError, match="Unknown") as caught:
        _trained("dpo", trainer, None)
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize("raw", [b'{"method": "sf', b"[]", b"\xff"])
def test_a_damaged_lineage_is_named_when_resuming(tmp_path, raw):
    (tmp_path / "lineage.json").write_bytes(raw)
    with pytest.raises(TrainError, match="cannot be read") as caught:
        check_resume(str(tmp_path), {})
    assert caught.value.file == str(tmp_path / "lineage.json")


def test_lineage_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write_lineage(tmp_path, {"method": "sft"})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskError, match="disk is full"):
        write_lineage(tmp_path, {"method": "dpo"})
    assert [path.name for path in tmp_path.iterdir()] == ["lineage.json"]
    assert json.loads((tmp_path / "lineage.json").read_text()) == {"method": "sft"}


def test_lineage_names_no_folder_of_the_machine():
    pytest.importorskip("trl")
    more = ["--chat_template_path", "/x/y/chat_template.jinja", "--lora_target_modules", "/x/y/q_proj", "v_proj"]
    asked = parse("sft", ["--dataset", "d", "--model", "m", *more, "--model_init_kwargs", '{"cache_dir": "/x/y/"}'])
    said = changed_arguments(asked)
    assert said["chat_template_path"] == "chat_template.jinja"
    assert json.loads(said["lora_target_modules"]) == ["q_proj", "v_proj"]
    assert "/x" not in json.dumps(said)
    assert asked.training.chat_template_path == "/x/y/chat_template.jinja"  # what is used stays as it was given
