"""The release tree: what `load_dataset` reads, what the card says, what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import get_dataset_config_names, load_dataset
from run_fixture import list_anew, put_set, recipe, write_run

from specdistill.cards.card import citation, licence_entry, size_category
from specdistill.cards.changes import changes
from specdistill.cards.check import check_release
from specdistill.cards.publishing import publish_run
from specdistill.cards.report import write_report
from specdistill.cards.tree import Ask, build_tree, shareable
from specdistill.errors import DiskError, InvariantError, PublishError, RunError, SchemaError, UsageError
from specdistill.schemas.configs import TABLES
from specdistill.schemas.features import feature, features
from specdistill.schemas.invariants import read_sets
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.manifest import Manifest, Release
from specdistill.schemas.verify import file_entry, read_manifest, verify_tree
from specdistill.schemas.vocabulary import CONFIGS

ASK = Ask("1.0.0", "CC-BY-4.0", languages=["en"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    return write_run(tmp_path_factory.mktemp("run") / "r", prompts=36)


@pytest.fixture(scope="module")
def tree(run: RunLayout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "t"
    build_tree(run, folder, ASK)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def card(folder: Path) -> tuple[dict[str, object], str]:
    _, matter, page = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(matter), page


@pytest.mark.integration
@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_loads_with_exactly_its_features(run: RunLayout, tree: Path, config: str, tmp_path: Path) -> None:
    loaded = load_dataset(str(tree), config, cache_dir=str(tmp_path))
    for split, frame in read_sets(run.datasets)[config].items():
        assert loaded[split].features == features(TABLES[config])
        assert loaded[split].to_list() == frame.to_dicts()
        alone = load_dataset(str(tree), config, split=split, cache_dir=str(tmp_path))
        assert alone.num_rows == frame.height
    streamed = load_dataset(str(tree), config, split="train", streaming=True)
    assert streamed.features == features(TABLES[config])
    assert next(iter(streamed)) == loaded["train"][0]


@pytest.mark.integration
def test_sft_is_the_default_config(tree: Path, tmp_path: Path) -> None:
    assert load_dataset(str(tree), cache_dir=str(tmp_path))["train"].features == features(TABLES["sft"])


def test_the_manifest_lists_every_file(tree: Path) -> None:
    manifest = verify_tree(tree)
    on_disk = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert on_disk == set(manifest.files) | {"manifest.json"}
    for config, splits in manifest.counts.items():
        for split, rows in splits.items():
            named = [entry.rows for name, entry in manifest.files.items() if name.startswith(f"{config}/{split}-")]
            assert sum(rows or 0 for rows in named) == rows
    assert {"spec/spec.md", "spec/clauses.parquet", "spec/rendered/tools.md", "report/numbers.json"} <= on_disk


@pytest.mark.parametrize(
    ("what", "match"),
    [
        (lambda tree: (tree / "sft/train-00000-of-00001.parquet").write_bytes(b"x"), "has 1 bytes"),
        (lambda tree: (tree / "spec/spec.md").unlink(), "missing"),
        (lambda tree: (tree / "sft/extra.parquet").write_bytes(b"x"), "does not list"),
        (
            lambda tree: (tree / "README.md").write_text(
                (tree / "README.md").read_text().replace("Version", "Vursion", 1)
            ),
            "SHA-256",
        ),
        (
            lambda tree: (tree / "manifest.json").write_text(
                (tree / "manifest.json").read_text().replace('"spec/spec.md"', '"../spec.md"')
            ),
            "outside",
        ),
    ],
)
def test_a_changed_tree_is_refused_by_name(tree: Path, tmp_path: Path, what: object, match: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    what(copy)  # type: ignore[operator]
    with pytest.raises(SchemaError, match=match):
        verify_tree(copy)


def test_the_same_run_gives_the_same_bytes(run: RunLayout, tree: Path, tmp_path: Path) -> None:
    build_tree(run, tmp_path / "again", ASK)
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(tree)).read_bytes() == path.read_bytes(), path


def test_front_matter_agrees_with_the_files(tree: Path) -> None:
    matter, _ = card(tree)
    assert matter["license"] == "cc-by-4.0"
    assert matter["language"] == ["en"]
    assert {"distilabel", "specdistill"} <= set(matter["tags"])  # type: ignore[call-overload]
    assert "argilla" not in matter["tags"]  # type: ignore[operator]
    assert matter["ingredient_licences"] == {"policy": "CC-BY-4.0", "prompts": "CC0-1.0", "models": "Apache-2.0"}
    assert matter["size_categories"] == ["1K<n<10K"]
    for info in matter["dataset_info"]:  # type: ignore[attr-defined]
        shards = list((tree / info["config_name"]).glob("*.parquet"))
        assert info["download_size"] == sum(shard.stat().st_size for shard in shards)
        for split in info["splits"]:
            rows = sum(
                pq.ParquetFile(shard).metadata.num_rows for shard in shards if shard.name.startswith(split["name"])
            )
            assert split["num_examples"] == rows


def test_the_page_is_made_of_the_numbers(tree: Path) -> None:
    _, page = card(tree)
    found = json.loads((tree / "report" / "numbers.json").read_text())
    rows = sum(found["rows"]["sft"].values())
    assert f"{rows} conversations in which an assistant reasons" in page
    headings = (
        "Contents|How it was made|The policy|Rejected candidates|The judge and its noise|Human agreement|"
        "Leaks, decontamination, personal data|Known deficits|Intended use and risks|Load and train|Licence|Citation|"
        "Changes"
    )
    for heading in headings.split("|"):
        assert f"\n## {heading}\n" in page
    assert "No person has checked these rows." in page
    assert "not compared with any evaluation set" in page
    assert "First release." in page
    assert "prompts.jsonl" in page
    for name in ("acceptance", "outcomes", "reasons", "scores", "judge_noise"):
        assert f"](report/{name}.png)" in page
        assert (tree / "report" / f"{name}.png").is_file()


def test_a_licence_must_be_given(run: RunLayout, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="licence"):
        build_tree(run, tmp_path / "t", Ask("1.0.0"))
    stated = recipe(licences={"dataset": "CC0-1.0"})
    layout = write_run(tmp_path / "r", prompts=9, recipe=stated)
    build_tree(layout, tmp_path / "t", Ask("1.0.0"))
    assert card(tmp_path / "t")[0]["license"] == "cc0-1.0"


@pytest.mark.parametrize("version", ["1", "1.0", "v1.0.0", "1.0.0-rc1", "01.0.0", "1.0.0\n", ""])
def test_a_version_has_three_numbers(run: RunLayout, tmp_path: Path, version: str) -> None:
    with pytest.raises(UsageError, match="no version"):
        build_tree(run, tmp_path / "t", Ask(version, "MIT"))


def test_the_card_says_most_where_not_every_prompt_or_answer_was_asked_as_often(run: RunLayout, tmp_path: Path) -> None:
    judge = recipe().judge.model_dump(exclude_unset=True) | {"adaptive": {"first": 1}}
    layout = write_run(tmp_path / "r", prompts=9, recipe=recipe(quota={"per_category": 2}, judge=judge))
    build_tree(layout, tmp_path / "t", ASK)
    page = card(tmp_path / "t")[1]
    samples, k = recipe().generator.samples, recipe().judge.k
    assert f"answered prompts until the quotas were met, up to {samples} times each, with the policy" in page
    assert f"scored each answer up to {k} times for" in page


def test_a_tree_can_be_kept_anywhere_but_under_our_feet(
    run: RunLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="replace the folder you are in"):
        publish_run(run, ASK, to_dir=Path("."), scanned=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DiskError, match="Cannot write"):
        publish_run(run, ASK, to_dir=Path("file/deep/tree"), scanned=False)
    made = publish_run(run, ASK, to_dir=Path("new/deeper/../deep/tree"), scanned=False)
    assert made.folder == tmp_path / "new" / "deep" / "tree"
    assert (made.folder / "manifest.json").is_file()


def test_broken_promises_stop_the_release(tmp_path: Path) -> None:
    layout = write_run(tmp_path / "r", prompts=12)
    path = layout.datasets / "sft" / "train.parquet"
    message = pl.struct(
        pl.lit("assistant").alias("role"),
        pl.lit("The provided policy says no.").alias("content"),
        pl.lit("By [TO-C1] no.").alias("reasoning_content"),
    )
    frame = pl.read_parquet(path).with_columns(pl.concat_list(message).alias("completion"))
    frame.write_parquet(path)
    with pytest.raises(RunError, match="is not the one its manifest lists"):
        build_tree(layout, tmp_path / "t", ASK)
    put_set(layout, "sft", "train", [frame])
    with pytest.raises(InvariantError, match="answer_clean") as caught:
        build_tree(layout, tmp_path / "t", ASK)
    assert frame["id"][0] in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "r"] or not (tmp_path / "t").exists()


@pytest.mark.parametrize("how", ["changed", "gone", "another", "source", "listed anew"])
def test_a_policy_that_is_not_the_one_shown_stops_the_release(how: str, tmp_path: Path) -> None:
    layout = write_run(tmp_path / "r", prompts=9)
    shown = layout.rendered / "tools.md"
    if how == "gone":
        shown.unlink()
    elif how == "source":
        (layout.spec / "categories" / "tools.md").write_text("tampered")
    else:
        (layout.rendered / "more.md" if how == "another" else shown).write_text("tampered")
    if how == "listed anew":
        list_anew(layout)
    with pytest.raises(RunError, match=r"is not what the manifest says|is not the one its manifest lists"):
        build_tree(layout, tmp_path / "t", ASK)


def test_a_release_whose_policy_was_exchanged_does_not_agree(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "t")
    (tmp_path / "t" / "spec" / "rendered" / "tools.md").write_text("tampered")
    manifest = json.loads((tmp_path / "t" / "manifest.json").read_text())
    name = "spec/rendered/tools.md"
    manifest["files"][name] = file_entry(tmp_path / "t" / name).model_dump()
    (tmp_path / "t" / "manifest.json").write_text(json.dumps(manifest))
    assert f"{name} is not what the manifest says the models were shown." in check_release(tmp_path / "t")


def test_a_release_is_no_run(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "t")
    for work in (write_report, lambda layout: build_tree(layout, tmp_path / "again", Ask("2.0.0", "MIT"))):
        with pytest.raises(RunError, match="This is a release, not a run"):
            work(RunLayout(tmp_path / "t"))
    assert check_release(tmp_path / "t") == []


def test_no_folder_of_the_machine_is_told(tmp_path: Path) -> None:
    asked = recipe().model_dump(mode="json", exclude_unset=True)
    asked["generator"]["model"], asked["judge"]["model"] = "/home/alice/models/reasoner", "/home/alice/models/judge"
    layout = write_run(tmp_path / "r", prompts=9, recipe=recipe(generator=asked["generator"], judge=asked["judge"]))
    build_tree(layout, tmp_path / "t", ASK)
    page = card(tmp_path / "t")[1]
    assert "`reasoner` answered each prompt" in page
    assert "alice" not in page + (tmp_path / "t" / "manifest.json").read_text()


def test_files_that_no_selection_of_today_wrote_stop_the_release(tmp_path: Path) -> None:
    layout = write_run(tmp_path / "r", prompts=12)
    frame = pl.read_parquet(layout.datasets / "sft" / "train.parquet")
    frame.write_parquet(layout.datasets / "sft" / "stray.parquet")
    with pytest.raises(RunError, match="does not list this file"):
        build_tree(layout, tmp_path / "t", ASK)
    list_anew(layout)
    with pytest.raises(RunError, match="not in the form it is published in"):
        build_tree(layout, tmp_path / "t", ASK)
    (layout.datasets / "sft" / "stray.parquet").unlink()
    list_anew(layout)
    build_tree(layout, tmp_path / "t", ASK)


def test_a_release_holds_the_files_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = write_run(tmp_path / "r", prompts=96, small_files=True)
    counts = read_manifest(layout.manifest).counts
    assert len(layout.shards("judgments", "train")) > 1
    build_tree(layout, tmp_path / "linked", ASK)

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    build_tree(layout, tmp_path / "copied", ASK)
    for name, same in (("linked", True), ("copied", False)):
        assert check_release(tmp_path / name) == []
        for config, splits in counts.items():
            for split, rows in splits.items():
                own = layout.shards(config, split)
                shards = sorted((tmp_path / name / config).glob(f"{split}-*.parquet"))
                assert len(shards) == (len(own) if rows else 0)
                assert all(one.samefile(other) == same for one, other in zip(shards, own, strict=False))
    for config, splits in counts.items():
        loaded = load_dataset(str(tmp_path / "linked"), config, cache_dir=str(tmp_path / "cache"))
        assert {split: loaded[split].num_rows for split in loaded} == splits
        assert loaded["train"].features == features(TABLES[config])
    sorted((tmp_path / "linked" / "sft").glob("train-*"))[0].write_bytes(b"written in place")
    with pytest.raises(RunError, match="is not the one its manifest lists"):
        build_tree(layout, tmp_path / "again", ASK)


def test_only_an_earlier_tree_is_replaced(run: RunLayout, tmp_path: Path) -> None:
    target = tmp_path / "t"
    target.mkdir()
    (target / "precious.txt").write_text("mine")
    with pytest.raises(PublishError, match="not empty"):
        build_tree(run, target, ASK)
    assert (target / "precious.txt").read_text() == "mine"
    (target / "precious.txt").unlink()
    build_tree(run, target, ASK)
    (target / "sft" / "train-00000-of-00001.parquet").unlink()
    build_tree(run, target, Ask("1.1.0", "MIT"))
    assert verify_tree(target).release.version == "1.1.0"  # type: ignore[union-attr]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    (target / "manifest.json").write_text("{}")
    with pytest.raises(PublishError, match="not empty"):
        build_tree(run, target, ASK)


def test_a_full_disk_leaves_no_tree(run: RunLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("specdistill.cards.tree.shutil.copyfile", no_space)
    with pytest.raises(OSError, match="disk is full"):
        build_tree(run, tmp_path / "t", ASK)
    assert not (tmp_path / "t").exists()
    assert [path for path in tmp_path.iterdir() if "building" in path.name] == []


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    evil = "x</h1><script>alert(1)</script> | --- | **b**\n# no"
    hostile = recipe(generator={"engine": "transformers", "model": f"m`{evil}", "samples": 2})
    layout = write_run(tmp_path / "r", prompts=9, recipe=hostile)
    build_tree(layout, tmp_path / "t", Ask("1.0.0", evil, title=evil, authors=[evil], languages=["en"]))
    matter, page = card(tmp_path / "t")
    assert matter["pretty_name"] == evil
    assert "<script>" not in page.split("```bibtex")[0].replace("`", "")[: page.index("## How it was made")]
    assert "\n# no" not in page


@pytest.mark.integration
def test_what_has_no_rows_is_left_out(tmp_path: Path) -> None:
    layout = write_run(tmp_path / "r", prompts=12, recipe=recipe(preference={"min_margin": 1.0}))
    assert read_sets(layout.datasets)["preference"]["train"].is_empty()
    build_tree(layout, tmp_path / "t", ASK)
    assert not (tmp_path / "t" / "preference").exists()
    names = get_dataset_config_names(str(tmp_path / "t"))
    assert "preference" not in names
    for config in names:
        assert load_dataset(str(tmp_path / "t"), config, cache_dir=str(tmp_path / "c"))["train"].num_rows > 0
    assert "preference" not in set(card(tmp_path / "t")[0]["tags"])  # type: ignore[attr-defined]


def test_changes_are_told_from_manifests(run: RunLayout) -> None:
    old = Manifest.model_validate_json(run.manifest.read_bytes())
    new = old.model_copy(deep=True)
    new.spec.digest, new.spec.version = "other", "1.1.0"
    new.counts["extra"] = new.counts.pop("kto")
    new.counts["sft"]["train"] += 10
    new.schemas["sft"] = "9.1.0"
    new.recipe["judge"]["threshold"] = 0.9
    new.models[1].model = "example/other-judge"
    told = changes(old, new)
    assert told == [
        "The policy changed: version 1.0.0 to 1.1.0.",
        "Config extra is new.",
        "Config kto is gone.",
        f"Config sft has {sum(new.counts['sft'].values()):,} rows; it had {sum(old.counts['sft'].values()):,}.",
        f"Schema of sft: {old.schemas['sft']} to 9.1.0.",
        "The judge is example/other-judge; it was example/judge.",
        "The threshold is 0.9; it was 0.6.",
    ]
    assert changes(old, old) == ["The same counts, policy and models."]


def test_a_config_without_rows_is_never_new(run: RunLayout) -> None:
    old = Manifest.model_validate_json(run.manifest.read_bytes())
    old.counts["preference"] = {"train": 0, "test": 0}
    assert changes(old, old) == ["The same counts, policy and models."]
    new = old.model_copy(deep=True)
    new.counts["preference"]["train"] = 3
    assert changes(old, new) == ["Config preference is new."]


def test_licences_the_hub_does_not_know_are_named() -> None:
    assert licence_entry(Release(version="1.0.0", licence="Apache-2.0")) == ("apache-2.0", {})
    custom = Release(version="1.0.0", licence="My Licence 2", licence_link="https://example.org/l")
    named = {"license_name": "my-licence-2", "license_link": "https://example.org/l"}
    assert licence_entry(custom) == ("other", named)


@pytest.mark.parametrize(("rows", "name"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**7, "10M<n<100M")])
def test_size_categories(rows: int, name: str) -> None:
    assert size_category(rows) == name


def test_a_citation_cannot_be_broken_out_of(run: RunLayout) -> None:
    manifest = Manifest.model_validate_json(run.manifest.read_bytes())
    entry = citation(manifest, Release(version="1.0.0", title="a}}\n@evil{", authors=["A. Uthor", "B}\\x"]))
    assert entry.count("{") == entry.count("}")
    assert entry.splitlines()[0] == "@misc{workshopv12026,"
    assert "author = {A. Uthor and B x}" in entry


def test_a_type_without_counterpart_is_named() -> None:
    with pytest.raises(SchemaError, match="Date"):
        feature(pl.Date)


def test_a_release_does_not_tell_the_folders_of_the_machine_it_was_made_on(run: RunLayout, tmp_path: Path) -> None:
    recipe = {"spec": "/home/me/policy", "prompts": [{"path": "/home/me/p.jsonl", "columns": {"prompt": "/q"}}]}
    assert shareable(recipe) == {"spec": "policy", "prompts": [{"path": "p.jsonl", "columns": {"prompt": "/q"}}]}
    assert shareable({"prompts": [{"path": "data/p.jsonl"}]}) == {"prompts": [{"path": "data/p.jsonl"}]}
    manifest = Manifest.model_validate_json(run.manifest.read_bytes())
    manifest.recipe["prompts"] = [{"path": "/home/me/secret-project/p.jsonl"}]
    run.manifest.write_text(manifest.model_dump_json())
    build_tree(run, tmp_path / "t", ASK)
    texts = [path.read_text() for path in (tmp_path / "t").rglob("*") if path.suffix in (".json", ".md", ".yaml")]
    assert not [text for text in texts if "/home/me" in text or "secret-project" in text]
