"""A real Argilla server for tests, started through the command line, and people who answer it over the API."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import httpx


class Argilla:
    """`specdistill audit serve` in a process of its own.

    State: process, address, accounts by name (credentials are shown once, in the first start).
    """

    def __init__(self, home, annotators=("ann", "bob", "cleo")):
        self.home, self.annotators, self.accounts, self.port = home, annotators, {}, 0
        self.start()

    def start(self):
        """Start, or start again on the same port."""
        named = [word for name in self.annotators for word in ("--annotator", name)]
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "specdistill.cli.app",
                "audit",
                "serve",
                "--home",
                str(self.home),
                "--port",
                str(self.port),
                "--json",
                *named,
            ],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        said = json.loads(self.read())
        self.url = said["url"]
        self.port = int(self.url.rpartition(":")[2])
        self.accounts |= {account["username"]: account for account in said["accounts"]}

    def read(self):
        """The JSON document it prints once it is up."""
        text = ""
        for line in self.process.stdout:
            text += line
            if line == "}\n":
                return text
        raise AssertionError(f"the server ended: {text}")

    def key(self, name="owner"):
        return self.accounts[name]["api_key"]

    def kill(self):
        """SIGKILL for the command; the server itself is a child in another group and is killed first."""
        import psutil

        for child in psutil.Process(self.process.pid).children(recursive=True):
            child.kill()
        self.process.kill()
        self.process.wait()

    def stop(self):
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(30)

    def http(self, name="owner"):
        """A client that speaks for an account."""
        return httpx.Client(
            base_url=f"{self.url}/api/v1", headers={"X-Argilla-API-Key": self.key(name)}, timeout=60, trust_env=False
        )

    def datasets(self):
        """Name to id."""
        with self.http() as http:
            return {item["name"]: item["id"] for item in http.get("/me/datasets").json()["items"]}

    def records(self, name):
        """External id to the server's record, responses included."""
        found, offset = [], 0
        with self.http() as http:
            while True:
                page = http.get(
                    f"/datasets/{self.datasets()[name]}/records",
                    params={"include": "responses,suggestions", "limit": 500, "offset": offset},
                ).json()
                found += page["items"]
                offset += len(page["items"])
                if offset >= page["total"] or not page["items"]:
                    break
        assert len({item["external_id"] for item in found}) == len(found), "a record is there twice"
        return {item["external_id"]: item for item in found}


def respond(http, record_id, status="submitted", **values):
    """One person's answer to one record; again changes it."""
    body = {"values": {name: {"value": value} for name, value in values.items()}, "status": status}
    done = http.post(f"/records/{record_id}/responses", json=body)
    assert done.status_code == 201, done.text
    return done.json()


def chromium():
    """A Chromium, and None where there is none."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
