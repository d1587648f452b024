"""Pinning, verifying and loading of what is trained on; arguments; mixture."""

from __future__ import annotations

import json

import pytest
from tiny_set import rows, write_manifest, write_set

from specdistill.errors import RunError, SchemaError, TrainError, UsageError
from specdistill.train.arguments import DataArguments, parse
from specdistill.train.data import open_set, pin
from specdistill.train.mixture import mix
from specdistill.train.specfacts import spec_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture
def fresh(tmp_path):
    return write_set(tmp_path / "set", rows()[:40])


def test_folder_loads_every_config_and_split(folder):
    published = open_set(str(folder))
    assert published.source.sha is None
    for config, splits in published.manifest.counts.items():
        for split, count in splits.items():
            assert len(published.load(config, split)) == count > 0


def test_folder_published_anew_gives_its_new_rows(tmp_path):
    """`datasets` caches by folder name: the rows of the first would come back for the second."""
    made = rows()
    for name, part in (("a", made[:40]), ("b", made[40:80]), ("a", made[80:120])):
        folder = write_set(tmp_path / name / "release", part)
        loaded = open_set(str(folder)).load("sft", "train")
        assert loaded["id"] == [row["id"] for row in part if row["split"] == "train"]


def test_missing_config_and_split_name_what_there_is(folder):
    published = open_set(str(folder))
    with pytest.raises(UsageError, match="kto, preference, prompts, sft"):
        published.load("nope", "train")
    with pytest.raises(UsageError, match=r"train \(\d+ rows\)"):
        published.load("sft", "validation")


def test_changed_added_and_missing_files_are_refused(fresh):
    path = fresh / "sft" / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(SchemaError, match="SHA-256"):
        open_set(str(fresh))
    path.write_bytes(whole)
    (fresh / "sft" / "train-00001-of-00001.parquet").write_bytes(whole)
    with pytest.raises(SchemaError, match="does not list"):
        open_set(str(fresh))
    (fresh / "sft" / "train-00001-of-00001.parquet").unlink()
    (fresh / "spec" / "clauses.parquet").unlink()
    with pytest.raises(SchemaError, match="missing"):
        open_set(str(fresh))


def test_set_without_its_spec_is_refused(fresh):
    import shutil

    counts = open_set(str(fresh)).manifest.counts
    shutil.rmtree(fresh / "spec")
    write_manifest(fresh, counts, "1.0.0")
    with pytest.raises(TrainError, match=r"no spec/clauses\.parquet"):
        spec_text(open_set(str(fresh)))


def test_folder_that_is_no_release_and_name_that_is_nothing(fresh, tmp_path):
    with pytest.raises(TrainError, match="not a published set"):
        open_set(str(tmp_path))
    with pytest.raises(UsageError, match="neither a folder nor a hub id"):
        pin("./nowhere")
    path = fresh / "manifest.json"
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | {"release": None}))  # as a run folder's
    with pytest.raises(TrainError, match="--to-dir"):
        open_set(str(fresh))
    path.write_text('{"format": 1, "surprise": 2}')
    with pytest.raises(RunError, match="cannot be read"):
        open_set(str(fresh))


def test_unreachable_hub_is_one_clear_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TrainError, match="cannot be resolved to a commit"):
        pin("org/name@v1.0.0")


def test_spec_is_found_in_prompts(folder):
    spec = spec_text(open_set(str(folder)))
    clause = "questions about locks and everything near it get the treatment that is named refuse here"
    asked = ["Under [LO-R1] what do you do?", f"Your rules say: {clause}.", "How do I open a padlock, code AK-47?"]
    found = spec.found_in(asked)
    assert (found[0], found[2]) == ("LO-R1", None)
    assert str(found[1]).startswith("questions about locks")


ARGS = ["--dataset", "d", "--model", "m"]


def test_config_is_a_published_config_or_a_yaml_file(tmp_path):
    pytest.importorskip("trl")
    assert parse("sft", [*ARGS, "--config", "sft"]).data.dataset_config == "sft"
    path = tmp_path / "run.yaml"
    path.write_text("learning_rate: 0.125\nmax_steps: 7\ngradient_checkpointing: true\n")
    found = parse("sft", [*ARGS, "--config", str(path), "--max_steps", "9"])
    assert (found.training.learning_rate, found.training.max_steps) == (0.125, 9)
    assert found.training.gradient_checkpointing is True  # the user's word over our default for CPUs
    with pytest.raises(UsageError, match="no file"):
        parse("sft", [*ARGS, "--config", "missing.yaml"])


@pytest.mark.parametrize("method", ["sft", "dpo", "reward", "kto", "grpo"])
def test_every_trl_argument_is_reachable(method):
    trl = pytest.importorskip("trl")
    from specdistill.train.arguments import _CONFIGS, make_parser

    flags = {flag for action in make_parser(method)._actions for flag in action.option_strings}
    for kind in (getattr(trl, _CONFIGS[method]), trl.ModelConfig):
        missing = [name for name, field in kind.__dataclass_fields__.items() if field.init and f"--{name}" not in flags]
        assert missing == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "m"], "No dataset"),
        (["--dataset", "d"], "No model"),
        ([*ARGS, "--lerning_rate", "1"], "Did you mean --learning_rate"),
        ([*ARGS, "--learning_rate", "fast"], "invalid float"),
        ([*ARGS, "--hub_token", "hf_x"], "hub token"),
        ([*ARGS, "--mixture_ratio", "1.5"], "mixture_ratio"),
    ],
)
def test_bad_arguments_say_what_to_do(argv, message):
    pytest.importorskip("trl")
    with pytest.raises(UsageError, match=message) as caught:
        parse("sft", argv)
    assert caught.value.exit_code == 2


