"""The real Argilla server on SQLite alone: no Elasticsearch, no Redis, no worker.

Run by the server environment's Python, with its settings in the environment and one line of JSON on standard input:

    {"host": "127.0.0.1", "port": 6900, "workspace": "audit",
     "accounts": [{"username": …, "role": "owner" | "annotator", "password": …, "api_key": …}]}

Accounts that exist get the password and key given. Prints `ready PORT` once it listens, and ends when standard input
closes, so that it never outlives who started it. What Argilla would hand to a
Redis queue is done in this process; its import from and export to the Hub are refused.
"""

import asyncio
import json
import socket
import sqlite3
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import argilla_server._app as application
import argilla_server.models.database as tables
import search  # noqa: F401 (registers the search engine)
import uvicorn
from alembic import command
from alembic.config import Config
from argilla_server.api.schemas.v1.chat import ChatFieldValue
from argilla_server.bulk.records_bulk import UpsertRecordsBulk
from argilla_server.contexts import accounts, records
from argilla_server.database import ALEMBIC_CONFIG_FILE, AsyncSessionLocal
from argilla_server.enums import UserRole
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.jobs import dataset_jobs, hub_jobs, webhook_jobs
from argilla_server.models import User, Workspace, WorkspaceUser
from argilla_server.settings import settings
from pydantic import TypeAdapter
from sqlalchemy import make_url, select

RUNNING: set[Any] = set()
"""Jobs under way; the event loop itself holds them only weakly."""


def migrate() -> None:
    """Bring the database to the server's schema. WAL mode lets readers and the one writer work at the same time."""
    path = make_url(settings.database_url).database
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    config = Config(ALEMBIC_CONFIG_FILE)
    config.attributes["configure_logger"] = False
    command.upgrade(config, "head")


def in_process(job: Any) -> Any:
    """A job's `delay` that starts it here instead of queueing it in Redis."""

    def delay(*args: Any, **kwargs: Any) -> None:
        task = asyncio.get_running_loop().create_task(job(*args, **kwargs))
        RUNNING.add(task)
        task.add_done_callback(RUNNING.discard)

    return delay


def refused(*_: Any, **__: Any) -> None:
    """The Hub jobs need a worker and the network."""
    raise UnprocessableEntityError("This server does not import from or export to the Hub; use specdistill publish.")


def adapt() -> None:
    """Replace what needs Redis, and mend three things of the server.

    - `Question.parsed_settings` builds a pydantic TypeAdapter for every value it checks: a third of the time of a
      bulk upsert. One adapter is enough.
    - For every record of a bulk upsert it reads the whole dataset definition anew (seven queries) to tell webhooks of
      it, also where nobody listens. It is asked once a request whether somebody does.
    - Updating a record with a chat field stores pydantic objects in a JSON column, which is a server error.
    """
    application.configure_redis = lambda: None
    dataset_jobs.update_dataset_records_status_job.delay = in_process(dataset_jobs.update_dataset_records_status_job)
    webhook_jobs.notify_event_job.delay = in_process(webhook_jobs.notify_event_job)
    hub_jobs.import_dataset_from_hub_job.delay = hub_jobs.export_dataset_to_hub_job.delay = refused

    adapter = cache(lambda kind: TypeAdapter(kind))
    tables.Question.parsed_settings = property(
        lambda self: adapter(tables.QuestionSettings).validate_python(self.settings)
    )
    tell = UpsertRecordsBulk._notify_upsert_record_events

    async def tell_who_listens(self: Any, upserted: list[Any]) -> None:
        if (await self._db.execute(select(tables.Webhook.id).where(tables.Webhook.enabled).limit(1))).first():
            await tell(self, upserted)

    UpsertRecordsBulk._notify_upsert_record_events = tell_who_listens
    update = records.update_record

    async def update_record(db: Any, engine: Any, record: Any, change: Any) -> Any:
        for name, value in (change.fields or {}).items() if change.is_set("fields") else ():
            if isinstance(value, list):
                change.fields[name] = [
                    turn.model_dump() if isinstance(turn, ChatFieldValue) else turn for turn in value
                ]
        return await update(db, engine, record, change)

    records.update_record = update_record


async def make_accounts(wanted: list[dict[str, Any]], workspace: str) -> None:
    """The workspace and the accounts, made or brought up to date."""
    async with AsyncSessionLocal() as db:
        place = await Workspace.get_by(db, name=workspace) or await Workspace.create(db, name=workspace)
        for account in wanted:
            values = {
                "first_name": account["username"],
                "role": UserRole(account["role"]),
                "password_hash": accounts.hash_password(account["password"]),
                "api_key": account["api_key"],
            }
            user = await User.get_by(db, username=account["username"])
            if user is None:
                user = await User.create(db, username=account["username"], **values)
            else:
                await user.update(db, **values)
            if await WorkspaceUser.get_by(db, workspace_id=place.id, user_id=user.id) is None:
                await WorkspaceUser.create(db, workspace_id=place.id, user_id=user.id)


def main() -> None:
    """Serve until the process is told to stop."""
    ask = json.loads(sys.stdin.readline())
    migrate()
    adapt()
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((ask["host"], ask["port"]))
    server = uvicorn.Server(uvicorn.Config(application.app, log_level="warning", access_log=False))

    def wait_for_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=wait_for_parent, daemon=True).start()

    async def serve() -> None:
        await make_accounts(ask["accounts"], ask["workspace"])
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not task.done():
            await asyncio.sleep(0.02)
        if server.started:
            sys.stdout.write(f"ready {listening.getsockname()[1]}\n")
            sys.stdout.flush()
        await task

    asyncio.run(serve())


if __name__ == "__main__":
    main()
