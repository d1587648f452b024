"""The parts of publishing that need no hub: scan, plans, errors in words, places to work in."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from hashlib import sha1, sha256
from pathlib import Path

import httpx2
import polars as pl
import pytest
from huggingface_hub.errors import HfHubHTTPError
from run_fixture import write_run

from specdistill.cards.interrupts import noted
from specdistill.cards.plan import Plan, Target, differences, is_same
from specdistill.cards.publishing import keep, publish_run
from specdistill.cards.release import LONGEST_WAIT, Outcome, agree, newer, one_attempt, pause
from specdistill.cards.remote import HubState, Overtaken, Passing, RemoteFile, attempt, told
from specdistill.cards.scan import Find, counts, refuse_finds, scan
from specdistill.cards.tree import Ask
from specdistill.errors import PublishError, UsageError
from specdistill.schemas.configs import SFT
from specdistill.schemas.manifest import Manifest, Release
from specdistill.schemas.private import masked


def sft(*texts: str) -> dict[str, dict[str, pl.DataFrame]]:
    """A set whose answers are these texts."""
    rows = [
        {
            "id": f"row{number}",
            "prompt": [{"role": "user", "content": "Hello"}],
            "completion": [{"role": "assistant", "content": text, "reasoning_content": "By [A-B1]."}],
        }
        for number, text in enumerate(texts)
    ]
    return {"sft": {"train": SFT.frame(rows)}}


GITHUB = "ghp_" + "1a2B3c4D5e6F7g8H9i0JkLmNoPqRsTuVwXyZ"
HUGGING = "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNmQwErTyUi"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (f"My key is {GITHUB}.", ["secret"]),
        (f"token={HUGGING}", ["secret"]),
        ("Write to mara.lind@gmail.com.", ["personal"]),
        ("Her number is 078-05-1120, the card 4111 1111 1111 1111.", ["personal", "personal"]),
        ("Call +1 (415) 867-5309 now.", ["personal"]),
        ("Write to someone@example.com or help@shop.example.", []),
        ("On 2026-01-02 we sold 1,283,300 units for 12.50 each; see section 4.2.1.", []),
        ("Nothing to see, dial 988 or 112.", []),
    ],
)
def test_what_the_scan_finds(text: str, kinds: list[str]) -> None:
    found = scan(sft("A clean answer.", text))
    assert [find.kind for find in found] == kinds
    for find in found:
        assert (find.config, find.split, find.row, find.column) == ("sft", "train", "row1", "completion")
        assert find.shown not in ("", text)
        assert GITHUB not in str(find)
        assert "mara.lind@" not in str(find)


def test_a_text_in_many_rows_is_found_once() -> None:
    sets = sft(*[f"Use {GITHUB}."] * 20)
    sets["kto"] = sets["sft"]
    assert len(scan(sets)) == 1


def test_findings_are_counted_and_refused_with_ten_names() -> None:
    found = [Find("personal", "EMAIL", "sft", "train", f"r{n}", "completion", "mar…om") for n in range(12)]
    found.append(Find("secret", "token", "sft", "train", "s", "completion", "ghp…yZ"))
    assert counts(found) == {"secret": 1, "personal": 12}
    with pytest.raises(PublishError, match="13 texts look like") as caught:
        refuse_finds(found)
    assert "r9," in str(caught.value)
    assert "and 3 more" in str(caught.value)
    refuse_finds([])


@pytest.mark.parametrize(
    ("text", "shown"), [("short", "s…"), ("mara.lind@gmail.com", "mar…om"), ("a\nb\nc d e f g hi", "a b…hi")]
)
def test_masks(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_one_secret_in_two_texts_is_found_in_both() -> None:
    assert [find.row for find in scan(sft(f"Use {GITHUB}.", "Clean.", f"Or rather {GITHUB}."))] == ["row0", "row2"]


def manifest(version: str) -> Manifest:
    spec = {"id": "s", "title": "S", "version": "1", "licence": None, "digest": "d"}
    bare = {name: {} for name in ("schemas", "recipe", "stages", "counts", "files")}
    raw = {"name": "n", "created": "2026", "specdistill": "0", "spec": spec, "models": [], **bare}
    return Manifest.model_validate(raw).model_copy(update={"release": Release(version=version)})


@pytest.mark.parametrize(
    ("before", "version", "schema", "says"),
    [
        (None, "0.0.1", (), None),
        ("1.2.0", "1.2.1", (), None),
        ("1.9.0", "1.10.0", ("sft.x is new: bool",), None),
        ("1.2.0", "1.2.0", (), "not newer"),
        ("1.10.0", "1.9.0", (), "not newer"),
        ("1.2.0", "1.3.0", ("breaking: kto is gone",), "2.0.0"),
        ("1.2.0", "2.0.0", ("breaking: kto is gone",), None),
    ],
)
def test_versions_only_go_up_and_breaks_are_major(
    before: str | None, version: str, schema: tuple[str, ...], says: str | None
) -> None:
    earlier = manifest(before) if before else None
    if says is None:
        newer(Target(version), earlier, Plan(schema=schema))
    else:
        with pytest.raises(PublishError, match=says):
            newer(Target(version), earlier, Plan(schema=schema))


class NewBranch:
    """A hub whose main holds release 2.0.0 and that has no other branch; notes what it is told to do."""

    url = "http://hub/x"

    def __init__(self, folder: Path) -> None:
        self.done: list[str] = []
        self.folder = folder
        (folder / "manifest.json").write_text(manifest("2.1.0").model_dump_json())
        (folder / "README.md").write_text("# x")

    def state(self, branch: str) -> HubState:
        head = "tip" if branch == "main" else None
        return HubState(True, head, "tip", {"v2.0.0": "tip"}, {}, private=False, gated=False)

    def tree(self, revision: str) -> dict[str, RemoteFile]:
        return {"old.parquet": RemoteFile("x", None, 3)}

    def read(self, path: str, revision: str) -> bytes | None:
        return manifest("2.0.0").model_dump_json().encode() if path == "manifest.json" else None

    def gate(self) -> None:
        self.done.append("gate")

    def branch(self, name: str, start: str) -> None:
        self.done.append(f"{name} from {start}")

    def commit(self, add: object, remove: list[str], **more: object) -> tuple[str, None]:
        self.done.append(f"commit on {more['parent']}, removing {', '.join(remove)}")
        return "new", None

    def tag(self, name: str, oid: str, message: str) -> None:
        self.done.append(f"{name} on {oid}")

    def attempt(self, version: str, *, dry_run: bool) -> Outcome:
        def build(before: Manifest | None) -> Path:
            assert before is not None
            assert before.release == Release(version="2.0.0")
            return self.folder

        target = Target(version, branch="next", gated=True)
        return one_attempt(self, target, build, dry_run=dry_run, say=lambda text: None)  # type: ignore[arg-type]


def test_a_release_on_a_new_branch_follows_main_as_its_plan_says(tmp_path: Path) -> None:
    hub = NewBranch(tmp_path)
    planned = hub.attempt("2.1.0", dry_run=True)
    assert hub.done == []
    assert (planned.plan.previous, list(planned.plan.removed)) == ("2.0.0", ["old.parquet"])
    assert planned.plan.note == (
        "The branch next will be created, starting at main.",
        "Readers will have to ask for access.",
    )
    made = hub.attempt("2.1.0", dry_run=False)
    assert made.plan == replace(planned.plan, note=())
    assert hub.done == ["gate", "next from tip", "commit on tip, removing old.parquet", "v2.1.0 on new"]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_refused_version_leaves_no_branch_and_no_access_rule_behind(tmp_path: Path, dry_run: bool) -> None:
    hub = NewBranch(tmp_path)
    with pytest.raises(PublishError, match=r"not newer than 2\.0\.0") as caught:
        hub.attempt("1.5.0", dry_run=dry_run)
    assert "starts at that line's last tag" in caught.value.remedy
    assert hub.done == []


def test_a_public_repository_is_not_taken_for_a_private_one() -> None:
    state = HubState(True, "a", "a", {}, {}, private=False, gated=False)
    with pytest.raises(PublishError, match="is public"):
        agree(state, Target("1.0.0", private=True))
    agree(state, Target("1.0.0"))
    agree(HubState(False, None, None, {}, {}, False, False), Target("1.0.0", private=True))


def test_differences_go_by_content(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, data in (
        ("same.md", b"same"),
        ("sub/new.md", b"new"),
        ("other.md", b"now"),
        ("big.parquet", b"big"),
        (".x", b""),
    ):
        (tmp_path / name).write_bytes(data)
    there = {
        "same.md": RemoteFile(sha1(b"blob 4\x00same").hexdigest(), None, 4),
        "other.md": RemoteFile(sha1(b"blob 3\x00old").hexdigest(), None, 3),
        "big.parquet": RemoteFile("pointer", sha256(b"big").hexdigest(), 3),
        "gone.parquet": RemoteFile("x", "y", 7),
        ".gitattributes": RemoteFile("x", None, 9),
    }
    assert differences(tmp_path, there) == ({"sub/new.md": 3}, {"other.md": 3}, {"gone.parquet": 7})
    assert not is_same(tmp_path / "big.parquet", RemoteFile("pointer", sha256(b"big").hexdigest(), 4))


def http_error(status: int, **headers: str) -> HfHubHTTPError:
    request = httpx2.Request("POST", "http://hub/x?proof=abc.def")
    response = httpx2.Response(status, headers=headers, request=request)
    return HfHubHTTPError(f"{status} for http://hub/x?proof=abc.def", response=response)


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (http_error(503), Passing),
        (http_error(429), Passing),
        (http_error(412), Overtaken),
        (http_error(409), Overtaken),
        (http_error(403), PublishError),
        (http_error(404), PublishError),
        (httpx2.ConnectError("no route"), Passing),
        (ConnectionError("reset"), Passing),
        (TimeoutError("slow"), Passing),
        (RuntimeError("upload broke"), Passing),
        (ValueError("Invalid metadata"), PublishError),
    ],
)
def test_failures_are_passing_or_final(raised: Exception, becomes: type[PublishError]) -> None:
    def do() -> None:
        raise raised

    with pytest.raises(PublishError) as caught:
        attempt("commit", do)
    assert type(caught.value) is becomes
    assert caught.value.__cause__ is raised
    assert "abc.def" not in str(caught.value)


def test_no_message_holds_a_token() -> None:
    words = told(RuntimeError(f"failed with {HUGGING} and Bearer {GITHUB}\n at http://x/y?proof=12.ab&Signature=zz'"))
    for secret in (HUGGING, GITHUB, "12.ab", "zz"):
        assert secret not in words
    assert "\n" not in words
    assert told(RuntimeError()) == "RuntimeError"


def test_waits_are_bounded_and_do_what_the_hub_asks() -> None:
    assert pause(0, Passing("x", 7.0)) == 7.0
    assert pause(0, Passing("x", 10_000.0)) == LONGEST_WAIT
    assert pause(0, Passing("x", -1.0)) == 0.0
    assert 0 < pause(9, Overtaken("x")) <= 0.5
    for number in range(12):
        assert 0 < pause(number, Passing("x")) <= LONGEST_WAIT


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_a_tree_is_kept_across_disks_too(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        for number, target in enumerate((tmp_path / "kept", Path(other) / "kept")):
            tree = tmp_path / f"tree{number}"
            tree.mkdir()
            (tree / "a").write_text("x")
            keep(tree, target)
            assert (target / "a").read_text() == "x"
            assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []


def interrupted_and_swallowed() -> None:
    """Ctrl-C comes, and somebody drops it, as a native library may."""
    with noted() as stop:
        stop()
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(1)
        stop()


def test_ctrl_c_is_noted_even_if_somebody_swallows_it() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what they run behind
    with pytest.raises(KeyboardInterrupt):
        interrupted_and_swallowed()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_nothing_is_changed() -> None:
    ran = []

    def work() -> None:
        with noted() as stop:
            stop()
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran == [True]


def test_there_must_be_somewhere_to_publish_to(tmp_path: Path) -> None:
    layout = write_run(tmp_path / "r", prompts=6)
    with pytest.raises(UsageError, match="nowhere to publish"):
        publish_run(layout, Ask("1.0.0", "MIT"))
    published = publish_run(layout, Ask("1.0.0", "MIT"), to_dir=tmp_path / "t", scanned=False)
    assert published.findings is None
    assert "were not scanned" in (tmp_path / "t" / "README.md").read_text()


def test_an_address_is_found_and_a_longer_row_of_numbers_is_none() -> None:
    texts = ["The host is 84.17.3.9.", "Section 1.2.1.2.5.1.2 says so.", "version 4.5.3.0.99 of it", "84.17.3.9 is up"]
    rows = pl.DataFrame({"id": [str(number) for number in range(len(texts))], "raw": texts})
    found = scan({"rejected": {"train": rows}})
    assert [(find.row, find.rule) for find in found] == [("0", "IP_ADDRESS"), ("3", "IP_ADDRESS")]
