"""Every method on a real model of 0.4 million weights: tokens, masks, refusals, lineage, resume."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from rule_judge import FakeRuleJudge
from tiny_model import tiny_model
from tiny_set import rows, turn, write_set

from specdistill.errors import EngineUnreachable, TrainError, UsageError
from specdistill.train.runtime import prepare_process

prepare_process()
pytest.importorskip("trl")
pytestmark = pytest.mark.integration

CORPUS = [row["prompt"][0]["content"] + row["reasoning"] + row["answer"] for row in rows()]
FAST = ["--max_steps", "4", "--per_device_train_batch_size", "4", "--learning_rate", "3e-3", "--save_strategy", "no"]
FAST += ["--bf16", "False", "--report_to", "none"]
JUDGE = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "fake", "k": 2, "retries": 0}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A model this small only waits for a second thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A set, and a model for each template."""
    home = tmp_path_factory.mktemp("train")
    write_set(home / "set", judge=JUDGE)
    for name in ("chatml", "qwen3_prefilled", "r1", "gpt_oss"):
        tiny_model(home / name, CORPUS, name)
    return home


def run(method, home, out, *more, model="chatml", data="set"):
    """One run; returns its record."""
    from specdistill.train.run import train

    argv = ["--dataset", str(home / data), "--model", str(home / model), "--output_dir", str(out), *FAST, *more]
    return train(method, argv, Console(file=io.StringIO()))


def faulty(home, name, change):
    """A set with some rows changed."""
    made = rows()[:48]
    for at, row in enumerate(made):
        change(at, row)
    return write_set(home / name, made).name


@pytest.mark.parametrize("model", ["chatml", "qwen3_prefilled", "gpt_oss"])
def test_sft_trains_on_reasoning_and_answer_only(home, tmp_path, model):
    record = run("sft", home, tmp_path, model=model)
    assert record["last_loss"] < record["first_loss"]
    checked = record["inspection"]
    assert checked["findings"] == ()
    assert 0 < checked["trained_tokens"] < checked["mean_tokens"]


def test_r1_needs_text_and_then_trains_on_what_the_model_generates(home, tmp_path):
    with pytest.raises(TrainError, match="--convention text"):
        run("sft", home, tmp_path, model="r1")
    record = run("sft", home, tmp_path, "--convention", "text", model="r1")
    assert record["last_loss"] < record["first_loss"]
    assert record["lineage"]["convention"]["rendered"].startswith("REASONING\n</think>")


@pytest.mark.parametrize("method", ["dpo", "kto", "reward"])
@pytest.mark.parametrize("model", ["chatml", "gpt_oss", "r1"])
def test_preference_methods_see_reasoning_and_answer(home, tmp_path, method, model):
    more = ["--convention", "text"] if model == "r1" else []
    record = run(method, home, tmp_path, *more, "--max_steps", "2", model=model)
    assert record["steps"] == 2
    assert record["inspection"]["findings"] == ()
    assert record["inspection"]["checked"] == 64 * (1 if method == "kto" else 2)


def test_dropped_reasoning_is_refused_before_the_first_step_and_forced_is_recorded(home, tmp_path):
    with pytest.raises(TrainError, match="reasoning_lost"):
        run("sft", home, tmp_path / "a", "--convention", "reasoning_content")
    assert not (tmp_path / "a").exists() or not list((tmp_path / "a").glob("*.safetensors"))
    record = run("sft", home, tmp_path / "b", "--convention", "reasoning_content", "--force")
    assert record["inspection"]["findings"][0]["code"] == "reasoning_missing"
    assert record["lineage"]["forced"] is True
    assert "the check of the tokens failed" in (tmp_path / "b" / "README.md").read_text()


def test_loss_on_the_prompt_is_refused(home, tmp_path):
    with pytest.raises(TrainError, match="prompt_trained in 64 rows"):
        run("sft", home, tmp_path, "--completion_only_loss", "False")


def test_truncation_beyond_the_limit_names_the_length_that_fits(home, tmp_path):
    with pytest.raises(TrainError, match=r"175 rows are cut .* the longest has (\d+) tokens") as caught:
        run("sft", home, tmp_path, "--max_length", "60")
    longest = caught.value.cause.split("the longest has ")[1].split()[0]
    record = run("sft", home, tmp_path, "--max_length", longest)
    assert (record["inspection"]["truncated"], record["inspection"]["longest"]) == (0, int(longest))


