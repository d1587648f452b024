"""Our arguments beside TRL's, and the defaults we change, each only where the user set nothing.

Nothing of TRL is declared again: `TrlParser` reads our dataclass, the method's own config and `ModelConfig` from one
command line and one YAML file. Our defaults lie under the YAML file, which lies under the command line.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from specdistill.errors import MissingExtra, UsageError

METHODS = ("sft", "dpo", "reward", "kto", "grpo")
_CONFIGS = {
    "sft": "SFTConfig",
    "dpo": "DPOConfig",
    "reward": "RewardConfig",
    "kto": "KTOConfig",
    "grpo": "GRPOConfig",
}


def _arg(help: str, default: Any = None, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, **more})


@dataclass
class DataArguments:
    """What is trained on, and how strictly it is checked. The same for every method."""

    dataset: str | None = _arg("Folder made by `publish --to-dir`, or org/name@revision.")
    dataset_config: str | None = _arg("Published config; default: the method's own. Short: --config NAME.")
    model: str | None = _arg("`embedded`, a folder, or a hub id. Same as --model_name_or_path.")
    train_split: str = _arg("Split to train on.", "train")
    eval_split: str = _arg("Split to evaluate on, when --eval_strategy is not `no`.", "test")
    limit: int | None = _arg("Only this many rows, drawn with --seed.")
    mixture: str | None = _arg("Capabilities rows to mix in: a folder, a file, or org/name@revision.")
    mixture_config: str | None = _arg("Config of the mixture dataset.")
    mixture_split: str = _arg("Split of the mixture dataset.", "train")
    mixture_ratio: float = _arg("Share of the mixed training set that is capabilities rows, 0 to 1.", 0.25)
    convention: str = _arg(
        "Where the reasoning goes in the chat template; `auto` probes.",
        "auto",
        choices=["auto", "reasoning_content", "thinking", "reasoning", "inline", "text"],
    )
    max_truncated: float = _arg("Largest share of rows that may be cut or dropped for their length.", 0.02)
    inspect_rows: int = _arg("Rows whose tokens and loss mask are checked before the first step.", 64)
    force: bool = _arg("Train although the check before the first step fails; recorded in the lineage.", False)


@dataclass
class RewardArguments:
    """Where the reward of GRPO comes from."""

    judge: str | None = _arg("YAML file with a judge section (a recipe will do); default: the dataset's own judge.")
    judge_base_url: str | None = _arg("Address of the judge's server, up to and including /v1.")
    judge_model: str | None = _arg("Model of the judge, where it differs from the dataset's.")
    judge_k: int | None = _arg("Judge samples a completion.")
    reward: str = _arg(
        "`score`: the build's weighted score; `product`: helpfulness x compliance.",
        "score",
        choices=["score", "product"],
    )
    heuristic: str = _arg("Reward beside the judge's: `format`, or package.module:function.", "format")
    heuristic_weight: float = _arg("Its weight beside the judge's weight of 1; 0 leaves it out.", 0.1)
    max_judge_failures: float = _arg("Largest share of completions without a verdict before the run stops.", 0.5)
    max_answerless: float = _arg("Largest share of completions without an answer before the run stops.", 0.95)


@dataclass
class Arguments:
    """Everything one training run is asked for.

    Attributes:
        data: ours.
        training: TRL's config of the method.
        model: TRL's ModelConfig.
        reward: ours, for GRPO.
    """

    method: str
    data: DataArguments
    training: Any
    model: Any
    reward: RewardArguments | None = None


def parse(method: str, argv: Sequence[str]) -> Arguments:
    """Read a command line and the YAML file it names.

    `--config` means two things to two worlds: a name is the published config, a .yaml file is TRL's argument file.

    Raises:
        UsageError: an unknown or contradictory argument, a YAML file that cannot be read, a token on the command line.
        MissingExtra: TRL is not installed.
    """
    parser = make_parser(method)
    try:
        parsed = parser.parse_args_and_config(_split_config(argv))
    except UsageError:
        raise
    except (ValueError, TypeError, OSError) as exc:
        raise UsageError(
            f"The arguments cannot be used: {exc}", f"See `specdistill train {method} --help-all`."
        ) from exc
    except Exception as exc:  # yaml errors share no base with the builtins
        if type(exc).__module__.split(".")[0] != "yaml":
            raise
        raise UsageError(f"The --config file is not valid YAML: {exc}", "Correct it at the line named.") from exc
    found = Arguments(method, *parsed[:3], *parsed[3:])
    if not found.data.dataset:
        raise UsageError("No dataset is named.", "Add --dataset DIR or --dataset org/name@revision.")
    if found.data.model:
        found.model.model_name_or_path = found.data.model
    if not found.model.model_name_or_path:
        raise UsageError("No model is named.", "Add --model embedded, a folder, or a hub id.")
    if getattr(found.training, "hub_token", None):
        raise UsageError(
            "A hub token is among the arguments, which are saved with every checkpoint.",
            "Leave --hub_token out and set HF_TOKEN in the environment.",
        )
    if found.data.limit is not None and found.data.limit < 1:
        raise UsageError(f"--limit is {found.data.limit}.", "Give at least 1, or leave it out to train on every row.")
    if not 0 <= found.data.mixture_ratio < 1:
        raise UsageError(
            f"--mixture_ratio is {found.data.mixture_ratio}.", "Give a share from 0 up to, not including, 1."
        )
    return found


def make_parser(method: str) -> Any:
    """A TrlParser over our arguments, the method's config and ModelConfig, with our defaults set.

    Raises:
        MissingExtra: TRL is not installed.
    """
    try:
        import trl
    except ImportError as exc:
        raise MissingExtra("Training", "train") from exc

    class Parser(trl.TrlParser):
        """TRL's parser with errors of ours: the fix instead of four hundred lines of usage."""

        def error(self, message: str) -> NoReturn:
            raise UsageError(f"{message[:1].upper()}{message[1:]}.", f"See `specdistill train {method} --help-all`.")

        def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
            known, rest = super().parse_known_args(args, namespace)
            if rest:
                flags = [flag for action in self._actions for flag in action.option_strings]
                near = difflib.get_close_matches(str(rest[0]).split("=")[0], flags, n=1)
                raise UsageError(
                    f"Unknown argument '{rest[0]}'.",
                    f"Did you mean {near[0]}?" if near else f"See `specdistill train {method} --help-all`.",
                )
            return known, rest

    kinds: list[Any] = [DataArguments, getattr(trl, _CONFIGS[method]), trl.ModelConfig]
    if method == "grpo":
        kinds.append(RewardArguments)
    parser = Parser(kinds, prog=f"specdistill train {method}", allow_abbrev=False)
    parser.set_defaults_with_config(**our_defaults(method))
    return parser


