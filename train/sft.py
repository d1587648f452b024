"""Supervised fine-tuning on the reasoning and the answer; the prompt carries no loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specdistill.train.arguments import Arguments
from specdistill.train.trainers import with_lineage

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


def build(
    asked: Arguments,
    lineage: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    train: datasets.Dataset,
    test: datasets.Dataset | None,
    model: Any,
) -> Any:
    """A TRL SFTTrainer over prompt-completion rows.

    Args:
        model: a folder or hub id, or a model object.
    """
    import trl

    return with_lineage(trl.SFTTrainer, lineage)(
        model=model,
        args=asked.training,
        train_dataset=train,
        eval_dataset=test,
        processing_class=tokenizer,
        quantization_config=trl.get_quantization_config(asked.model),
        peft_config=trl.get_peft_config(asked.model),
    )
