"""The dataset card: front matter and page, generated from manifest, numbers and files. Nothing in it is typed.

`card_text` is a pure function of what a release holds, so `publish --check` writes the card again and compares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specdistill.cards.numbers import Numbers
from specdistill.cards.report import page_values
from specdistill.cards.text import Safe, render
from specdistill.schemas.configs import TABLES
from specdistill.schemas.features import features
from specdistill.schemas.manifest import Manifest, Release
from specdistill.schemas.recipe import CRITERIA
from specdistill.schemas.vocabulary import Outcome

_KNOWN = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl apple-ascl mpl-2.0 odc-by odbl
openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl
"""
HUB_LICENCES = frozenset(_KNOWN.split())
"""Identifiers the Hub knows; any other licence is `other` with a name."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
"""Upper bounds and the Hub's size categories."""


def card_text(folder: Path, manifest: Manifest, measured: Numbers, plots: Mapping[str, bytes]) -> str:
    """`README.md` of a release.

    Args:
        folder: the tree, whose Parquet footers give sizes.
        manifest: with `release` set.
        measured: from `numbers`.
        plots: names of the plots in `report/`.
    """
    release = manifest.release or Release(version="0.0.0")
    matter = front_matter(folder, manifest, release, measured)
    return f"---\n{matter}---\n\n{render('card.md.j2', **values(manifest, release, measured, plots))}"


def values(manifest: Manifest, release: Release, measured: Numbers, plots: Mapping[str, bytes]) -> dict[str, Any]:
    """What the page is rendered with."""
    recipe = manifest.recipe
    asked = [row for row in measured["outcomes"] if row["outcome"] in (Outcome.REFUSE, Outcome.SAFE_COMPLETE)]
    return page_values(measured, plots, "report/") | {
        "manifest": manifest,
        "release": release,
        "recipe": {"licences": {"prompts": None, "models": None}} | recipe,
        "configs": [
            {
                "name": config,
                "version": manifest.schemas.get(config, TABLES[config].version),
                "doc": TABLES[config].doc,
                "rows": rows,
            }
            for config, rows in measured["rows"].items()
        ],
        "criteria": CRITERIA,
        "sources": sources(recipe),
        "embedded": any(model.model == "embedded" for model in manifest.models),
        "harmful": sum(row.get("prompts", 0) for row in asked),
        "prompts": sum(measured["rows"].get("prompts", {}).values()),
        "audit": measured.get("audit"),
        "decontaminated": [place_of(entry) for entry in recipe.get("decontaminate") or []],
        "place": Safe(release.repo or "FOLDER"),
        "at": Safe(f"@v{release.version}" if release.repo else ""),
        "revision": Safe(f', revision="v{release.version}"' if release.repo else ""),
        "citation": Safe(citation(manifest, release)),
    }


def name_of(source: Any) -> str:
    """A prompt source or evaluation set of the recipe, in one word."""
    if not isinstance(source, dict):
        return str(source)
    name = source.get("hub") or source.get("path") or source.get("library") or "unnamed"
    revision = source.get("revision")
    return f"{name}@{revision}" if revision else str(name)


def place_of(entry: Any) -> str:
    """`name_of`, a local file without its folder, which is nobody's business."""
    return Path(entry["path"]).name if isinstance(entry, dict) and entry.get("path") else name_of(entry)


def sources(recipe: Mapping[str, Any]) -> list[str]:
    """The recipe's prompt sources."""
    return [place_of(entry) for entry in recipe.get("prompts") or []]


