"""The content-addressed store that Xet clients upload to and download from.

A client cuts files into chunks, packs chunks into *xorbs*, and sends a *shard* that says which chunks make up which
file. Formats and HTTP interface: the Xet protocol specification, huggingface.co/docs/xet. When a shard arrives, every
file in it is put together, checked against its SHA-256 and stored as an object, so plain HTTP readers get it too; the
xorbs are kept, since clients do not send again what they sent once.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from specdistill.cards.hub.model import HubError
from specdistill.cards.hub.objects import Objects, write_json

HASH = re.compile(r"[0-9a-f]{64}")
RECORD = 48
"""Bytes of every record of a shard."""
SHARD_TAG = b"HFRepoMetaData\x00Ui"
"""Start of a shard's 32-byte tag."""
VERIFIED, EXTENDED = 1 << 31, 1 << 30
"""File flags: as many verification records follow as there are terms; one record with the SHA-256 follows."""
BOOKEND = b"\xff" * 32
MAX_CHUNK = 16 << 20
PLAIN, LZ4, GROUPED_LZ4 = 0, 1, 2
"""Compression of a chunk; grouped: the bytes at positions 0, 4, 8, … first, then 1, 5, 9, … and so on."""


@dataclass(frozen=True)
class Term:
    """Chunks `start` to `end` (exclusive) of a xorb, `length` bytes when unpacked."""

    xorb: str
    start: int
    end: int
    length: int


@dataclass(frozen=True)
class XetFile:
    """One file of a shard."""

    hash: str
    sha256: str | None
    terms: tuple[Term, ...]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(term.length for term in self.terms)


@dataclass(frozen=True)
class Chunk:
    """Where a chunk lies in its xorb: `offset` of its header, `stored` bytes after it, `length` unpacked."""

    offset: int
    stored: int
    scheme: int
    length: int


def hash_text(raw: bytes) -> str:
    """A 32-byte hash as the protocol writes it: four little-endian 64-bit numbers, each in hex."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def read_shard(data: bytes) -> list[XetFile]:
    """The files of a shard.

    Raises:
        HubError: 400, it is cut short or no shard.
    """
    if not data.startswith(SHARD_TAG) or len(data) < RECORD:
        raise HubError(400, "This is no shard.")
    at = RECORD
    files = []
    try:
        while data[at : at + 32] != BOOKEND:
            name, flags, count = struct.unpack_from("<32sII", data, at)
            at += RECORD
            terms = []
            for number in range(count):
                xorb, _, length, start, end = struct.unpack_from("<32sIIII", data, at + number * RECORD)
                terms.append(Term(hash_text(xorb), start, end, length))
            at += count * RECORD * (2 if flags & VERIFIED else 1)
            digest = None
            if flags & EXTENDED:
                digest = hash_text(struct.unpack_from("<32s", data, at)[0])
                at += RECORD
            files.append(XetFile(hash_text(name), digest, tuple(terms)))
    except struct.error:
        raise HubError(400, "The shard is cut short.") from None
    return files


def chunks_of(handle: BinaryIO) -> Iterator[Chunk]:
    """The chunks of a xorb, by their headers; what follows them (a footer) is not read.

    Raises:
        HubError: 400, a header makes no sense.
    """
    offset = 0
    handle.seek(0, 2)
    size = handle.tell()
    while offset + 8 <= size:
        handle.seek(offset)
        header = handle.read(8)
        if header.startswith(b"XETBLOB"):
            return
        stored, length = (int.from_bytes(header[at : at + 3], "little") for at in (1, 5))
        if header[0] or header[4] > GROUPED_LZ4 or length > MAX_CHUNK or offset + 8 + stored > size:
            raise HubError(400, "The xorb has a chunk that cannot be read.")
        yield Chunk(offset, stored, header[4], length)
        offset += 8 + stored


@lru_cache(maxsize=256)
def chunk_table(path: Path) -> tuple[Chunk, ...]:
    """The chunks of a stored xorb; xorbs never change.

    Raises:
        HubError: 400, it was not uploaded.
    """
    try:
        with open(path, "rb") as handle:
            return tuple(chunks_of(handle))
    except FileNotFoundError:
        raise HubError(400, f"The xorb {path.name} was not uploaded.") from None


def unpack(data: bytes, chunk: Chunk) -> bytes:
    """The bytes of a chunk.

    Raises:
        HubError: 400, it does not unpack to its length.
    """
    import pyarrow as pa

    if chunk.scheme == PLAIN:
        plain = data
    else:
        try:
            plain = pa.decompress(data, decompressed_size=chunk.length, codec="lz4", asbytes=True)
        except (pa.ArrowException, OSError) as exc:
            raise HubError(400, f"A chunk cannot be unpacked: {exc}") from exc
    if chunk.scheme == GROUPED_LZ4:
        whole = bytearray(len(plain))
        at = 0
        for lane in range(4):
            count = len(range(lane, len(plain), 4))
            whole[lane::4] = plain[at : at + count]
            at += count
        plain = bytes(whole)
    if len(plain) != chunk.length:
        raise HubError(400, "A chunk has another length than its header says.")
    return plain


def merged(terms: Iterable[Term]) -> dict[str, list[tuple[int, int]]]:
    """Chunk ranges to fetch of each xorb, overlapping and touching ones as one: clients look for the one range that
    holds a term."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for term in sorted(terms, key=lambda term: (term.xorb, term.start, term.end)):
        known = ranges.setdefault(term.xorb, [])
        if known and term.start <= known[-1][1]:
            known[-1] = (known[-1][0], max(known[-1][1], term.end))
        else:
            known.append((term.start, term.end))
    return ranges


