"""Whole builds through the command line, against a server that answers, misbehaves, goes away and comes back."""

import json
import os
import random
import signal
import socket
import time

import polars as pl
import pytest
from build_helpers import build, build_alone, finished, keys, kill_group, sent, start, wait_for_calls, write_recipe
from build_helpers import run as run_command
from fake_openai_server import FakeOpenAI, Rule

from specdistill.schemas.vocabulary import CONFIGS

pytestmark = pytest.mark.integration
KILL_SEEDS = int(os.environ.get("SPECDISTILL_KILL_SEEDS", "1"))
"""Builds that are each killed four times; `benchmarks/crashes.py` kills hundreds of times."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A finished run against a healthy server: its folder and its server's request count."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with FakeOpenAI(latency=0.01) as server:
        done = build_alone(write_recipe(folder, server.url), folder / "run")
        assert done.returncode == 0, done.stderr
        yield folder / "run", server.calls


def rows(run, config):
    return pl.concat([pl.read_parquet(path) for path in sorted((run / "datasets" / config).glob("*.parquet"))])


def test_a_build_makes_every_set_and_says_so(undisturbed):
    run, _ = undisturbed
    for config in CONFIGS:
        assert rows(run, config).height > 0, config
    assert rows(run, "sft")["category"].n_unique() == 7
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["counts"]["sft"]["train"] == pl.read_parquet(run / "datasets/sft/train.parquet").height
    assert (run / "report" / "README.md").exists()


def test_a_second_build_asks_nothing(undisturbed, tmp_path):
    run, calls = undisturbed
    before = keys(run)
    with FakeOpenAI() as server:
        done = build(write_recipe(tmp_path, "http://127.0.0.1:9/v1"), run)  # nobody listens there: nothing is needed
        assert done.returncode == 0, done.stderr
        assert server.calls == 0
    assert "Nothing to generate or judge" in done.stderr
    assert keys(run) == before
    assert calls > 0


def test_select_moves_a_threshold_without_a_call(undisturbed):
    run, _ = undisturbed

    def select(*more):
        return run_command("select", run, "--json", *more)

    calls = len(finished(run))
    strict = json.loads(select("--set", "judge.threshold=1.0").stdout)["counts"]["sft"]
    loose = json.loads(select("--set", "judge.threshold=0.3").stdout)["counts"]["sft"]
    assert sum(strict.values()) < sum(loose.values())
    assert len(finished(run)) == calls
    refused = select("--set", "generator.temperature=0.1")
    assert refused.returncode == 1
    assert "Changing generator needs model calls" in refused.stderr


@pytest.mark.parametrize("seed", range(KILL_SEEDS))
def test_kill_9_at_random_moments_repeats_only_calls_in_flight(undisturbed, tmp_path, seed):
    reference, _ = undisturbed
    chance = random.Random(seed)
    out = tmp_path / "run"
    with FakeOpenAI(latency=0.4) as server:
        recipe = write_recipe(tmp_path, server.url)
        for _ in range(4):
            before = finished(out)
            process = start(recipe, out)
            wait_for_calls(out, len(before) + chance.randint(1, 30), process)
            assert process.poll() is None, "the build ended before it could be killed"
            kill_group(process)
            after = finished(out)
            assert {key: after[key] for key in before} == before, "a finished call is never made again"
        done = build(recipe, out)
        assert done.returncode == 0, done.stderr
    assert keys(out) == keys(reference)
    went = sent(out)
    repeated = len(went) - len({key for key, _ in went})
    in_flight = 2 * 8 * 3  # engines, requests each, samples each
    assert repeated <= 4 * 2 * in_flight, "at each kill, what was in flight or had ended within the quarter second"
    by_session = finished(out)
    for key in {key for key, _ in went}:
        sessions = sorted(session for sent_key, session in went if sent_key == key)
        assert by_session[key] == sessions[-1], "nothing is asked after it was answered"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_clean_and_resumes(undisturbed, tmp_path, number):
    reference, _ = undisturbed
    out = tmp_path / "run"
    with FakeOpenAI(latency=0.1) as server:
        recipe = write_recipe(tmp_path, server.url)
        process = start(recipe, out)
        wait_for_calls(out, 10, process)
        os.kill(process.pid, number)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130, output
        assert "Stopped in good order" in output
        assert "Traceback" not in output
        done = build(recipe, out)
        assert done.returncode == 0, done.stderr
    assert keys(out) == keys(reference)


def test_a_server_that_dies_leaves_a_run_that_finishes_later(undisturbed, tmp_path):
    reference, _ = undisturbed
    out = tmp_path / "run"
    server = FakeOpenAI(latency=0.1)
    server.start()
    recipe = write_recipe(tmp_path, server.url)
    process = start(recipe, out)
    wait_for_calls(out, 20, process)
    server.stop()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "Traceback" not in output
    assert "what to do" in output
    with FakeOpenAI(latency=0.01) as again:
        done = build(recipe, out, "--set", f"generator.base_url={again.url}", "--set", f"judge.base_url={again.url}")
        assert done.returncode == 0, done.stderr
    assert keys(out) == keys(reference)


def test_poisoned_rows_fail_alone_and_are_mended_by_a_rerun(undisturbed, tmp_path):
    reference, _ = undisturbed
    out = tmp_path / "run"
    poison = rows(reference, "prompts")["prompt"][3][-1]["content"][:60]
    with FakeOpenAI(Rule("http_400", contains=poison)) as server:
        done = build(write_recipe(tmp_path, server.url), out, "--json")
        assert done.returncode == 0, done.stderr
    rejected = rows(out, "rejected").filter(pl.col("reason") == "call_failed")
    assert rejected.height == 4, "three samples and the contrast of one prompt"
    assert rejected["error"].str.contains("400").all()
    assert json.loads(done.stdout)["failed_calls"] == 4
    with FakeOpenAI() as healthy:
        done = build(write_recipe(tmp_path, healthy.url), out, "--json")
        assert json.loads(done.stdout)["failed_calls"] == 0
    assert sorted(set(keys(out)["candidates"])) == keys(reference)["candidates"]


def test_a_judge_that_never_returns_json_gives_abstentions_and_no_scores(tmp_path):
    out = tmp_path / "run"
    with FakeOpenAI(Rule("length", contains="strict, fair judge")) as server:
        done = build(write_recipe(tmp_path, server.url, per_category=1), out)
        assert done.returncode == 0, done.stderr
    judgments = rows(out, "judgments")
    assert set(judgments["status"]) == {"abstained"}
    assert judgments["compliance"].null_count() == judgments.height > 0
    assert rows(out, "sft").height == rows(out, "reward").height == 0
    assert "no_verdict" in set(rows(out, "rejected")["reason"])


def test_two_builds_on_one_folder(tmp_path):
    out = tmp_path / "run"
    with FakeOpenAI(latency=4.0) as server:
        recipe = write_recipe(tmp_path, server.url)
        first = start(recipe, out)
        wait_for_calls(out, 3, first)
        second = build(recipe, out)
        kill_group(first)
    assert second.returncode == 1
    assert "Another build (process" in second.stderr


def test_a_damaged_part_is_set_aside_and_rebuilt_without_a_call(undisturbed, tmp_path):
    import shutil

    reference, _ = undisturbed
    out = tmp_path / "run"
    shutil.copytree(reference, out)
    part = sorted((out / "candidates").glob("part-*.parquet"))[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 0x55
    part.write_bytes(bytes(data))
    calls = finished(out)
    done = build(write_recipe(tmp_path, "http://127.0.0.1:9/v1"), out)
    assert done.returncode == 0, done.stderr
    assert "A damaged part was set aside" in done.stderr
    assert keys(out) == keys(reference)
    assert finished(out) == calls


def test_a_changed_clause_regenerates_only_its_category(undisturbed, tmp_path):
    import shutil

    from specdistill.specs.layout import write_spec
    from specdistill.specs.loader import load_spec

    reference, _ = undisturbed
    out, spec = tmp_path / "run", tmp_path / "policy"
    shutil.copytree(reference, out)
    write_spec(load_spec("safety"), spec)
    shutil.copytree(seed_folder(), spec / "prompts")
    with FakeOpenAI() as server:
        recipe = write_recipe(tmp_path, server.url)
        recipe.write_text(recipe.read_text().replace("spec: safety", f"spec: {spec}"))
        assert build(recipe, out).returncode == 0
        assert server.calls == 0, "the same policy from another folder asks nothing"

        anchor = lonely_anchor("harassment")
        file = spec / "categories" / "harassment.md"
        before, after = file.read_text().split(f"{{#{anchor}}}")
        file.write_text(before + f"{{#{anchor}}}" + after.replace("**Why:**", "Mind the context. **Why:**", 1))
        stale = json.loads(run_command("status", str(out), "--json").stdout)["spec_changes"]
        assert [change["category"] for change in stale] == ["harassment"]
        assert any(anchor in reason and "reworded" in reason for reason in stale[0]["reasons"])
        assert stale[0]["candidates"] == 2 * 3

        calls = finished(out)
        assert build(recipe, out).returncode == 0
    new = pl.read_parquet(out / "candidates" / "part-*.parquet").filter(
        ~pl.col("candidate_id").is_in(keys(reference)["candidates"])
    )
    assert set(new["category"]) == {"harassment"}
    assert new.height == stale[0]["candidates"], "the contrast arm never saw the policy and is kept"
    judged = pl.read_parquet(out / "judgments" / "part-*.parquet").filter(
        ~pl.col("judgment_id").is_in(keys(reference)["judgments"])
    )
    assert set(judged["category"]) == {"harassment"}
    policy = load_spec(spec)
    digests = {category.id: category.digest for category in policy.categories}
    assert set(new["category_digest"]) == set(judged["category_digest"]) == {digests["harassment"]}
    assert digests["harassment"] != load_spec("safety").category("harassment").digest
    taught = rows(out, "sft")
    assert taught["category_digest"].to_list() == [digests[category] for category in taught["category"]]
    assert taught["clause_digests"].to_list() == [
        [policy.by_anchor[anchor].digest for anchor in anchors] for anchors in taught["clauses"].to_list()
    ]
    # Equal answers to one prompt are judged by one call, so there may be fewer calls than rows, never more.
    assert 0 < len(finished(out)) - len(calls) <= new.height + judged.height
    status = json.loads(run_command("status", str(out), "--json").stdout)
    assert status["spec_changes"] == []
    assert status["stages"]["candidates"]["stale"] == new.height
    assert rows(out, "sft")["category"].n_unique() == 7


def lonely_anchor(category):
    """A clause of a category that is shown with no other category."""
    from specdistill.specs.loader import load_spec
    from specdistill.specs.render import render

    spec = load_spec("safety")
    elsewhere = {anchor for other in spec.categories if other.id != category for anchor in render(spec, other.id).shown}
    return next(clause.anchor for clause in spec.category(category).clauses if clause.anchor not in elsewhere)


def seed_folder():
    from specdistill.specs.loader import load_spec, seed_files

    return seed_files(load_spec("safety"))[0].parent


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("spec: safety", "spec: nowhere"), "There is no spec"),
        (lambda text: text.replace("library: seeds", "path: missing.jsonl"), "No such file"),
        (lambda text: text + "\nnmae: x\n", "Unknown key 'nmae'"),
        (lambda text: text + "  - [\n", "not valid YAML"),
    ],
)
def test_bad_input_is_one_message_and_writes_nothing(tmp_path, change, message):
    recipe = write_recipe(tmp_path, "http://127.0.0.1:9/v1")
    recipe.write_text(change(recipe.read_text()))
    done = build(recipe, tmp_path / "run")
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "candidates").exists()


def test_an_unreachable_server_is_one_message_and_the_run_resumes(undisturbed, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    recipe = write_recipe(tmp_path, f"http://127.0.0.1:{port}/v1", retries=0)
    began = time.monotonic()
    done = build(recipe, tmp_path / "run")
    assert done.returncode == 1, f"after {time.monotonic() - began:.0f} s"
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
    with FakeOpenAI() as server:
        assert build(write_recipe(tmp_path, server.url), tmp_path / "run").returncode == 0
    assert keys(tmp_path / "run") == keys(undisturbed[0])


def test_preview_shows_the_messages_and_writes_nothing(tmp_path):
    with FakeOpenAI() as server:
        done = build(write_recipe(tmp_path, server.url), tmp_path / "run", "--preview", "2", "--json")
    assert done.returncode == 0, done.stderr
    exchanges = json.loads(done.stdout)
    assert len(exchanges) == 2
    for exchange in exchanges:
        generate, judge = exchange["calls"]
        assert generate["messages"][0]["content"].startswith("<policy>\n# Safety policy")
        assert generate["read"]["parse"] == "ok"
        assert judge["read"]["status"] in ("scored", "abstained")
    assert not (tmp_path / "run").exists()


def test_a_preview_of_fewer_than_none_is_refused(tmp_path):
    done = build(write_recipe(tmp_path, "http://127.0.0.1:9/v1"), tmp_path / "run", "--preview", "-1")
    assert (done.returncode, "--preview" in done.stderr) == (2, True)


def test_a_preview_shows_the_hint_that_the_judge_is_given(tmp_path):
    with FakeOpenAI() as server:
        done = build(
            write_recipe(tmp_path, server.url), tmp_path / "run", "--preview", "1", "--set", "judge.hint=true", "--json"
        )
    assert done.returncode == 0, done.stderr
    [[_, judge]] = [exchange["calls"] for exchange in json.loads(done.stdout)]
    assert "another AI determined" in judge["messages"][-1]["content"]


def test_a_spec_over_the_budget_is_refused_with_what_to_cut(tmp_path):
    recipe = write_recipe(tmp_path, "http://127.0.0.1:9/v1")
    recipe.write_text(recipe.read_text() + "context: {budget: 300, tokenizer: embedded}\n")
    done = build(recipe, tmp_path / "run")
    assert done.returncode == 1
    assert "300" in done.stderr
    assert "tokens" in done.stderr
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_prompt_of_two_categories_is_shown_the_union(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "hello", "category": "violence+self-harm"}\n')
    with FakeOpenAI() as server:
        recipe = write_recipe(tmp_path, server.url)
        recipe.write_text(recipe.read_text().replace("library: seeds, per_category: 2", "path: p.jsonl"))
        done = build(recipe, tmp_path / "run")
        assert done.returncode == 0, done.stderr
    shown = (tmp_path / "run" / "spec" / "rendered" / "violence+self-harm.md").read_text()
    assert "[VI-R1]" in shown
    assert "[SH-R1]" in shown
    assert set(rows(tmp_path / "run", "prompts")["category"]) == {"violence+self-harm"}