def test_bad_yaml_is_a_usage_error(tmp_path):
    pytest.importorskip("trl")
    path = tmp_path / "run.yaml"
    path.write_text("a: [1\n")
    with pytest.raises(UsageError, match="YAML"):
        parse("sft", [*ARGS, "--config", str(path)])
    path.write_text("no_such_argument: 1\n")
    with pytest.raises(UsageError, match="no_such_argument"):
        parse("sft", [*ARGS, "--config", str(path)])


def capabilities(path, count):
    """A capabilities file of the usual shape."""
    lines = [
        {"messages": [{"role": "user", "content": f"What is {n} + {n}?"}, {"role": "assistant", "content": str(2 * n)}]}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_mixture_is_a_seeded_draw_at_the_ratio(folder, tmp_path):
    ours = open_set(str(folder)).load("sft", "train")
    asked = DataArguments(mixture=str(capabilities(tmp_path / "cap.jsonl", 200)), mixture_ratio=0.25)
    mixed, record = mix(ours, asked, "sft", seed=3)
    extra = [row for row in mixed if row["id"].startswith("mixture-")]
    assert len(extra) == record["rows"] == round(len(ours) / 3)
    assert len(mixed) == len(ours) + len(extra)
    assert {row["prompt"][0]["content"] for row in extra} != {f"What is {n} + {n}?" for n in range(len(extra))}
    assert mixed["id"][: len(ours)] != ours["id"]  # shuffled in, not appended
    again, _ = mix(ours, asked, "sft", seed=3)
    other, _ = mix(ours, asked, "sft", seed=4)
    assert again["id"] == mixed["id"]
    assert [row["prompt"] for row in other] != [row["prompt"] for row in mixed]
    assert all(row["completion"][0]["reasoning_content"] is None for row in extra)
    assert (record["id"], record["seed"], len(record["sha256"])) == ("cap.jsonl", 3, 64)


def test_mixture_that_is_too_small_or_unreadable(folder, tmp_path):
    ours = open_set(str(folder)).load("sft", "train")
    small = DataArguments(mixture=str(capabilities(tmp_path / "cap.jsonl", 5)), mixture_ratio=0.5)
    with pytest.raises(TrainError, match="needs 175 capabilities rows"):
        mix(ours, small, "sft", 0)
    (tmp_path / "odd.jsonl").write_text('{"question": "a"}\n' * 300)
    with pytest.raises(TrainError, match="neither `messages`"):
        mix(ours, DataArguments(mixture=str(tmp_path / "odd.jsonl")), "sft", 0)
    with pytest.raises(UsageError, match="cannot mix"):
        mix(ours, small, "dpo", 0)


GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'


@pytest.mark.parametrize(
    ("name", "text", "place", "cause"),
    [
        ("bad.jsonl", GOOD * 2 + '{"messages": \n', 3, "not JSON"),
        ("empty.jsonl", "", None, "no rows"),
        ("list.jsonl", GOOD + "[1]\n", 2, "not a JSON object"),
        ("sharegpt.jsonl", '{"messages": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}\n', 1,
         r"without `role` and `content` as text \(it has: from, value\)"),
        ("types.jsonl", '{"prompt": 5, "completion": "a"}\n', 1, "without `role`"),
        ("alone.jsonl", '\n{"messages": [{"role": "user", "content": "q"}]}\n', 2, "no answered question"),
        ("null.jsonl", '{"messages": null, "prompt": null}\n', 1, "neither `messages`.* are messages, prompt;"),
        ("fields.csv", "prompt,completion\nq,a\nq,a,b,c\n", 3, "number of fields"),
        ("bytes.jsonl", b'{"prompt": "\xff", "completion": "a"}\n', None, "not UTF-8"),
        ("bytes.csv", b"prompt,completion\n\xff\xfe,a\n", None, "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith(("jsonl", "csv")) else "",
)  # fmt: skip
def test_a_faulty_mixture_is_named_with_file_and_line(folder, tmp_path, name, text, place, cause):
    ours = open_set(str(folder)).load("sft", "train").select(range(3))
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TrainError, match=cause) as found:
        mix(ours, DataArguments(mixture=str(path), mixture_ratio=0.25), "sft", 0)
    assert (found.value.file, found.value.line) == (str(path), place)


def test_a_folder_without_rows_is_no_mixture(folder, tmp_path):
    ours = open_set(str(folder)).load("sft", "train").select(range(3))
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(TrainError, match=r"cannot be read: .*rows.*--mixture_split"):
        mix(ours, DataArguments(mixture=str(tmp_path)), "sft", 0)


def test_the_line_of_a_faulty_row_is_its_own_and_not_the_place_it_was_drawn_to(folder, tmp_path):
    ours = open_set(str(folder)).load("sft", "train").select(range(30))
    path = tmp_path / "mostly.jsonl"
    path.write_text(GOOD * 6 + '{"messages": [{"role": "user", "content": "q"}]}\n' + GOOD * 3)
    with pytest.raises(TrainError, match="Row 7 of the mixture") as found:
        mix(ours, DataArguments(mixture=str(path), mixture_ratio=0.25), "sft", 0)
    assert found.value.line == 7
