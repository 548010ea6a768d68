"""The durable store: what was paid for or said, under the hash of all that determines it.

SQLite in write-ahead mode through SQLAlchemy Core; the same tables work on PostgreSQL for a team. What a method here
has returned from is on the disk (``synchronous = FULL``): a process may be killed at any instant, and several processes
may write at once (``BEGIN IMMEDIATE``, 30 seconds of patience). Write in batches: each call of an ``add_`` method is
one transaction, with one wait for the disk.

Nothing here knows of keys, headers or endpoints: a :class:`~pippin.core.types.Call` holds what was asked and answered.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pippin.core import database as db
from pippin.core.artifacts import Artifacts
from pippin.core.database import Database, server_url
from pippin.core.errors import InputError
from pippin.core.run import home, replacing
from pippin.core.types import Call, Choice, Judgement, Note, Ranking, Score, from_row, plain, to_row

_CHUNK = 500  # ids in one query; SQLite takes 999 at least
_JUDGEMENTS: Mapping[str, type] = {"choice": Choice, "ranking": Ranking, "score": Score, "note": Note}


def judgement_from_row(row: Mapping[str, Any], *, where: str = "") -> Judgement:
    """A judgement of any kind from a plain dict; ``kind`` says which.

    Raises:
        InputError: no such kind, or as :func:`pippin.core.types.from_row`.
    """
    cls = _JUDGEMENTS.get(row.get("kind", ""))
    if cls is None:
        raise InputError("not a judgement", where=where, found=row.get("kind"), expected=" or ".join(_JUDGEMENTS))
    return from_row(cls, row, where=where)


class Store:
    """One store of one or more processes. Opened at first use; usable as a context manager.

    Args:
        path: the SQLite file (``home()/store.db`` by default), or the URL of a PostgreSQL database. Artifacts
            lie in ``artifacts`` beside the file, with a URL in ``home()/artifacts``.

    Every method raises StoreError where the database cannot be opened, read or written, or is of a newer Pippin.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        if isinstance(path, str) and "://" in path:
            url, folder = server_url(path), home()
        else:
            file = Path(path).expanduser().absolute() if path else home() / "store.db"
            url, folder = sa.URL.create("sqlite", database=str(file)), file.parent
        self._database = Database(url)
        self.artifacts = Artifacts(folder / "artifacts")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of this process; the next use opens them again."""
        self._database.close()

    # Calls

    def call(self, call_id: str) -> Call | None:
        """The call with this id, or None. It may be a stored failure."""
        return self.calls([call_id]).get(call_id)

    def calls(self, ids: Iterable[str]) -> dict[str, Call]:
        """The stored calls among ``ids``, by id; the others are left out."""
        found: dict[str, Call] = {}
        with self._database.transaction(write=False) as connection:
            for some in _chunks(ids):
                rows = connection.execute(sa.select(db.calls.c.id, db.calls.c.body).where(db.calls.c.id.in_(some)))
                found.update({row.id: from_row(Call, json.loads(row.body)) for row in rows})
        return found

    def add_calls(self, calls: Iterable[Call]) -> None:
        """Store calls; on the disk when this returns. A stored success stays; a stored failure yields to a success."""
        rows: dict[str, dict[str, Any]] = {}
        for call in calls:
            failed = call.stop == "error" or call.error is not None
            call_id, body = _id_and_body(call)
            if call_id not in rows or (rows[call_id]["failed"] and not failed):
                rows[call_id] = {"id": call_id, "model": call.model, "failed": failed, "created": time.time(),
                                 "body": body}  # fmt: skip
        insert = self._database.insert(db.calls)
        new = insert.excluded
        insert = insert.on_conflict_do_update(
            index_elements=["id"],
            set_={name: new[name] for name in ("model", "failed", "created", "body")},
            where=db.calls.c.failed.is_(True) & new.failed.is_(False),
        )
        self._database.add(insert, list(rows.values()))

    # Judgements

    def add_judgements(self, judgements: Iterable[Judgement], run: str = "") -> None:
        """Append judgements, each once, and note that ``run`` stated them. Nothing is ever replaced."""
        rows: dict[str, dict[str, Any]] = {}
        for said in judgements:
            judgement_id, body = _id_and_body(said)
            rows[judgement_id] = {"id": judgement_id, "prompt_id": said.prompt_id, "by": said.by, "kind": said.kind,
                                  "parser": getattr(said, "parser", ""), "created": time.time(),
                                  "body": body}  # fmt: skip
        stated = [{"run": run, "judgement": judgement_id} for judgement_id in rows]
        with self._database.transaction() as connection:
            if rows:
                connection.execute(self._database.insert(db.judgements).on_conflict_do_nothing(), list(rows.values()))
                connection.execute(self._database.insert(db.statements).on_conflict_do_nothing(), stated)

    def judgements(
        self,
        by: str | None = None,
        prompt_ids: Iterable[str] | None = None,
        parser: str | None = None,
        run: str | None = None,
    ) -> list[Judgement]:
        """The judgements that satisfy all that is given, each once, in the order in which they were first stored."""
        query = sa.select(db.judgements.c.number, db.judgements.c.body)
        for column, value in ((db.judgements.c.by, by), (db.judgements.c.parser, parser)):
            if value is not None:
                query = query.where(column == value)
        if run is not None:
            query = query.join(db.statements, db.statements.c.judgement == db.judgements.c.id).where(
                db.statements.c.run == run
            )
        queries = [query]
        if prompt_ids is not None:
            queries = [query.where(db.judgements.c.prompt_id.in_(some)) for some in _chunks(prompt_ids)]
        with self._database.transaction(write=False) as connection:
            rows = sorted(tuple(row) for part in queries for row in connection.execute(part))
        return [judgement_from_row(json.loads(body)) for _, body in rows]

    # Cells: finished parts of a comparison

    def cell(self, key: str) -> dict[str, Any] | None:
        """``{"manifest": ..., "result": ...}`` of a finished cell, or None."""
        with self._database.transaction(write=False) as connection:
            query = sa.select(db.cells.c.manifest, db.cells.c.result).where(db.cells.c.key == key)
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return {"manifest": json.loads(row.manifest), "result": json.loads(row.result)}

    def add_cell(self, key: str, manifest: Mapping[str, Any], result: Any) -> None:
        """Store a finished cell. The first writer wins: a stored cell stays as it is."""
        row = {"key": key, "created": time.time(), "manifest": _json(dict(manifest)), "result": _json(result)}
        self._database.add(self._database.insert(db.cells).on_conflict_do_nothing(), [row])

    # Artifacts: folders

    def artifact(self, key: str) -> Path | None:
        """The complete folder that was written under ``key``, or None."""
        return self.artifacts.find(key)

    def writing(self, key: str) -> AbstractContextManager[Path]:
        """See :meth:`Artifacts.writing`."""
        return self.artifacts.writing(key)

    # Leases: who works on what

    def lease(self, key: str, owner: str, seconds: float) -> bool:
        """Take or renew the lease on ``key``; False while another owner's has not run out.

        A lease saves double work and never guards correctness: everything stored is idempotent. Clocks are the
        machines' own.
        """
        now = time.time()
        insert = self._database.insert(db.leases)
        insert = insert.on_conflict_do_update(
            index_elements=["key"],
            set_={"owner": insert.excluded.owner, "expires": insert.excluded.expires},
            where=(db.leases.c.owner == owner) | (db.leases.c.expires <= now),
        )
        with self._database.transaction() as connection:
            connection.execute(insert, {"key": key, "owner": owner, "expires": now + seconds})
            holder = connection.execute(sa.select(db.leases.c.owner).where(db.leases.c.key == key)).scalar_one()
        return holder == owner

    def release(self, key: str, owner: str) -> None:
        """Give the lease on ``key`` back, where ``owner`` holds it."""
        with self._database.transaction() as connection:
            connection.execute(sa.delete(db.leases).where(db.leases.c.key == key, db.leases.c.owner == owner))

    # Care

    def size(self) -> dict[str, int]:
        """Counts of rows, failed calls and artifacts; bytes of the database and of the artifacts."""
        counts: dict[str, int] = {}
        with self._database.transaction(write=False) as connection:
            for table in (db.calls, db.judgements, db.cells, db.leases):
                counts[table.name] = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            failed = sa.select(sa.func.count()).where(db.calls.c.failed.is_(True))
            counts["failed_calls"] = connection.execute(failed).scalar_one()
        counts["artifacts"], counts["artifact_bytes"] = self.artifacts.size()
        counts["database_bytes"] = self._database.size()
        return counts

    def export(self, path: str | Path) -> dict[str, int]:
        """Write ``calls.jsonl``, ``judgements.jsonl`` and ``cells.jsonl`` into the folder ``path``.

        Returns:
            The number of rows of each file. Every row is a record as :func:`~pippin.core.types.to_row` gives it.
        """
        folder, written = Path(path), {}
        makers = {
            "calls": (db.calls, lambda row: to_row(from_row(Call, json.loads(row.body)))),
            "judgements": (db.judgements, lambda row: to_row(judgement_from_row(json.loads(row.body)))),
            "cells": (db.cells, lambda row: {"key": row.key, "manifest": json.loads(row.manifest),
                                           "result": json.loads(row.result)}),
        }  # fmt: skip
        with self._database.transaction(write=False) as connection:
            for name, (table, make) in makers.items():
                query = sa.select(table).order_by(table.c.number).execution_options(yield_per=_CHUNK)
                written[name] = 0
                with replacing(folder / f"{name}.jsonl") as file:
                    for row in connection.execute(query):
                        file.write(f"{_json(make(row))}\n".encode())
                        written[name] += 1
        return written

    def clean(self, *, failures: bool = False, artifacts_older_than: float | None = None) -> dict[str, int]:
        """Remove what dead writers left and leases that have run out; if asked, stored failures and old artifacts.

        Args:
            artifacts_older_than: in seconds.

        Returns:
            How many of each were removed.
        """
        with self._database.transaction() as connection:
            leases = connection.execute(sa.delete(db.leases).where(db.leases.c.expires <= time.time())).rowcount
            gone = (
                connection.execute(sa.delete(db.calls).where(db.calls.c.failed.is_(True))).rowcount if failures else 0
            )
        unfinished, old = self.artifacts.clean(artifacts_older_than)
        return {"leases": leases, "failed_calls": gone, "unfinished": unfinished, "artifacts": old}


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    unique = list(dict.fromkeys(ids))
    for start in range(0, len(unique), _CHUNK):
        yield unique[start : start + _CHUNK]


def _id_and_body(record: Any) -> tuple[str, str]:
    """The id, which is costly to compute, and all else as JSON."""
    row = to_row(record)
    return row.pop("id"), _json(row)


def _json(value: Any) -> str:
    # ASCII with escapes: hostile text may hold lone surrogates and NUL, which UTF-8 columns cannot.
    return json.dumps(value, sort_keys=True, default=plain)
