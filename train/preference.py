"""Trainers on judged completions: DPO and reward models on pairs, KTO on single labelled ones."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from specdistill.train.arguments import Arguments
from specdistill.train.trainers import with_lineage

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

_TRAINERS = {"dpo": "DPOTrainer", "reward": "RewardTrainer", "kto": "KTOTrainer"}


def build(
    asked: Arguments,
    lineage: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    train: datasets.Dataset,
    test: datasets.Dataset | None,
    model: Any,
) -> Any:
    """A TRL DPOTrainer, RewardTrainer (with the judge's margins) or KTOTrainer.

    Args:
        model: a folder or hub id, or a model object.
    """
    import trl

    # A reference model is loaded by name, which a model object does not have.
    reference = {} if isinstance(model, str) or asked.method == "reward" else {"ref_model": copy.deepcopy(model)}
    return with_lineage(getattr(trl, _TRAINERS[asked.method]), lineage)(
        model=model,
        args=asked.training,
        train_dataset=train,
        eval_dataset=test,
        processing_class=tokenizer,
        quantization_config=trl.get_quantization_config(asked.model),
        peft_config=trl.get_peft_config(asked.model),
        **reference,
    )
