"""The `train` commands: help, errors, and the token view for machines."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tiny_model import tiny_model
from tiny_set import rows, write_set
from typer.testing import CliRunner

from specdistill.cli.train import app
from specdistill.errors import TrainError, UsageError
from specdistill.train.arguments import METHODS, DataArguments, RewardArguments

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
