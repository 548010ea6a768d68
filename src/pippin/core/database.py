"""Tables and transactions of the store. :mod:`pippin.core.store` says what is kept in them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from pippin.core.errors import InputError, MissingExtra, StoreError

SCHEMA = 1
_PATIENCE = 30.0  # seconds to wait for another writer
_WRITERS = 0x70697070  # the number of the lock that writers on PostgreSQL take in turn

_tables = sa.MetaData()


def _table(name: str, *columns: sa.Column[Any] | sa.Constraint) -> sa.Table:
    # A row number of its own and UNIQUE on the hash: a hash as primary key makes the file twice as large and slow.
    number = sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)
    return sa.Table(name, _tables, number, *columns)


class _Text(sa.types.TypeDecorator[str]):
    """Text in which lone surrogates and NUL, which databases refuse, are escaped: names may come from hostile data."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _text(name: str, **options: Any) -> sa.Column[str]:
    return sa.Column(name, _Text, nullable=False, **options)


schema = sa.Table("pippin_schema", _tables, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
calls = _table(
    "calls", _text("id", unique=True), _text("model"), sa.Column("failed", sa.Boolean, nullable=False),
    sa.Column("created", sa.Double, nullable=False), _text("body"),
)  # fmt: skip
judgements = _table(
    "judgements", _text("id", unique=True), _text("prompt_id", index=True), _text("by", index=True), _text("parser"),
    _text("kind"), sa.Column("created", sa.Double, nullable=False), _text("body"),
)  # fmt: skip
# A judgement stands once; the runs that stated it refer to it.
statements = _table("statements", _text("run"), _text("judgement"), sa.UniqueConstraint("run", "judgement"))
cells = _table(
    "cells", _text("key", unique=True), sa.Column("created", sa.Double, nullable=False), _text("manifest"),
    _text("result"),
)  # fmt: skip
leases = _table(
    "leases", _text("key", unique=True), _text("owner"), sa.Column("expires", sa.Double, nullable=False)
)  # fmt: skip


_left_behind: list[sa.Engine] = []  # engines of a parent process; closing them here could touch the parent's locks


def server_url(text: str) -> sa.URL:
    """A URL of a store on a server.

    Raises:
        InputError: it is no URL of a PostgreSQL database.
    """
    try:
        url = sa.make_url(text)
    except (SQLAlchemyError, ValueError):
        url = None
    if url is None or url.get_backend_name() != "postgresql":  # not repeated in the message: it may hold a password
        raise InputError("not the URL of a store", expected="postgresql://user@host/database, or a file's path")
    return url.set(drivername="postgresql+psycopg")


class Database:
    """A SQLite file or a PostgreSQL database, opened at first use and anew in every process."""

    def __init__(self, url: sa.URL) -> None:
        self.url = url
        self._engine: sa.Engine | None = None
        self._process = 0

    def __str__(self) -> str:
        return self.url.database if self.is_sqlite and self.url.database else self.url.render_as_string()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None}

    def close(self) -> None:
        if self._engine is not None and self._process == os.getpid():
            self._engine.dispose()
        self._engine = None

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def size(self) -> int:
        """Bytes of the SQLite file and of what lies beside it; 0 for a server's database."""
        files = [Path(f"{self}{end}") for end in ("", "-wal", "-shm")] if self.is_sqlite else []
        return sum(file.stat().st_size for file in files if file.exists())

    def insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def add(self, insert: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            with self.transaction() as connection:
                connection.execute(insert, list(rows))

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sa.Connection]:
        """One transaction. A writing one takes the write lock at its start, so that it never gives up half-way."""
        try:
            with self._open().connect() as connection:
                connection = connection.execution_options(pippin_write=write)
                with connection.begin():
                    yield connection
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise StoreError(f"{self}: {' '.join(str(cause).split())}") from error

    def _open(self) -> sa.Engine:
        if self._engine is not None and self._process != os.getpid():
            _left_behind.append(self._engine)
            self._engine = None
        if self._engine is None:
            engine = _sqlite_engine(self.url) if self.is_sqlite else _server_engine(self.url)
            _prepare(engine, str(self))
            self._engine, self._process = engine, os.getpid()
        return self._engine


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    try:
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{url.database}: cannot be made: {error.strerror}") from error
    engine = sa.create_engine(url, connect_args={"timeout": _PATIENCE})

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _(connection: sa.Connection) -> None:
        write = connection.get_execution_options().get("pippin_write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _server_engine(url: sa.URL) -> sa.Engine:
    try:
        engine = sa.create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise MissingExtra("psycopg", "pg", "a store on PostgreSQL") from None

    @event.listens_for(engine, "begin")
    def _(connection: sa.Connection) -> None:
        # One writer at a time, as in SQLite: two that add the same rows in other orders would lock each other out.
        if connection.get_execution_options().get("pippin_write", True):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")

    return engine


def _write_ahead(connection: Any) -> None:
    """Switch to write-ahead mode. The switch does not wait for other processes by itself, so it is tried again."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except connection.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _prepare(engine: sa.Engine, name: str) -> None:
    """Make the tables, or refuse a store of another version."""
    try:
        with engine.connect().execution_options(pippin_write=False) as connection:
            version = _version(connection)
        if version is None:
            with engine.begin() as connection:
                version = _version(connection)
                if version is None:
                    _tables.create_all(connection)
                    connection.execute(sa.insert(schema), {"version": SCHEMA})
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise StoreError(f"{name}: cannot be opened: {' '.join(str(cause).split())}") from error
    if version is not None and version > SCHEMA:
        raise StoreError(
            f"{name}: written by a newer Pippin (store version {version}, this one knows {SCHEMA}); update Pippin, "
            "or set PIPPIN_HOME to another folder"
        )


def _version(connection: sa.Connection) -> int | None:
    if not sa.inspect(connection).has_table(schema.name):
        return None
    return connection.execute(sa.select(sa.func.max(schema.c.version))).scalar()
