"""Reading a recipe: strict YAML, errors with file, line and key, and the nearest known key."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from specdistill.errors import RecipeError
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.safe_yaml import MAX_DEPTH, MAX_NODES, bounded, read_yaml
from specdistill.schemas.secrets import secret_places

MAX_BYTES = 1_000_000
"""A recipe is small; a bigger document is a mistake."""


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        overrides: `key.sub=value` pairs, values in YAML, applied over the file.

    Raises:
        RecipeError: with file, line and key.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise RecipeError(
            f"The recipe cannot be read ({exc.strerror}).", "Give the path of a YAML file.", file=path
        ) from exc
    if len(data) > MAX_BYTES:
        raise RecipeError("The recipe is over 1 MB.", "A recipe names data; it does not hold it.", file=path)
    return parse_recipe(decode(data, path), overrides, path)


def decode(data: bytes, path: Path | None) -> str:
    """UTF-8 text."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise RecipeError(f"The recipe is not UTF-8 text ({exc.reason}).", "Save it as UTF-8.", file=path) from exc


def parse_recipe(text: str, overrides: Sequence[str] = (), path: Path | None = None) -> Recipe:
    """A recipe from YAML text; see `load_recipe`."""
    node = compose(text, path)
    lines: dict[tuple[Any, ...], int] = {}
    values = construct(node, (), lines, path)
    if not isinstance(values, dict):
        raise RecipeError("A recipe is a mapping of keys to values.", "Start with `name: …`.", file=path, line=1)
    for override in overrides:
        apply_override(values, override)
    refuse_secrets(values, lines, path)
    try:
        return Recipe.model_validate(values)
    except ValidationError as exc:
        raise validation_error(exc, lines, path) from exc


def refuse_secrets(values: Any, lines: dict[tuple[Any, ...], int], path: Path | None) -> None:
    """A recipe is copied into the run, the manifest and the release: no key, token or password may be in it.

    Raises:
        RecipeError: naming the place; what is there is not quoted.
    """
    for place, what in secret_places(values):
        line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
        raise RecipeError(
            f"A recipe is published with its data, and {what}.",
            "Put the key into an environment variable and name it with `api_key_env`; tokens for the hub go into "
            "HF_TOKEN or `hf auth login`.",
            file=path,
            line=line,
            key=dotted(place),
        )


def compose(text: str, path: Path | None) -> yaml.Node:
    """The YAML tree, with lines."""
    try:
        bounded(text, aliases=True)  # `construct` counts what they unfold to
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        mark = getattr(exc, "problem_mark", None)
        problem = getattr(exc, "problem", None) or str(exc) or type(exc).__name__
        raise RecipeError(
            f"This is not valid YAML: {problem}.",
            "Mend the line.",
            file=path,
            line=mark.line + 1 if mark else None,
        ) from exc
    if node is None:
        raise RecipeError("The recipe is empty.", "Start with `name: …`.", file=path, line=1)
    return node


def construct(
    node: yaml.Node,
    place: tuple[Any, ...],
    lines: dict[tuple[Any, ...], int],
    path: Path | None,
    depth: int = 0,
) -> Any:
    """Plain values of a YAML tree; fills `lines` with every key's line. Doubled keys and deep trees are refused."""
    lines[place] = node.start_mark.line + 1
    if depth > MAX_DEPTH or len(lines) > MAX_NODES:
        raise RecipeError("The recipe is nested too deeply or too large.", "Simplify it.", file=path, line=lines[place])
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise RecipeError("A key must be a plain word.", "Mend the line.", file=path, line=line)
            key = scalar(key_node, path)
            if key in result:
                raise RecipeError(
                    f"The key '{key}' is there twice.",
                    "Remove one of them.",
                    file=path,
                    line=line,
                    key=dotted(place),
                )
            result[key] = construct(value_node, (*place, key), lines, path, depth + 1)
            lines[(*place, key)] = line
        return result
    if isinstance(node, yaml.SequenceNode):
        return [construct(item, (*place, i), lines, path, depth + 1) for i, item in enumerate(node.value)]
    return scalar(node, path)


