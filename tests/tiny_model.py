"""A real model of 0.4 million weights with a small byte-level BPE, so that every trainer runs in seconds.

Also chat templates of the main families, written for these tests: each shows one way of treating a reasoning.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|begin|>", "<|eot|>", "<|user|>",
    "<|assistant|>", "<|end_of_sentence|>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>",
    "<|head|>", "<|/head|>",
]  # fmt: skip

_TURNS = "{% for m in messages %}"
CHATML = (
    _TURNS + "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""No place for a reasoning: a `reasoning_content` key is dropped without a word; inline tags survive."""

QWEN3 = (
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    + _TURNS
    + "{% if m['role'] == 'assistant' %}"
    "{% set thought = m['reasoning_content'] if m['reasoning_content'] is string else '' %}"
    "{% set said = m['content'] %}"
    "{% if not thought and '</think>' in said %}"
    "{% set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last %}{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{{ said + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Thoughts of the last turn only, from `reasoning_content` or from inline tags."""

QWEN3_PREFILLED = QWEN3.replace("{% if not thought and '</think>' in said %}", "{% if false %}").replace(
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}",
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}",
)
"""The generation prompt opens the thought, and inline tags are taken for an answer behind an empty thought."""

R1 = (
    "{{ bos_token }}" + _TURNS + "{% if m['role'] == 'user' %}{{ '<|user|>' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{% set said = m['content'].split('</think>')[-1] %}"
    "{{ '<|assistant|>' + said + '<|end_of_sentence|>' }}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
"""Strips every thought, however it is passed, and opens one in the generation prompt."""

GPT_OSS = (
    _TURNS + "{% if m['role'] == 'assistant' %}{% if loop.last and 'thinking' in m %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m['thinking'] + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m['content'] + ('<|return|>' if loop.last else '<|end|>') }}"
    "{% else %}{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
"""Channels: a `thinking` key; inline tags would be shown to the user in the final channel."""

LLAMA3 = (
    "{{ bos_token }}" + _TURNS + "{{ '<|head|>' + m['role'] + '<|/head|>\n\n' + m['content'] | trim + '<|eot|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"
)
"""As ChatML with a beginning-of-text token, and white space trimmed."""

TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>"),
    "qwen3": (QWEN3, "<|im_end|>"),
    "qwen3_prefilled": (QWEN3_PREFILLED, "<|im_end|>"),
    "r1": (R1, "<|end_of_sentence|>"),
    "gpt_oss": (GPT_OSS, "<|return|>"),
    "llama3": (LLAMA3, "<|eot|>"),
}
"""Name to (template, end-of-turn token)."""


def tiny_tokenizer(corpus: list[str], template: str = "chatml", vocabulary: int = 900) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on the corpus, with one of TEMPLATES."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(corpus, learner)
    text, end = TEMPLATES[template]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|begin|>",
        eos_token=end,
        pad_token="<|endoftext|>",
        model_max_length=2048,
    )
    tokenizer.chat_template = text
    return tokenizer


def tiny_model(folder: Path, corpus: list[str], template: str = "chatml", seed: int = 0) -> Path:
    """A checkpoint folder that transformers and TRL load like any other."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(corpus, template)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
