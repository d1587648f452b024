"""What changed between two releases, in sentences, from their manifests alone."""

from __future__ import annotations

from specdistill.schemas.manifest import Manifest


def changes(old: Manifest, new: Manifest) -> list[str]:
    """Differences that a reader of the card wants to know."""
    found = []
    if old.spec.digest != new.spec.digest:
        versions = (
            f"version {old.spec.version} to {new.spec.version}"
            if old.spec.version != new.spec.version
            else f"its text; its version is still {new.spec.version}"
        )
        found.append(f"The policy changed: {versions}.")
    # A config without rows is not in the release.
    before, after = ({name for name, splits in one.counts.items() if sum(splits.values())} for one in (old, new))
    found += [f"Config {config} is new." for config in sorted(after - before)]
    found += [f"Config {config} is gone." for config in sorted(before - after)]
    for config in sorted(before & after):
        was, now = (sum(manifest.counts[config].values()) for manifest in (old, new))
        if was != now:
            found.append(f"Config {config} has {now:,} rows; it had {was:,}.")
        if old.schemas.get(config) != new.schemas.get(config):
            found.append(f"Schema of {config}: {old.schemas.get(config)} to {new.schemas.get(config)}.")
    for role in ("generator", "judge"):
        models = [{model.model for model in manifest.models if model.role == role} for manifest in (old, new)]
        if models[0] != models[1]:
            found.append(f"The {role} is {', '.join(sorted(models[1]))}; it was {', '.join(sorted(models[0]))}.")
    limits = [manifest.recipe.get("judge", {}).get("threshold") for manifest in (old, new)]
    if limits[0] != limits[1]:
        found.append(f"The threshold is {limits[1]}; it was {limits[0]}.")
    return found or ["The same counts, policy and models."]
