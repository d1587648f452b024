"""The local hub: what it refuses, what it keeps, and the real clients' everyday calls."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hub_fixture import running_hub
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from typer.testing import CliRunner

from specdistill.cards.hub import listing
from specdistill.cards.hub.access import Access
from specdistill.cards.hub.app import LocalHub
from specdistill.cards.hub.model import HubError
from specdistill.cards.hub.objects import Objects
from specdistill.cards.hub.serve import serve
from specdistill.cards.hub.store import HubStore
from specdistill.cards.hub.xet import SHARD_TAG, XetStore, chunks_of, hash_text, read_shard, unpack
from specdistill.cli.hub import app
from specdistill.errors import UsageError


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[TestClient]:
    """A hub with one dataset, org/set, and a client that holds the token."""
    access = Access.of(tmp_path / "hub")
    with TestClient(LocalHub(tmp_path / "hub", access), base_url="http://hub") as client:
        client.headers["Authorization"] = f"Bearer {access.token}"
        made = client.post("/api/repos/create", json={"type": "dataset", "organization": "org", "name": "set"})
        assert made.status_code == 200
        yield client


STRANGER = {"Authorization": "Bearer hf_someoneelse"}
SET = "/api/datasets/org/set"


def line(key: str, **value: Any) -> str:
    return json.dumps({"key": key, "value": value})


def file_line(path: str, data: bytes = b"x") -> str:
    return line("file", path=path, content=base64.b64encode(data).decode(), encoding="base64")


def commit(hub: TestClient, *lines: str, parent: str | None = None, **query: str) -> Any:
    header = {"summary": "s", "description": "d"} | ({"parentCommit": parent} if parent else {})
    body = "\n".join([line("header", **header), *lines])
    return hub.post(f"{SET}/commit/main", content=body, params=query)


def test_a_commit_is_read_back(hub: TestClient) -> None:
    made = commit(hub, file_line("a/b.txt", b"hello"), file_line("README.md", b"---\nlicense: mit\n---\n"))
    oid = made.json()["commitOid"]
    info = hub.get(SET).json()
    assert (info["sha"], info["cardData"]) == (oid, {"license": "mit"})
    assert {sibling["rfilename"] for sibling in info["siblings"]} == {".gitattributes", "a/b.txt", "README.md"}
    got = hub.get("/datasets/org/set/resolve/main/a/b.txt")
    assert (got.content, got.headers["x-repo-commit"]) == (b"hello", oid)
    part = hub.get("/datasets/org/set/resolve/main/a/b.txt", headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"ell")
    head = hub.head("/datasets/org/set/resolve/main/a/b.txt")
    assert head.headers["content-length"] == "5"
    assert hub.get(f"{SET}/commits/main").json()[0]["title"] == "s"


def test_the_parent_guard_holds(hub: TestClient) -> None:
    first = hub.get(SET).json()["sha"]
    assert commit(hub, file_line("a"), parent=first).status_code == 200
    late = commit(hub, file_line("b"), parent=first)
    assert late.status_code == 412
    assert {sibling["rfilename"] for sibling in hub.get(SET).json()["siblings"]} == {".gitattributes", "a"}


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([file_line("../../etc/passwd")], 400),
        ([file_line("/etc/passwd")], 400),
        ([file_line("a//b")], 400),
        ([file_line(".git/config")], 400),
        ([file_line("a\0b")], 400),
        ([file_line("")], 400),
        ([line("file", path="a", content="not base64!", encoding="base64")], 400),
        ([line("lfsFile", path="a", algo="sha256", oid="0" * 64, size=1)], 400),
        ([line("lfsFile", path="a", algo="sha256", oid="../../token", size=1)], 400),
        ([line("deletedFile", path="nothing")], 404),
        ([line("deletedFolder", path="nothing/")], 404),
        ([line("submodule", path="a")], 400),
        (["{not json"], 400),
        (["[]"], 400),
    ],
)
def test_a_commit_that_cannot_be_changes_nothing(hub: TestClient, lines: list[str], status: int) -> None:
    before = hub.get(SET).json()["sha"]
    assert commit(hub, file_line("good"), *lines).status_code == status
    assert hub.get(SET).json()["sha"] == before


@pytest.mark.parametrize("name", ["..", ".hidden", "a..b", "a b", "x" * 97, "", "..%2f..%2ftoken", "-a"])
def test_names_that_must_not_reach_the_disk(hub: TestClient, name: str, tmp_path: Path) -> None:
    made = hub.post("/api/repos/create", json={"type": "dataset", "organization": "org", "name": name})
    assert made.status_code == 400
    if name != "..":  # the client itself takes that one apart
        assert hub.get(f"/api/datasets/org/{name}").status_code in (400, 404)
    assert sorted(path.name for path in (tmp_path / "hub" / "repos" / "datasets").iterdir()) == ["org"]


def test_tags_and_branches(hub: TestClient) -> None:
    first = hub.get(SET).json()["sha"]
    assert hub.post(f"{SET}/tag/main", json={"tag": "v1.0.0"}).status_code == 200
    assert hub.post(f"{SET}/tag/main", json={"tag": "v1.0.0"}).status_code == 409
    assert hub.post(f"{SET}/tag/nothing", json={"tag": "v2"}).status_code == 404
    for bad in ("", "a..b", "../x", "a//b", "x.lock", "@{", "-"):
        assert hub.post(f"{SET}/tag/main", json={"tag": bad}).status_code == 400, bad
    assert hub.post(f"{SET}/branch/side%2Fone", json={"startingPoint": "v1.0.0"}).status_code == 200
    commit(hub, file_line("a"))
    refs = hub.get(f"{SET}/refs").json()
    assert [tag["targetCommit"] for tag in refs["tags"]] == [first]
    assert {branch["name"] for branch in refs["branches"]} == {"main", "side/one"}
    assert hub.get(f"{SET}/revision/side%2Fone").json()["sha"] == first
    assert hub.get(f"{SET}/revision/refs%2Fheads%2Fside%2Fone").json()["sha"] == first
    assert hub.delete(f"{SET}/branch/main").status_code == 403
    assert hub.delete(f"{SET}/branch/side%2Fone").status_code == 200
    assert hub.delete(f"{SET}/tag/v1.0.0").status_code == 200
    assert hub.delete(f"{SET}/tag/v1.0.0").status_code == 404
    gone = hub.get(f"{SET}/revision/v1.0.0")
    assert (gone.status_code, gone.headers["x-error-code"]) == (404, "RevisionNotFound")


def test_pull_requests_leave_the_branch_alone(hub: TestClient) -> None:
    before = hub.get(SET).json()["sha"]
    made = commit(hub, file_line("a"), create_pr="1").json()
    assert made["pullRequestUrl"] == "http://hub/datasets/org/set/discussions/1"
    assert hub.get(SET).json()["sha"] == before
    assert hub.get(f"{SET}/revision/refs%2Fpr%2F1").json()["sha"] == made["commitOid"]
    body = "\n".join([line("header", summary="more"), file_line("b")])
    assert hub.post(f"{SET}/commit/refs%2Fpr%2F1", content=body).status_code == 200
    assert hub.get("/datasets/org/set/resolve/refs%2Fpr%2F1/b").content == b"x"


def test_listings_come_in_pages(hub: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(hub, *(file_line(f"d{number % 3}/f{number:02d}") for number in range(20)))
    monkeypatch.setattr(listing, "PAGE", 7)
    found: list[str] = []
    url: str | None = f"{SET}/tree/main?recursive=true"
    pages = 0
    while url:
        page = hub.get(url)
        found += [item["path"] for item in page.json() if item["type"] == "file"]
        url = page.links.get("next", {}).get("url")
        pages += 1
    assert (len(found), len(set(found)), pages) == (21, 21, 4)
    assert [item["path"] for item in hub.get(f"{SET}/tree/main").json()] == [".gitattributes", "d0", "d1", "d2"]
    assert len(hub.get(f"{SET}/tree/main/d1").json()) == 7
    assert hub.get(f"{SET}/tree/main/none").headers["x-error-code"] == "EntryNotFound"
    asked = hub.post(f"{SET}/paths-info/main", json={"paths": ["d1", "d1/f01", "none"]}).json()
    assert [(item["path"], item["type"]) for item in asked] == [("d1", "directory"), ("d1/f01", "file")]


WRITES = [
    ("POST", "/api/repos/create", {"name": "x"}),
    ("DELETE", "/api/repos/delete", {"name": "set", "organization": "org", "type": "dataset"}),
    ("PUT", f"{SET}/settings", {"gated": "auto"}),
    ("POST", f"{SET}/tag/main", {"tag": "t"}),
    ("POST", f"{SET}/branch/b", {}),
    ("DELETE", f"{SET}/branch/b", {}),
    ("POST", f"{SET}/preupload/main", {"files": []}),
    ("POST", f"{SET}/commit/main", {}),
    ("GET", f"{SET}/xet-write-token/main", None),
    ("POST", "/datasets/org/set.git/info/lfs/objects/batch", {"objects": []}),
    ("GET", "/api/whoami-v2", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_nothing_is_written_without_the_token(hub: TestClient, method: str, path: str, body: Any) -> None:
    for headers in (STRANGER, {"Authorization": ""}, {"Authorization": "Bearer "}):
        assert hub.request(method, path, json=body, headers=headers).status_code == 401
    assert hub.get(SET).status_code == 200


def test_uploads_and_xorbs_need_their_proof(hub: TestClient) -> None:
    digest = sha256(b"data").hexdigest()
    for path in (f"/lfs/{digest}", f"/lfs/{digest}?proof=1.2", f"/lfs/{digest}?proof=9999999999.00"):
        assert hub.put(path, content=b"data").status_code == 403
    for path, method in ((f"/xet/v1/xorbs/default/{'0' * 64}", "POST"), ("/xet/v1/shards", "POST")):
        assert hub.request(method, path, content=b"x").status_code == 401
    assert hub.get(f"/xet/v1/reconstructions/{'0' * 64}").status_code == 401
    assert hub.get(f"/xet/data/{'0' * 64}").status_code == 403
    batch = {"objects": [{"oid": digest, "size": 4}]}
    made = hub.post("/datasets/org/set.git/info/lfs/objects/batch", json=batch).json()
    link = made["objects"][0]["actions"]["upload"]["href"]
    assert hub.put(link, content=b"other").status_code == 400
    assert hub.put(link.replace(digest, "0" * 64), content=b"data").status_code == 403
    assert hub.put(link, content=b"data").status_code == 200
    assert "actions" not in hub.post("/datasets/org/set.git/info/lfs/objects/batch", json=batch).json()["objects"][0]


def test_private_looks_like_none_and_gated_says_so(hub: TestClient) -> None:
    commit(hub, file_line("a"))
    assert hub.get("/datasets/org/set/resolve/main/a", headers=STRANGER).status_code == 200
    hub.put(f"{SET}/settings", json={"gated": "manual"})
    gated = hub.get("/datasets/org/set/resolve/main/a", headers=STRANGER)
    assert (gated.status_code, gated.headers["x-error-code"]) == (401, "GatedRepo")
    assert hub.get(SET, headers=STRANGER).json()["gated"] == "manual"
    hub.put(f"{SET}/settings", json={"visibility": "private"})
    for path in (SET, f"{SET}/refs", "/datasets/org/set/resolve/main/a", f"{SET}/tree/main"):
        hidden = hub.get(path, headers=STRANGER)
        assert (hidden.status_code, hidden.headers["x-error-code"]) == (401, "RepoNotFound")
    assert hub.get("/api/datasets", headers=STRANGER).json() == []
    assert [item["id"] for item in hub.get("/api/datasets").json()] == ["org/set"]
    assert hub.get(SET).json()["private"] is True


def test_repositories_come_and_go(hub: TestClient) -> None:
    again = hub.post("/api/repos/create", json={"type": "dataset", "organization": "org", "name": "set"})
    assert (again.status_code, again.json()["url"]) == (409, "http://hub/datasets/org/set")
    gone = hub.request("DELETE", "/api/repos/delete", json={"type": "dataset", "organization": "org", "name": "set"})
    assert gone.status_code == 200
    assert hub.get(SET).headers["x-error-code"] == "RepoNotFound"
    mine = hub.post("/api/repos/create", json={"name": "model"}).json()
    assert mine["url"] == "http://hub/local/model"
    assert hub.get("/local/model/resolve/main/.gitattributes").status_code == 200


def test_broken_cards_are_told(hub: TestClient) -> None:
    for text, status in (
        ("---\na: b\n---\n", 200),
        ("# no matter", 200),
        ("---\na: [\n---\n", 400),
        ("---\n- a\n---\n", 400),
    ):
        assert hub.post("/api/validate-yaml", json={"content": text}).status_code == status, text
    assert hub.post("/api/validate-yaml", content=b"[]").status_code == 400
    assert hub.post("/api/validate-yaml", content=b"\xff").status_code == 400
    commit(hub, file_line("README.md", b"---\na: [\n---\n"))
    assert hub.get(SET).json()["cardData"] == {}


def test_what_it_does_not_know_is_said(hub: TestClient) -> None:
    assert hub.get("/").text.startswith("specdistill local hub")
    unknown = hub.get("/api/spaces/org/set/secrets")
    assert unknown.status_code == 404
    assert "does not know" in unknown.json()["error"]


def test_links_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access("hf_secret")
    proof = access.sign("lfs", "abc")
    assert access.is_signed(proof, "lfs", "abc")
    for other in (
        access.sign("lfs", "abd"),
        access.sign("xet", "abc"),
        Access("hf_else").sign("lfs", "abc"),
        "",
        None,
        "x.y",
    ):
        assert not access.is_signed(other, "lfs", "abc")
    later = time.time() + 4000
    monkeypatch.setattr("specdistill.cards.hub.access.time.time", lambda: later)
    assert not access.is_signed(proof, "lfs", "abc")


def test_the_token_is_its_owners_alone_and_stays(tmp_path: Path) -> None:
    first = Access.of(tmp_path / "hub")
    path = tmp_path / "hub" / "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Access.of(tmp_path / "hub").token == first.token
    assert first.is_user(f"Bearer {first.token}")
    assert not first.is_user(None)


# Xet


def raw_hash(text: str) -> bytes:
    return struct.pack("<4Q", *(int(text[at : at + 16], 16) for at in range(0, 64, 16)))


def chunk(data: bytes, scheme: int) -> bytes:
    plain = data
    if scheme == 2:
        plain = b"".join(data[lane::4] for lane in range(4))
    stored = data if scheme == 0 else pa.compress(plain, codec="lz4", asbytes=True)
    lengths = [size.to_bytes(3, "little") for size in (len(stored), len(data))]
    return b"\0" + lengths[0] + bytes([scheme]) + lengths[1] + stored


def shard(files: list[tuple[str, str, list[tuple[str, int, int, int]]]]) -> bytes:
    """files: (file hash, sha256, terms of (xorb, length, start, end))."""
    out = SHARD_TAG.ljust(32, b"\0") + struct.pack("<QQ", 2, 0)
    for name, digest, terms in files:
        out += struct.pack("<32sIIQ", raw_hash(name), (1 << 31) | (1 << 30), len(terms), 0)
        for xorb, length, start, end in terms:
            out += struct.pack("<32sIIII", raw_hash(xorb), 0, length, start, end)
        out += b"\1" * 48 * len(terms)
        out += struct.pack("<32sQQ", raw_hash(digest), 0, 0)
    return out + b"\xff" * 32 + b"\0" * 16


def test_hashes_are_written_as_the_protocol_says() -> None:
    expected = "07060504030201000f0e0d0c0b0a0908171615141312111" + "01f1e1d1c1b1a1918"
    assert hash_text(bytes(range(32))) == expected


@settings(deadline=None, max_examples=40)
@given(
    pieces=st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.sampled_from([0, 1, 2])), min_size=1, max_size=6),
    cut=st.tuples(st.integers(0, 2000), st.integers(0, 2000)),
)
def test_files_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bytes, int]], cut: tuple[int, int]
) -> None:
    folder = tmp_path_factory.mktemp("xet")
    objects = Objects(folder / "objects")
    store = XetStore(folder / "xet", objects)
    whole = b"".join(data for data, _ in pieces) * 2
    name, file = "a" * 64, "b" * 64
    received = folder / "received"
    received.write_bytes(b"".join(chunk(*piece) for piece in pieces) + b"XETBLOB footer")
    assert store.add_xorb(name, received)
    half = len(whole) // 2
    first = len(pieces[0][0])
    terms = [(name, half, 0, len(pieces)), (name, first, 0, 1)]
    if len(pieces) > 1:
        terms.append((name, half - first, 1, len(pieces)))
    digest = sha256(whole).hexdigest()
    store.add_shard(shard([(file, digest, terms)]))
    assert objects.read(digest) == whole
    assert store.hash_of(digest) == file

    start, end = sorted(number % len(whole) for number in cut)
    plan = store.reconstruction(file, start, end, lambda xorb: f"http://x/{xorb}")
    blob = store.xorb(name).read_bytes()
    out = b""
    for term in plan["terms"]:
        span = term["range"]
        holding = [
            info
            for info in plan["fetch_info"][term["hash"]]
            if info["range"]["start"] <= span["start"] and span["end"] <= info["range"]["end"]
        ]
        assert len(holding) == 1  # clients take the one that holds it
        part = folder / "part"
        part.write_bytes(blob[holding[0]["url_range"]["start"] : holding[0]["url_range"]["end"] + 1])
        with open(part, "rb") as handle:
            inside = list(chunks_of(handle))[span["start"] - holding[0]["range"]["start"] :][
                : span["end"] - span["start"]
            ]
            assert sum(item.length for item in inside) == term["unpacked_length"]
            for item in inside:
                handle.seek(item.offset + 8)
                out += unpack(handle.read(item.stored), item)
    offset = plan["offset_into_first_range"]
    assert out[offset : offset + end - start + 1] == whole[start : end + 1]


def test_a_file_that_is_not_what_its_digest_says_is_refused(tmp_path: Path) -> None:
    store = XetStore(tmp_path / "xet", Objects(tmp_path / "objects"))
    received = tmp_path / "received"
    received.write_bytes(chunk(b"hello", 0))
    store.add_xorb("a" * 64, received)
    with pytest.raises(HubError, match="not what its SHA-256 says"):
        store.add_shard(shard([("b" * 64, sha256(b"other").hexdigest(), [("a" * 64, 5, 0, 1)])]))
    with pytest.raises(HubError, match="was not uploaded"):
        store.add_shard(shard([("b" * 64, sha256(b"hello").hexdigest(), [("c" * 64, 5, 0, 1)])]))
    assert list((tmp_path / "objects").glob("??/*")) == []
    for name in ("../../token", "A" * 64, "a" * 63):
        with pytest.raises(HubError, match="no hash"):
            store.xorb(name)
        with pytest.raises(HubError, match="no hash"):
            store.recipe(name)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_as_a_shard_or_xorb_give_an_answer(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    for body in (
        data,
        SHARD_TAG.ljust(48, b"\0") + data,
        shard([("b" * 64, "c" * 64, [("a" * 64, 5, 0, 1)])])[: len(data)],
    ):
        try:
            read_shard(body)
        except HubError as exc:
            assert exc.status == 400
    path = tmp_path_factory.mktemp("fuzz") / "xorb"
    path.write_bytes(data)
    with open(path, "rb") as handle:
        try:
            assert all(item.offset + item.stored <= len(data) for item in chunks_of(handle))
        except HubError as exc:
            assert exc.status == 400


def test_a_shard_that_promises_too_much_is_cut_short() -> None:
    lying = SHARD_TAG.ljust(48, b"\0") + struct.pack("<32sIIQ", b"x" * 32, 0, 2**32 - 1, 0)
    with pytest.raises(HubError, match="cut short"):
        read_shard(lying)


def test_refs_are_whole_whatever_the_moment(tmp_path: Path) -> None:
    """A process that commits as fast as it can is killed; what it left is whole."""
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from specdistill.cards.hub.store import Change, Entry, HubStore, blob_oid
        store = HubStore(Path(sys.argv[1]))
        repository = store.repository("datasets", "org/set")
        for number in range(10**6):
            data = str(number).encode()
            entry = Entry(store.objects.put(data), len(data), blob_oid(data), False)
            repository.add_commit("main", [Change("n", entry)], f"c{number}")
            if number == 0:
                print("ready", flush=True)
    """)
    store = HubStore(tmp_path)
    repository = store.create("datasets", "org/set")
    reached = -1
    for _ in range(3):
        command = [sys.executable, "-c", script, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3)
        process.kill()
        process.wait()
        commit_ = repository.commit_at("main")
        assert store.objects.read(commit_.tree["n"].sha256) == commit_.title.removeprefix("c").encode()
        assert sum(1 for _ in repository.history("main")) > reached
        reached = sum(1 for _ in repository.history("main"))
    assert reached >= 3  # each process made one commit at least