def test_few_truncated_rows_are_allowed_within_the_limit(home, tmp_path):
    def lengthen(at, row):
        if at == 0:
            row["split"], row["answer"] = "train", row["answer"] + " And so on." * 40

    data = faulty(home, "one-long", lengthen)
    with pytest.raises(TrainError, match="1 rows are cut"):
        run("sft", home, tmp_path, "--max_length", "150", "--max_truncated", "0", data=data)
    record = run("sft", home, tmp_path, "--max_length", "150", "--max_truncated", "0.1", data=data)
    assert record["inspection"]["truncated"] == 1


@pytest.mark.parametrize("method", ["dpo", "kto", "reward"])
def test_truncation_is_seen_by_every_method(home, tmp_path, method):
    with pytest.raises(TrainError, match=r"truncated|nothing_left"):
        run(method, home, tmp_path, "--max_length", "60")


def test_rows_dropped_for_a_long_prompt_are_counted(home, tmp_path):
    def lengthen(at, row):
        if at < 12:
            row["split"], row["prompt"][0]["content"] = "train", "Please " * 200 + row["prompt"][0]["content"]

    data = faulty(home, "long-prompts", lengthen)
    with pytest.raises(TrainError, match="12 dropped"):
        run("sft", home, tmp_path, "--max_length", "180", data=data)


def test_spec_in_a_prompt_is_refused(home, tmp_path):
    def leak(at, row):
        if at == 3:
            row["split"] = "train"
            row["prompt"][0]["content"] = "By [LO-R1] you must refuse. " + row["prompt"][0]["content"]

    with pytest.raises(TrainError, match=r"spec_in_prompt in 1 rows .*LO-R1"):
        run("sft", home, tmp_path, data=faulty(home, "leaky", leak))


