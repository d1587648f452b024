"""Which model it is that answers (a digest of what is on disk, or a name and revision), and how it is sampled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from specdistill.builders.engines.embedded import EMBEDDED, resolve_model
from specdistill.errors import TrainError
from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Engine as EngineConfig
from specdistill.schemas.verify import file_digest
from specdistill.train.lineage import FILE as LINEAGE

_DECIDES = ("*.safetensors", "*.bin", "config.json", "generation_config.json", "tokenizer*", "chat_template.jinja",
            "adapter_config.json", "special_tokens_map.json")  # fmt: skip


def base_name(model: str) -> str:
    """A model's name without the path it lies under."""
    return Path(model).resolve().name if os.path.isdir(model) else model


def model_record(config: EngineConfig) -> dict[str, Any]:
    """What `result.json` says of the model: name, engine, key, file digests, and the lineage of its training.

    Raises:
        TrainError: the lineage beside the weights cannot be read.
    """
    found: dict[str, Any] = {"name": base_name(config.model), "engine": config.engine, "lineage": None, "files": {}}
    folder = Path(resolve_model(config.model)) if config.engine != "openai" else Path(config.model)
    if config.engine != "openai" and folder.is_dir():
        paths = sorted({path for pattern in _DECIDES for path in folder.glob(pattern)})
        found["files"] = {path.name: file_digest(path) for path in paths}
        if (folder / LINEAGE).is_file() and config.model != EMBEDDED:
            found["lineage"] = _lineage(folder / LINEAGE)
        found["key"] = digest("weights", found["files"])
    else:
        found["revision"] = config.options.get("revision")
        found["key"] = digest("named", config.engine, config.model, found["revision"])
    return found


def sampling_of(config: EngineConfig) -> dict[str, Any]:
    """All of an engine's configuration that decides its text, JSON-able. Where it runs and how fast does not."""
    from specdistill.builders.engines.base import RUNTIME_OPTIONS

    fields = config.model_dump(include={"temperature", "top_p", "max_tokens", "seed", "reasoning"})
    return {**fields, "options": {key: one for key, one in config.options.items() if key not in RUNTIME_OPTIONS}}


def _lineage(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as exc:
        raise TrainError(f"The lineage of the model cannot be read: {exc}.", "Train it again.", file=path) from exc