def scalar(node: yaml.Node, path: Path | None) -> Any:
    """The value of a scalar by YAML's safe rules."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError, KeyError, TypeError, AttributeError) as exc:
        # The last three are how PyYAML takes `!!bool perhaps` and `!!timestamp soon`.
        problem = getattr(exc, "problem", None) or str(exc)
        raise RecipeError(
            f"This value cannot be read: {problem}.",
            "Mend the line.",
            file=path,
            line=node.start_mark.line + 1,
        ) from exc
    finally:
        loader.dispose()


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one `key.sub=value` in place. A part that is a number is an index into a list.

    Raises:
        RecipeError: not of that form, or the path does not exist in a list.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"'{override}' is not KEY=VALUE.", "Write e.g. --set judge.threshold=0.7.")
    try:
        value = read_yaml(text)
    except yaml.YAMLError as exc:
        raise RecipeError(f"The value of '{override}' is not valid YAML.", "Quote it.") from exc
    target: Any = values
    for part in parts[:-1]:
        target = step_into(target, part, override)
    last = parts[-1]
    if isinstance(target, list):
        if not last.isdigit() or int(last) >= len(target):
            raise RecipeError(f"'{override}': there is no entry {last}.", f"The list has {len(target)} entries.")
        target[int(last)] = value
    else:
        target[last] = value


def step_into(target: Any, part: str, override: str) -> Any:
    """The mapping or list one step down, made where it is missing."""
    if isinstance(target, list) and part.isdigit() and int(part) < len(target):
        return target[int(part)]
    if isinstance(target, dict):
        if not isinstance(target.get(part), dict | list):
            target[part] = {}
        return target[part]
    raise RecipeError(f"'{override}': there is no '{part}' to set a value in.", "Check the key.")


def validation_error(exc: ValidationError, lines: dict[tuple[Any, ...], int], path: Path | None) -> RecipeError:
    """The first thing pydantic found, in our words; further ones are counted."""
    errors = exc.errors()
    first = errors[0]
    place = tuple(part for part in first["loc"] if (part in known_parts(lines)) or isinstance(part, int))
    place = tuple(first["loc"]) if first["type"] in ("extra_forbidden", "missing") else place
    line = next((lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in lines), None)
    more = f" ({len(errors) - 1} further problems.)" if len(errors) > 1 else ""
    key = dotted(place)
    if first["type"] == "extra_forbidden":
        known = keys_at(place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known keys here: {', '.join(known)}."
        return RecipeError(f"Unknown key '{place[-1]}'.{more}", hint, file=path, line=line, key=key)
    if first["type"] == "missing":
        return RecipeError(f"The key '{place[-1]}' is missing.{more}", "Add it.", file=path, line=line, key=key)
    message = first["msg"].removeprefix("Value error, ")
    return RecipeError(
        f"{message[:1].upper()}{message[1:]}.{more}",
        "Name an environment variable." if "api_key_env" in first["loc"] else f"Found: {first['input']!r:.80}",
        file=path,
        line=line,
        key=key,
    )


def known_parts(lines: dict[tuple[Any, ...], int]) -> set[Any]:
    """Every key of the document."""
    return {part for place in lines for part in place}


def keys_at(place: tuple[Any, ...]) -> list[str]:
    """Keys the recipe knows at a place."""
    model: Any = Recipe
    for part in place:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model is not None else None
        model = model_in(field.annotation) if field else None
    return sorted(model.model_fields) if model is not None else []


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class inside an annotation such as `list[Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in getattr(annotation, "__args__", ()) if (found := model_in(part))), None)


def dotted(place: tuple[Any, ...]) -> str | None:
    """`('prompts', 0, 'path')` as `prompts.0.path`."""
    return ".".join(str(part) for part in place) or None


def dump_recipe(recipe: Recipe) -> str:
    """A recipe as YAML, every value resolved, defaults included."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
