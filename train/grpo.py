"""Reinforcement learning with the build's judge as the reward, and a heuristic beside it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from specdistill.errors import UsageError
from specdistill.train.arguments import Arguments, RewardArguments
from specdistill.train.data import PublishedSet
from specdistill.train.judge_config import judge_for
from specdistill.train.judge_reward import JudgeReward
from specdistill.train.specfacts import SpecText
from specdistill.train.template import Convention, split_completion
from specdistill.train.trainers import with_lineage

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

    from specdistill.builders.engines.base import Engine
    from specdistill.schemas.recipe import Judge


def format_reward(convention: Convention, decode: Callable[[Sequence[int]], str]) -> Callable[..., list[float]]:
    """1 for a completion with a reasoning and an answer, 0.5 for an answer alone, 0 where no answer is found.

    An empty thought is no reasoning: else it would be the shortest way to the whole reward.
    """

    def form(completion_ids: Sequence[Sequence[int]], **others: Any) -> list[float]:
        split = [split_completion(convention, decode(ids)) for ids in completion_ids]
        return [0.0 if found is None else 1.0 if found[0] else 0.5 for found in split]

    form.__name__ = "format"
    return form


def heuristic(name: str, convention: Convention, decode: Callable[[Sequence[int]], str]) -> Callable[..., Any]:
    """The heuristic reward: `format`, or `package.module:function` with TRL's signature.

    Raises:
        UsageError: there is no such function.
    """
    if name == "format":
        return format_reward(convention, decode)
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as exc:
        raise UsageError(
            f"There is no reward function '{name}': {exc}.", "Name `format`, or package.module:function."
        ) from exc
    if not callable(found):
        raise UsageError(f"'{name}' is not a function.", "Name package.module:function.")
    return found  # type: ignore[no-any-return]


def build(
    asked: Arguments,
    lineage: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    train: datasets.Dataset,
    test: datasets.Dataset | None,
    model: Any,
    *,
    published: PublishedSet,
    spec: SpecText,
    convention: Convention,
    engine: Engine | None = None,
) -> Any:
    """A TRL GRPOTrainer whose reward is the judge.

    Args:
        model: a folder or hub id, or a model object.
        engine: a loaded engine for the judge; None makes and loads the one that is configured.

    Raises:
        UsageError: no judge is known, or the weights do not fit the rewards.
        EngineError: the judge cannot be started.
    """
    import trl

    from specdistill.builders.engines.factory import make_engine
    from specdistill.builders.engines.foreign_code import foreign_code

    options = asked.reward or RewardArguments()
    judge = judge_for(published, options)

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    # The judge's section may come with the dataset.
    with foreign_code(bool(getattr(asked.training, "trust_remote_code", False)), judge):
        engine = make_engine(judge) if engine is None else engine
    engine.load()
    rewards: list[Any] = [
        JudgeReward(
            engine,
            judge,
            spec.rendered,
            convention,
            decode,
            mode=options.reward,
            max_failures=options.max_judge_failures,
            max_answerless=options.max_answerless,
        )
    ]
    weights = [1.0]
    if options.heuristic_weight:
        rewards.append(heuristic(options.heuristic, convention, decode))
        weights.append(options.heuristic_weight)
    args = asked.training
    if args.reward_weights is None:
        args.reward_weights = weights
    args.chat_template_kwargs = {**(args.chat_template_kwargs or {}), **convention.kwargs}
    lineage["reward"] = _record(judge, options, args.reward_weights)
    try:
        trainer = _judged(with_lineage(trl.GRPOTrainer, lineage))(
            model=model,
            reward_funcs=rewards,
            args=args,
            train_dataset=train,
            eval_dataset=test,
            processing_class=tokenizer,
            quantization_config=trl.get_quantization_config(asked.model),
            peft_config=trl.get_peft_config(asked.model),
        )
    except BaseException:
        engine.unload()
        raise
    trainer.judge_engine = engine
    return trainer


def _judged(trainer_class: type) -> type:
    """GRPO where a completion without a verdict carries no reward at all, and a CPU samples at full speed."""

    class Judged(trainer_class):  # type: ignore[valid-type, misc]
        """TRL's GRPOTrainer."""

        def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
            """TRL sums what rewards there are, which would make an abstention a zero beside the heuristic's reward."""
            import torch

            rewards = super()._calculate_rewards(*args, **kwargs)
            rewards[torch.isnan(rewards[:, 0])] = torch.nan
            return rewards

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            """Under autocast every token casts all weights again, unless an outer context keeps what was cast."""
            import torch

            fast: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
            if self.accelerator.device.type == "cpu" and self.args.bf16:
                fast = torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=True)
            with fast:
                return super()._generate_single_turn(*args, **kwargs)

    Judged.__name__ = Judged.__qualname__ = trainer_class.__name__
    return Judged


def _record(judge: Judge, options: RewardArguments, weights: Sequence[float]) -> dict[str, Any]:
    """What the reward was, for the lineage. No address: where a judge runs does not decide what it says."""
    from specdistill.builders.judging import RUBRIC_VERSION
    from specdistill.builders.keys import judge_digest

    return {
        "judge": judge.model,
        "judge_digest": judge_digest(judge),
        "rubric_version": RUBRIC_VERSION,
        "k": judge.k,
        "aggregate": judge.aggregate,
        "mode": options.reward,
        "heuristic": options.heuristic if options.heuristic_weight else None,
        "weights": list(weights),
    }
