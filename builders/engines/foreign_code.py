"""Which engine options can have code run that is not the engine's own, and who may allow it.

vLLM and transformers import classes, load plugin files and fetch kernels by names that options hold, at any depth
(`structured_outputs_config.reasoning_parser_plugin`, `kv_transfer_config.kv_connector_module_path`,
`compilation_config.backend`, `attn_implementation`, …), and every version has new ones. So no list of the bad ones is
kept: only text can name code, and text is let through where it is known to name none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from specdistill.errors import RecipeError
from specdistill.schemas import recipe

SWITCHES = {"trust_remote_code": True, "use_kernels": True, "allow_all_kernels": True, "weights_only": False}
"""Options, at any depth, that allow foreign code by being on or, with False, by being off (unpickling weights)."""

ONE_OF = {
    "attn_implementation": ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"),
    "distributed_executor_backend": ("mp", "ray", "uni", "external_launcher"),
}
"""Options whose other values name code: a kernel on the Hub, a class."""

_PLAIN = """
    all2all_backend attention_backend attention_config.backend cache_dir chat_template_kwargs code_revision
    compilation_config.cudagraph_mode compilation_config.custom_ops compilation_config.mode config_format convert
    data_parallel_backend device device_ids device_map download_dir dtype generation_config gguf_file hf_config_path
    hf_overrides.rope_parameters hf_overrides.rope_scaling ignore_patterns kv_cache_dtype kv_offloading_backend
    linear_backend load_format logprobs_mode lora_dtype mamba_cache_dtype mamba_ssm_cache_dtype max_memory model_impl
    moe_backend offload_backend offload_folder performance_mode prefix_caching_hash_algo quantization
    quantization_config.bnb_4bit_compute_dtype quantization_config.bnb_4bit_quant_storage
    quantization_config.bnb_4bit_quant_type quantization_config.quant_method reasoning_parser revision runner
    safetensors_load_strategy sampling.bad_words sampling.cache_implementation sampling.stop sampling.stop_strings
    sampling.structured_outputs scheduling_policy served_model_name speculative_config.method
    structured_outputs_config.backend structured_outputs_config.reasoning_parser subfolder tokenizer tokenizer_mode
    tokenizer_revision torch_dtype tp_plan variant
"""
PLAIN = frozenset(_PLAIN.split())
"""Options whose text, and all text under them, is a word that the engine looks up among its own, or data."""

_allowed: ContextVar[bool] = ContextVar("foreign_code_allowed", default=False)


@contextmanager
def foreign_code(allowed: bool, *configs: recipe.Engine) -> Iterator[None]:
    """Until the end of a `with`, engines may be made whose options run foreign code, or may not.

    It holds for all that is called within, so that no function on the way to an engine has to hand it on, and one
    that forgets it makes none.

    Args:
        configs: engines that will be made, to hear of them before anything is done.

    Raises:
        RecipeError: one of them could run foreign code, and it is not allowed.
    """
    before = _allowed.set(allowed)
    try:
        check_foreign_code(*configs)
        yield
    finally:
        _allowed.reset(before)


def check_foreign_code(*configs: recipe.Engine | None) -> None:
    """`refuse_foreign_code`, but where it is allowed."""
    if not _allowed.get():
        refuse_foreign_code(*configs)


def refuse_foreign_code(*configs: recipe.Engine | None) -> None:
    """A recipe is data, perhaps somebody else's: it cannot ask for code to be run.

    Raises:
        RecipeError: an option could run it; the command line has a flag for those who have looked at the code.
    """
    for config in configs:
        # What goes to a server with a request is run there, not here.
        if config is None or config.engine == "openai" or (found := foreign_option(config.options)) is None:
            continue
        raise RecipeError(
            f"The options for model '{config.model}' could run code that is not ours: {found}.",
            "Leave the option out, or read what it names first; `build` and `prompts grow` then take "
            "--trust-remote-code.",
            key=f"options.{found}",
        )


def foreign_option(options: Mapping[str, Any]) -> str | None:
    """Dotted path of the first option that could have foreign code run, or None."""
    return next((path for path, name, value in leaves(options) if could_run(path, name, value)), None)


def leaves(value: Any, path: str = "", name: str = "") -> Iterator[tuple[str, str, Any]]:
    """(dotted path, last key, value) of all that is no mapping or list; items of a list have the path of the list."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key), str(key))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from leaves(item, path, name)
    else:
        yield path, name, value


def could_run(path: str, name: str, value: Any) -> bool:
    """Whether one option could have foreign code run."""
    if name in SWITCHES:
        return value is not None and bool(value) == SWITCHES[name]
    if value is None or isinstance(value, bool | int | float):
        return False
    if path in ONE_OF:
        return value not in ONE_OF[path]
    return not isinstance(value, str) or not any(path == plain or path.startswith(f"{plain}.") for plain in PLAIN)