def our_defaults(method: str) -> dict[str, Any]:
    """Defaults that differ from TRL's, with the reason for each.

    On CPU: bf16 stays TRL's default, since autocast over fp32 weights is twice as fast as fp32; gradient checkpointing
    only costs time at sizes that are trained on a CPU.
    """
    import torch

    defaults: dict[str, Any] = {
        "output_dir": f"runs/train-{method}",
        "logging_steps": 1,  # curves of short runs are otherwise two points
        "report_to": [name for name in ("tensorboard", "trackio") if importlib.util.find_spec(name)] or "none",
        "hub_strategy": "end",
        "save_only_model": False,
    }
    if method == "grpo":
        defaults["remove_unused_columns"] = False  # the reward reads category and id
    if method == "reward":
        defaults["lora_task_type"] = "SEQ_CLS"
    if not torch.cuda.is_available():
        defaults |= {"use_cpu": True, "gradient_checkpointing": False, "dataloader_pin_memory": False}
    return defaults


def option_help(*kinds: type) -> list[tuple[str, str, str]]:
    """(flag, default, help) of our own dataclasses, for the short help."""
    rows = []
    for kind in kinds:
        for one in fields(kind):
            default = "" if one.default is None else str(one.default)
            rows.append((f"--{one.name}", default, str(one.metadata["help"])))
    return rows


def _split_config(argv: Sequence[str]) -> list[str]:
    """`--config NAME` becomes `--dataset_config NAME` unless NAME is a YAML file; `--config=X` is allowed too."""
    flat: list[str] = []
    for word in argv:
        flat += word.split("=", 1) if word.startswith("--config=") else [word]
    for index, word in enumerate(flat[:-1]):
        if word == "--config":
            value = flat[index + 1]
            if Path(value).suffix.lower() not in (".yaml", ".yml"):
                flat[index] = "--dataset_config"
            elif not Path(value).is_file():
                raise UsageError(f"There is no file '{value}'.", "Name a YAML file of training arguments.")
    return flat