def test_answer_and_question_that_the_template_drops_are_refused(home, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(home / "chatml")
    path = tmp_path / "odd.jinja"
    path.write_text(tokenizer.chat_template.replace("m['content']", "(m['content'] if m['role'] != 'user' else '?')"))
    with pytest.raises(TrainError, match="prompt_missing"):
        run("sft", home, tmp_path, "--chat_template_path", str(path))
    path.write_text(
        tokenizer.chat_template.replace("'<|im_end|>\n'", "('<|im_end|>\n' if m['role'] == 'user' else '')")
    )
    record = run("sft", home, tmp_path, "--chat_template_path", str(path))
    assert record["lineage"]["convention"]["rendered"].endswith("ANSWER")  # such a template has no end to learn


def test_lora_packing_and_mixture(home, tmp_path):
    record = run("sft", home, tmp_path / "lora", "--use_peft", "--lora_target_modules", "q_proj", "v_proj")
    assert (tmp_path / "lora" / "adapter_model.safetensors").is_file()
    assert record["lineage"]["arguments"]["use_peft"] is True
    lines = [
        {"messages": [{"role": "user", "content": f"{n} + {n}?"}, {"role": "assistant", "content": f"It is {2 * n}."}]}
        for n in range(80)
    ]
    (tmp_path / "cap.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    more = ["--mixture", str(tmp_path / "cap.jsonl"), "--mixture_ratio", "0.2", "--inspect_rows", "500"]
    record = run("sft", home, tmp_path / "mixed", *more)
    assert record["lineage"]["mixture"]["rows"] == round(175 / 4)
    assert record["lineage"]["dataset"]["rows"] == {"train": 175}  # each is counted by itself
    assert record["inspection"]["checked"] == 175 + round(175 / 4)
    assert "cap.jsonl" in (tmp_path / "mixed" / "README.md").read_text()
    # Wrapped packing needs no FlashAttention and forgets which row is where.
    record = run("sft", home, tmp_path / "packed", "--packing", "--packing_strategy", "wrapped", "--max_length", "256")
    assert record["inspection"]["checked"] == 64


def test_mixture_rows_without_a_thought_pass_a_template_that_asks_for_keys(home, tmp_path):
    lines = [{"prompt": f"{n} + {n}?", "completion": f"It is {2 * n}."} for n in range(80)]
    (tmp_path / "cap.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    more = ["--mixture", str(tmp_path / "cap.jsonl"), "--mixture_ratio", "0.2", "--inspect_rows", "500"]
    assert run("sft", home, tmp_path / "out", *more, model="gpt_oss")["inspection"]["findings"] == ()


def test_checkpoints_and_model_carry_their_lineage_and_no_secret(home, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_SECRETsecretSECRETsecret")
    run("sft", home, tmp_path / "out", "--save_strategy", "steps", "--save_steps", "2", "--seed", "7")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.name for path in files} & {"training_args.bin"} == set()
    for path in files:
        assert b"SECRETsecret" not in path.read_bytes()
        if path.suffix in (".json", ".md") and path.name != "tokenizer.json":
            assert str(tmp_path) not in path.read_text()
    for folder in ("", "checkpoint-2", "checkpoint-4"):
        lineage = json.loads((tmp_path / "out" / folder / "lineage.json").read_text())
        assert (lineage["dataset"]["id"], lineage["dataset"]["version"], lineage["seed"]) == ("set", "1.0.0", 7)
        assert lineage["spec"] == {"id": "tiny", "version": "1", "digest": "d" * 32}
        assert lineage["models"][0]["model"] == "test-judge"
        assert lineage["arguments"]["learning_rate"] == 3e-3
    card = (tmp_path / "out" / "README.md").read_text()
    for word in ("set, config `sft`", "175 rows of train", "tiny 1", "learning_rate: 0.003", "Seed | 7"):
        assert word in card


def test_curves_and_record_are_written(home, tmp_path):
    record = run("sft", home, tmp_path, "--eval_strategy", "steps", "--eval_steps", "2")
    assert json.loads((tmp_path / "train.json").read_text())["steps"] == record["steps"] == 4
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any("eval_loss" in entry for entry in record["history"])
    assert record["lineage"]["dataset"]["rows"] == {"train": 175, "test": 25}


@pytest.fixture
def judge():
    """A fake judge that likes answers with the letter e."""
    with FakeRuleJudge(lambda answer: 1 + min(4, 40 * answer.count("e") // max(1, len(answer)))) as server:
        yield server


GRPO = ["--num_generations", "4", "--max_completion_length", "24", "--max_steps", "2"]


def weights(folder: Path) -> dict[str, bytes]:
    """Raw bytes of every tensor."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "np") as file:
        return {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo"])
def test_interrupted_and_resumed_equals_uninterrupted(home, tmp_path, method, judge):
    steps = ["--max_steps", "6", "--save_strategy", "steps", "--save_steps", "3", "--logging_steps", "1"]
    if method == "grpo":
        steps = [*GRPO, *steps, "--judge_base_url", judge.url]
    whole = run(method, home, tmp_path / "whole", *steps)
    run(method, home, tmp_path / "cut", *steps)
    for later in (tmp_path / "cut").glob("checkpoint-6"):
        later.rename(tmp_path / "gone")
    resumed = run(method, home, tmp_path / "cut", *steps, "--resume_from_checkpoint", "last")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole") != weights(home / "chatml")
    assert [one.get("loss") for one in resumed["history"]] == [one.get("loss") for one in whole["history"]]


def test_resume_on_other_data_is_refused(home, tmp_path):
    steps = ["--save_strategy", "steps", "--save_steps", "2"]
    run("sft", home, tmp_path, *steps)
    with pytest.raises(TrainError, match="trained with another dataset"):
        run("sft", home, tmp_path, *steps, "--limit", "20", "--resume_from_checkpoint", "last")
    with pytest.raises(UsageError, match="There is no checkpoint"):
        run("sft", home, tmp_path / "empty", *steps, "--resume_from_checkpoint", "last")


def test_missing_model_and_wrong_config_are_clear(home, tmp_path):
    with pytest.raises(TrainError, match="cannot be loaded"):
        run("sft", home, tmp_path, model="nowhere")
    with pytest.raises(UsageError, match="cannot train on config 'kto'"):
        run("sft", home, tmp_path, "--config", "kto")


def test_grpo_runs_on_the_builds_judge_and_logs_every_criterion(home, tmp_path, judge):
    record = run("grpo", home, tmp_path, *GRPO, "--judge_base_url", judge.url)
    assert judge.calls == 2 * 4
    assert all(body["n"] == 2 for body in judge.bodies)
    logged = {key for entry in record["history"] for key in entry}
    wanted = {"rewards/judge/mean", "rewards/format/mean", "judge/compliance", "judge/helpfulness", "judge/answerless"}
    assert wanted <= logged
    reward = record["lineage"]["reward"]
    assert (reward["k"], reward["aggregate"], reward["weights"]) == (2, "min", [1.0, 0.1])
    assert "127.0.0.1" not in (tmp_path / "lineage.json").read_text()


def test_grpo_stops_when_the_judge_is_down_or_says_nothing(home, tmp_path):
    with pytest.raises(EngineUnreachable, match=r"127\.0\.0\.1:9"):
        run("grpo", home, tmp_path, *GRPO)
    with (
        FakeRuleJudge(lambda answer: 0) as silent,
        pytest.raises(TrainError, match=r"have no verdict .*declined"),
    ):
        run("grpo", home, tmp_path, *GRPO, "--max_steps", "6", "--judge_base_url", silent.url)


def test_inspect_shows_masks_without_loading_weights(home, capsys):
    from specdistill.train.run import dry
    from specdistill.train.show import as_records, print_rows

    argv = ["--dataset", str(home / "set"), "--model", str(home / "chatml"), *FAST]
    for method in ("sft", "dpo", "reward", "kto", "grpo"):
        ready, trainer, found = dry(method, argv + ["--num_generations", "4"] * (method == "grpo"))
        assert found.findings == ()
        records = as_records(trainer, ready, method, 2)
        assert all({token["loss"] for token in one["tokens"]} <= {True, False} for one in records)
    ready, trainer, _ = dry("sft", argv)
    one = as_records(trainer, ready, "sft", 1)[0]
    said = "".join(token["text"] for token in one["tokens"] if token["loss"])
    assert said.startswith("<think>\nThe user asks about")
    assert said.endswith("<|im_end|>\n")
    print_rows(Console(width=100), trainer, ready, "sft", 1)
    assert "The clause that decides is" in capsys.readouterr().out.replace("\n", " ")


def test_distill_export_gives_the_teacher_the_spec_and_the_student_none(home, tmp_path):
    import polars as pl

    from specdistill.train.distill import export

    assert export(str(home / "set"), "test", tmp_path / "d.parquet") == 25
    frame = pl.read_parquet(tmp_path / "d.parquet")
    for row in frame.iter_rows(named=True):
        assert f"## {row['category'].title()}" in row["privileged_context"]
        assert "[" not in row["prompt"][0]["content"]


def test_turn_helper_is_the_published_shape():
    assert turn("r", "a") == [{"role": "assistant", "content": "a", "reasoning_content": "r"}]


def test_self_distillation_trains_on_the_export(home, tmp_path):
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    from specdistill.train.distill import export

    export(str(home / "set"), "train", tmp_path / "d.parquet")
    data = load_dataset("parquet", data_files=str(tmp_path / "d.parquet"), split="train")
    small = {"max_steps": 1, "per_device_train_batch_size": 2, "num_generations": 1, "max_completion_length": 8}
    args = SDFTConfig(
        str(tmp_path / "out"), **small, use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no"
    )
    tokenizer = AutoTokenizer.from_pretrained(home / "chatml")
    trainer = SDFTTrainer(model=str(home / "chatml"), args=args, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    assert trainer.state.global_step == 1


def test_release_tree_of_a_real_run_is_inspected(home, tmp_path, monkeypatch):
    """The tree that `publish --to-dir` writes, not our own stand-in for it."""
    from run_fixture import write_run

    from specdistill.cards.tree import Ask, build_tree
    from specdistill.schemas.layout import RunLayout
    from specdistill.train.run import dry

    write_run(tmp_path / "run")
    build_tree(RunLayout(tmp_path / "run"), tmp_path / "release", Ask("1.2.0", "CC0-1.0", languages=("en",)))
    argv = ["--dataset", str(tmp_path / "release"), "--model", str(home / "chatml"), *FAST]
    for method in ("sft", "dpo", "reward", "kto", "grpo"):
        ready, _, found = dry(method, argv + ["--num_generations", "4"] * (method == "grpo"))
        assert found.findings == ()
        assert found.rows == ready.source.manifest.counts[ready.lineage["dataset"]["config"]]["train"]
    assert ready.lineage["dataset"]["version"] == "1.2.0"
