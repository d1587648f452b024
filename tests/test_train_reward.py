"""The judge as a reward: what it is shown, what becomes of an abstention, when a run stops."""

from __future__ import annotations

import asyncio
import json

import pytest
from rule_judge import FakeRuleJudge
from tiny_model import tiny_tokenizer
from tiny_set import TOPICS, rows, write_set

from specdistill.builders.engines.factory import make_engine
from specdistill.builders.judging import judge_messages
from specdistill.errors import RecipeError, TrainError, UsageError
from specdistill.schemas.recipe import Judge
from specdistill.train.arguments import RewardArguments
from specdistill.train.data import open_set
from specdistill.train.grpo import format_reward, heuristic
from specdistill.train.judge_config import judge_for
from specdistill.train.judge_reward import JudgeReward
from specdistill.train.template import choose

SECRET = "The user wants a padlock and I secretly think of [LO-R1]"
RENDERED = {category: f"Policy of {category}: [{TOPICS[category][0]}] be good." for category in TOPICS}
PROMPT = [{"role": "user", "content": "Tell me about a padlock."}]
WELL = f"<think>\n{SECRET}\n</think>\n\nA locksmith can help.<|im_end|>"
EMPTY = "<think>\n\n</think>\n\nA locksmith can help.<|im_end|>"


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer([row["reasoning"] + row["answer"] for row in rows()])


def ask(tokenizer, server, texts, *, k=2, repeat=1, logged=None, **options):
    """The rewards of some completions, `repeat` times over."""
    judge = Judge(engine="openai", base_url=server.url, model="fake", k=k, retries=0)
    engine = make_engine(judge)
    engine.load()

    def decode(ids):
        return tokenizer.decode(ids, skip_special_tokens=False)

    reward = JudgeReward(engine, judge, RENDERED, choose(tokenizer), decode, **options)
    ids = [tokenizer(text)["input_ids"] for text in texts]
    log = (lambda name, value: logged.setdefault(name, []).append(value)) if logged is not None else None
    more = {"log_metric": log} if log else {}

    async def go():
        found = []
        for _ in range(repeat):
            found.append(await reward([PROMPT] * len(ids), ids, ["locks"] * len(ids), **more))
        return found[-1]

    try:
        return asyncio.run(go())
    finally:
        engine.unload()


def test_judge_is_shown_spec_prompt_and_answer_and_never_the_reasoning(tokenizer):
    texts = [
        WELL,
        "Just an answer.<|im_end|>",
        f"<think>\n{SECRET}",
        f"<think>a</think><think>{SECRET}</think>x",
        f"{SECRET}</think>answer",
    ]
    with FakeRuleJudge(lambda answer: 5) as server:
        rewards = ask(tokenizer, server, texts)
        assert rewards == [1.0, 1.0, 0.0, 0.0, 0.0]
        assert server.answers.count("A locksmith can help.") == server.answers.count("Just an answer.") == 1
        assert server.calls == 2
        for body in server.bodies:
            sent = json.dumps(body)
            assert "secretly think" not in sent
            assert "reasoning_quality" not in sent
            assert "Policy of locks: [LO-R1] be good." in sent
            assert "Tell me about a padlock." in sent
        asked = next(body for body in server.bodies if "locksmith" in json.dumps(body))
        assert asked["messages"] == judge_messages(RENDERED["locks"], PROMPT, "A locksmith can help.")


def test_abstention_is_no_reward_and_scores_follow_the_builds_aggregation(tokenizer):
    with FakeRuleJudge(lambda answer: 0 if "locksmith" in answer else 3) as server:
        logged: dict = {}
        assert ask(tokenizer, server, [WELL, "Plain.<|im_end|>"], logged=logged) == [None, 0.5]
        assert logged["judge/no_verdict"] == [0.5]
        assert logged["judge/compliance"] == [0.5]
        assert ask(tokenizer, server, ["Plain.<|im_end|>"], mode="product") == [0.25]


def test_run_stops_when_too_much_has_no_verdict_or_no_answer(tokenizer):
    with FakeRuleJudge(lambda answer: 0) as server, pytest.raises(TrainError, match=r"declined.*says nothing"):
        ask(tokenizer, server, [WELL] * 8, repeat=3)
    with FakeRuleJudge(lambda answer: 5) as server, pytest.raises(TrainError) as caught:
        ask(tokenizer, server, [f"<think>{SECRET}"] * 8, repeat=3)
    assert "--max_completion_length" in caught.value.remedy


def test_category_without_spec_is_refused(tokenizer):
    with FakeRuleJudge(lambda answer: 5) as server:
        judge = Judge(engine="openai", base_url=server.url, model="fake", k=1)
        reward = JudgeReward(make_engine(judge), judge, {}, choose(tokenizer), tokenizer.decode)
        with pytest.raises(TrainError, match="no rendered spec for category 'locks'"):
            asyncio.run(reward([PROMPT], [tokenizer(WELL)["input_ids"]], ["locks"]))


def test_completion_without_a_verdict_carries_no_reward_even_beside_the_heuristic():
    import torch

    from specdistill.train.grpo import _judged

    class Base:
        """Stands where TRL's trainer gathers the rewards of judge and heuristic."""

        def _calculate_rewards(self):
            return torch.tensor([[torch.nan, 1.0], [0.5, 1.0], [0.0, 0.0]])

    found = _judged(Base)()._calculate_rewards()
    assert torch.isnan(found).tolist() == [[True, True], [False, False], [False, False]]
    assert found[1:].tolist() == [[0.5, 1.0], [0.0, 0.0]]


def test_heuristics(tokenizer):
    decode = tokenizer.decode
    form = format_reward(choose(tokenizer), decode)
    ids = [tokenizer(text)["input_ids"] for text in (WELL, "Plain.<|im_end|>", "<think>cut", EMPTY)]
    assert form(completion_ids=ids) == [1.0, 0.5, 0.0, 0.5]
    assert heuristic("math:sqrt", choose(tokenizer), decode)(4) == 2
    for wrong in ("nothing", "math:nothing", "math:pi"):
        with pytest.raises(UsageError):
            heuristic(wrong, choose(tokenizer), decode)


def test_judge_comes_from_the_set_or_a_file(tmp_path):
    section = {"engine": "openai", "base_url": "http://h/v1", "model": "m", "k": 3, "min_votes": 3}
    published = open_set(str(write_set(tmp_path / "set", rows()[:20], judge=section)))
    assert judge_for(published, RewardArguments()).k == 3
    found = judge_for(published, RewardArguments(judge_k=1, judge_model="other", judge_base_url="http://x/v1"))
    assert (found.k, found.model, found.base_url, found.votes_needed) == (1, "other", "http://x/v1", 1)
    (tmp_path / "judge.yaml").write_text("judge: {engine: vllm, model: embedded, threshold: 2}\n")
    with pytest.raises(RecipeError, match=r"judge\.threshold"):
        judge_for(published, RewardArguments(judge=str(tmp_path / "judge.yaml")))
    (tmp_path / "judge.yaml").write_text("engine: vllm\nmodel: embedded\n")
    assert judge_for(published, RewardArguments(judge=str(tmp_path / "judge.yaml"))).model == "embedded"
    bare = open_set(str(write_set(tmp_path / "bare", rows()[:20])))
    with pytest.raises(UsageError, match="--judge FILE"):
        judge_for(bare, RewardArguments())