class XetStore:
    """Xorbs and file recipes.

    State: a folder with `xorbs/HASH`, `files/HASH.json` and `by_sha256/DIGEST` (the file's hash).
    """

    def __init__(self, root: Path, objects: Objects) -> None:
        self.root, self.objects = root, objects

    def xorb(self, name: str) -> Path:
        """Where a xorb lies.

        Raises:
            HubError: 400, not a hash.
        """
        if not HASH.fullmatch(name):
            raise HubError(400, "This is no hash.")
        return self.root / "xorbs" / name[:2] / name

    def add_xorb(self, name: str, received: Path) -> bool:
        """Keep a received xorb after reading all its headers. Returns whether it is new."""
        place = self.xorb(name)
        if place.is_file():
            return False
        with open(received, "rb") as handle:
            if not sum(1 for _ in chunks_of(handle)):
                raise HubError(400, "The xorb has no chunks.")
        place.parent.mkdir(parents=True, exist_ok=True)
        received.replace(place)
        return True

    def add_shard(self, data: bytes) -> None:
        """Register the files of a shard: each is put together, checked and stored.

        Raises:
            HubError: 400, a xorb is missing or a file is not what its digest says.
        """
        for file in read_shard(data):
            with self.objects.receive() as incoming:
                for term in file.terms:
                    for piece in self.term_bytes(term):
                        incoming.write(piece)
                if file.sha256 is not None and incoming.digest != file.sha256:
                    raise HubError(400, f"The content of {file.hash} is not what its SHA-256 says.")
                digest = incoming.digest
                if not self.objects.has(digest):
                    incoming.keep()
            terms = [[term.xorb, term.start, term.end, term.length] for term in file.terms]
            write_json(self.recipe(file.hash), {"sha256": digest, "terms": terms})
            write_json(self.root / "by_sha256" / digest, file.hash)

    def term_bytes(self, term: Term) -> Iterator[bytes]:
        """The unpacked chunks of a term."""
        path = self.xorb(term.xorb)
        chunks = chunk_table(path)[term.start : term.end]
        with open(path, "rb") as handle:
            for chunk in chunks:
                handle.seek(chunk.offset + 8)
                yield unpack(handle.read(chunk.stored), chunk)

    def recipe(self, name: str) -> Path:
        """Where the terms of a file lie.

        Raises:
            HubError: 400, not a hash.
        """
        if not HASH.fullmatch(name):
            raise HubError(400, "This is no hash.")
        return self.root / "files" / name[:2] / f"{name}.json"

    def hash_of(self, digest: str) -> str | None:
        """The Xet hash of an object that came through Xet, by its SHA-256."""
        with suppress(FileNotFoundError):
            found: str = json.loads((self.root / "by_sha256" / digest).read_bytes())
            return found
        return None

    def reconstruction(self, name: str, start: int, end: int | None, link: Any) -> dict[str, Any]:
        """How to put a file, or bytes `start` to `end` (inclusive) of it, together from xorbs.

        Args:
            link: makes the URL a xorb can be read from.

        Raises:
            HubError: 404 unknown file, 416 the range lies behind its end.
        """
        try:
            raw = json.loads(self.recipe(name).read_bytes())
        except FileNotFoundError:
            raise HubError(404, "Unknown file.") from None
        terms = [Term(*term) for term in raw["terms"]]
        size = sum(term.length for term in terms)
        if start >= size and (start or size):
            raise HubError(416, "The range lies behind the end of the file.")
        last = size - 1 if end is None else min(end, size - 1)
        wanted: list[Term] = []
        offset = before = 0
        for term in terms:
            if before + term.length > start and before <= last:
                if not wanted:
                    offset = start - before
                wanted.append(term)
            before += term.length
        fetch: dict[str, list[dict[str, Any]]] = {}
        for name, ranges in merged(wanted).items():
            table = chunk_table(self.xorb(name))
            for low, high in ranges:
                chunks = table[low:high]
                span = {"start": chunks[0].offset, "end": chunks[-1].offset + 8 + chunks[-1].stored - 1}
                info = {"range": {"start": low, "end": high}, "url": link(name), "url_range": span}
                fetch.setdefault(name, []).append(info)
        return {
            "offset_into_first_range": offset,
            "terms": [
                {
                    "hash": term.xorb,
                    "unpacked_length": term.length,
                    "range": {"start": term.start, "end": term.end},
                }
                for term in wanted
            ],
            "fetch_info": fetch,
        }