CLIENT = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download
from datasets import Dataset, load_dataset
api = HfApi()
out = {"user": api.whoami()["name"]}
Dataset.from_dict({"a": list(range(50))}).push_to_hub("org/pushed")
out["pushed"] = load_dataset("org/pushed", split="train").num_rows
folder = Path(sys.argv[1])
(folder / "sub").mkdir(parents=True)
(folder / "model.safetensors").write_bytes(bytes(range(256)) * 2000)
(folder / "sub" / "note.md").write_text("hello")
api.create_repo("org/model", private=True)
api.upload_folder(repo_id="org/model", folder_path=folder)
api.upload_file(repo_id="org/model", path_or_fileobj=b"more", path_in_repo="more.bin")
got = Path(snapshot_download("org/model"))
out["same"] = (got / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
out["files"] = sorted(api.list_repo_files("org/model"))
api.delete_file("more.bin", repo_id="org/model")
out["exists"] = [api.file_exists("org/model", name) for name in ("more.bin", "sub/note.md")]
api.create_tag("org/model", tag="v1")
api.create_branch("org/model", branch="side")
out["refs"] = [len(api.list_repo_refs("org/model").tags), len(api.list_repo_refs("org/model").branches)]
fs = HfFileSystem()
out["glob"] = fs.glob("org/model/**/*.md")
with fs.open("org/model/model.safetensors") as handle:
    handle.seek(1000)
    out["range"] = list(handle.read(4))
api.delete_repo("org/model")
out["gone"] = api.repo_exists("org/model")
print(json.dumps(out))
"""


@pytest.mark.integration
@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_everyday_calls_of_the_real_clients(tmp_path: Path, xet: bool) -> None:
    with running_hub(tmp_path / "hub") as hub:
        env = hub.env(tmp_path / "home", xet=xet)
        command = [sys.executable, "-c", CLIENT, str(tmp_path / "folder")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {
        "user": "local",
        "pushed": 50,
        "same": True,
        "files": [".gitattributes", "model.safetensors", "more.bin", "sub/note.md"],
        "exists": [False, True],
        "refs": [1, 2],
        "glob": ["org/model/sub/note.md"],
        "range": [232, 233, 234, 235],
        "gone": False,
    }


@pytest.mark.integration
def test_the_command_says_how_to_use_it_and_stops(tmp_path: Path) -> None:
    program = "from specdistill.cli.hub import app; app()"
    command = [sys.executable, "-c", program, "serve", str(tmp_path / "hub"), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    first, *more = [process.stdout.readline() for _ in range(4)]
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=20)
    rest += "".join(more)
    token = (tmp_path / "hub" / "token").read_text().strip()
    assert first.startswith("local hub at http://127.0.0.1:")
    assert "HF_ENDPOINT=http://127.0.0.1:" in rest
    assert "HF_HOME=$(mktemp -d)" in rest
    assert token not in first + rest + errors


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="is taken"):
        serve(tmp_path, taken.getsockname()[1], lambda url, token: None)


@pytest.mark.parametrize("words", [["a-file"], ["folder", "--port", "99999"], ["folder", "--port", "-1"]])
def test_a_place_or_port_that_cannot_be_is_refused_at_once(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("mine")
    done = CliRunner().invoke(app, ["serve", *words])
    assert done.exit_code == 2, done.output
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]