def front_matter(folder: Path, manifest: Manifest, release: Release, measured: Numbers) -> str:
    """The YAML block: what the Hub, its viewer and `load_dataset` read."""
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    named, extra = licence_entry(release)
    recipe = manifest.recipe
    hubs = sorted({entry["hub"].partition("@")[0] for entry in recipe.get("prompts") or [] if entry.get("hub")})
    gate: dict[str, Any] = {"extra_gated_prompt": GATED} if release.gated else {}
    data = DatasetCardData(
        pretty_name=release.title or manifest.name,
        license=named,
        language=release.languages or None,
        tags=tags(manifest, measured),
        task_categories=["text-generation"],
        size_categories=[size_category(sum(sum(rows.values()) for rows in measured["rows"].values()))],
        source_datasets=hubs or ["original"],
        annotations_creators=["machine-generated", *(["expert-generated"] if measured.get("audit") else [])],
        **extra,
        ingredient_licences={
            "policy": manifest.spec.licence,
            "prompts": (recipe.get("licences") or {}).get("prompts"),
            "models": (recipe.get("licences") or {}).get("models"),
        },
        version=release.version,
        **gate,
    )
    DatasetInfosDict(infos(folder, measured)).to_dataset_card_data(data)
    MetadataConfigs(
        {
            config: {
                "data_files": [{"split": split, "path": f"{config}/{split}-*.parquet"} for split in rows],
                **({"default": True} if config == "sft" else {}),
            }
            for config, rows in measured["rows"].items()
        }
    ).to_dataset_card_data(data)
    return data.to_yaml() + "\n"


GATED = "This set contains harmful requests. Say what you want to use it for."


def infos(folder: Path, measured: Numbers) -> dict[str, Any]:
    """`dataset_info` of every config: features, and rows and bytes per split from the Parquet footers."""
    import pyarrow.parquet as pq
    from datasets import DatasetInfo, SplitDict

    found = {}
    for config, rows in measured["rows"].items():
        splits, downloaded = [], 0
        for split in rows:
            shards = sorted((folder / config).glob(f"{split}-*.parquet"))
            footers = [pq.ParquetFile(shard).metadata for shard in shards]
            plain = sum(
                footer.row_group(at).total_byte_size for footer in footers for at in range(footer.num_row_groups)
            )
            count = sum(footer.num_rows for footer in footers)
            splits.append({"name": split, "num_bytes": plain, "num_examples": count})
            downloaded += sum(shard.stat().st_size for shard in shards)
        found[config] = DatasetInfo(
            features=features(TABLES[config]),
            splits=SplitDict.from_split_dict(splits),
            download_size=downloaded,
            dataset_size=sum(split["num_bytes"] for split in splits),
            config_name=config,
        )
    return found


def licence_entry(release: Release) -> tuple[str, dict[str, Any]]:
    """The Hub's `license` and, for one it does not know, its name and link."""
    asked = release.licence or "other"
    if asked.lower() in HUB_LICENCES:
        return asked.lower(), {}
    named = {"license_name": re.sub(r"[^a-z0-9.-]+", "-", asked.lower()).strip("-") or "other"}
    return "other", named | ({"license_link": release.licence_link} if release.licence_link else {})


def tags(manifest: Manifest, measured: Numbers) -> list[str]:
    """What the set is found by on the Hub."""
    found = ["specdistill", "distilabel", "synthetic", "alignment", "deliberative-alignment", "reasoning"]
    if measured["rows"].get("preference"):
        found += ["preference", "dpo", "rlaif"]
    if measured["rows"].get("reward"):
        found.append("reward-model")
    if measured.get("audit"):
        found.append("argilla")
    if manifest.spec.id == "safety":
        found += ["safety", "not-for-all-audiences"]
    return found


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows."""
    return next((name for bound, name in SIZES if rows < bound), "10M<n<100M" if rows < 10**8 else "100M<n<1B")


def citation(manifest: Manifest, release: Release) -> str:
    """A BibTeX entry; braces and control characters in data are dropped."""

    def plain(text: str) -> str:
        return " ".join(re.sub(r"[{}\\`\x00-\x1f\x7f]", " ", text).split())

    year = manifest.created[:4]
    key = re.sub(r"[^A-Za-z0-9]+", "", (release.repo or manifest.name).rpartition("/")[2]) + year
    fields = {
        "author": " and ".join(plain(author) for author in release.authors),
        "title": plain(release.title or manifest.name),
        "year": year,
        "version": release.version,
        "url": f"https://huggingface.co/datasets/{release.repo}" if release.repo else "",
        "note": f"Made with specdistill {plain(manifest.specdistill)}",
    }
    lines = [f"  {name} = {{{text}}}" for name, text in fields.items() if text]
    return f"@misc{{{key},\n" + ",\n".join(lines) + "\n}"
