"""One process and its store."""

import json
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa
from core_records import call, choice
from core_strategies import calls, judgements
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from pippin.core import database
from pippin.core.errors import InputError, StoreError
from pippin.core.store import Store, judgement_from_row
from pippin.core.types import Call, Note, Outcome, Ranking, Score, from_row


def test_a_call_comes_back(store):
    one, two = call("a"), replace(call("b"), logprobs={"A": -0.25, "B": float("-inf")}, price=1e-5)
    store.add_calls([one, two])
    assert store.call(one.id) == one
    assert store.calls([two.id, "unknown", one.id]) == {one.id: one, two.id: two}
    assert store.call("unknown") is None


@settings(max_examples=15, deadline=None)
@given(records=st.lists(calls, max_size=4))
def test_any_call_comes_back(tmp_path_factory, records):
    with Store(tmp_path_factory.mktemp("store") / "s.db") as store:
        store.add_calls(records)
        expected = {}
        for record in records:
            held = expected.get(record.id)
            if held is None or ((held.stop == "error" or held.error is not None) and not (
                record.stop == "error" or record.error is not None
            )):  # fmt: skip
                expected[record.id] = record
        assert store.calls(expected) == expected


@settings(max_examples=15, deadline=None)
@given(records=st.lists(judgements, max_size=4, unique_by=lambda said: said.id))
def test_any_judgement_comes_back(tmp_path_factory, records):
    with Store(tmp_path_factory.mktemp("store") / "s.db") as store:
        store.add_judgements(records, run="r")
        assert store.judgements(run="r") == records


def test_more_ids_than_a_query_takes(store):
    many = [call(i) for i in range(1234)]
    store.add_calls(many)
    assert store.calls(c.id for c in many) == {c.id: c for c in many}


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [("ok", "other", "ok"), ("boom!", "ok", "ok"), ("ok", "boom!", "ok"), ("boom!", "bang!", "boom!")],
)
@pytest.mark.parametrize("together", [False, True])
def test_a_success_stays_and_a_failure_yields_to_a_success(store, first, second, kept, together):
    pair = [call("s", error=t) if t.endswith("!") else call("s", text=t) for t in (first, second)]
    for batch in [pair] if together else [[c] for c in pair]:
        store.add_calls(batch)
    held = store.call(pair[0].id)
    assert held is not None
    assert (held.error or held.text) == kept
    assert store.size()["calls"] == 1


def test_judgements_are_appended_once_and_filtered(store):
    said = [
        choice("p"), choice("q"), choice("p", by="other"), choice("p", parser="v2"),
        Score("p", "a", 0.5, "judge"), Ranking("p", ("a", "b"), (1, 1), "judge"), Note("q", ("a",), "why", "judge"),
    ]  # fmt: skip
    store.add_judgements(said[:4], run="one")
    store.add_judgements(said, run="two")
    store.add_judgements(said, run="two")
    store.add_judgements([], run="three")
    assert store.judgements() == said
    assert store.judgements(run="one") == said[:4]
    assert store.judgements(run="two") == said
    assert store.judgements(run="three") == []
    assert store.judgements(by="other") == [said[2]]
    assert store.judgements(prompt_ids=["q"]) == [said[1], said[6]]
    assert store.judgements(prompt_ids=[]) == []
    assert store.judgements(parser="v2") == [said[3]]
    assert store.judgements(by="judge", prompt_ids=["p", "q"], parser="v1", run="one") == said[:2]


def test_a_judgement_is_never_replaced(store):
    first = choice("p")
    store.add_judgements([first])
    store.add_judgements([replace(first, outcome=Outcome.SECOND)])  # another statement, beside the first
    assert [said.outcome for said in store.judgements()] == [Outcome.FIRST, Outcome.SECOND]


def test_the_first_writer_of_a_cell_wins(store):
    assert store.cell("k") is None
    store.add_cell("k", {"seed": 1, "rate": 1e-5}, {"value": [1.0, None]})
    store.add_cell("k", {"seed": 2}, {})
    assert store.cell("k") == {"manifest": {"seed": 1, "rate": 1e-5}, "result": {"value": [1.0, None]}}


def test_a_lease_is_held_renewed_released_and_taken_over(store):
    assert store.lease("k", "me", 60)
    assert not store.lease("k", "you", 60)
    assert store.lease("other", "you", 60)
    assert store.lease("k", "me", 0.05)  # renewed, for a shorter time
    store.release("k", "you")  # not the holder: nothing happens
    assert not store.lease("k", "you", 60)
    time.sleep(0.06)
    assert store.lease("k", "you", 60)
    assert not store.lease("k", "me", 60)
    store.release("k", "you")
    assert store.lease("k", "me", 60)


def test_size_and_clean(store):
    store.add_calls([call("a"), call("b", error="boom")])
    store.add_judgements([choice("p")])
    store.add_cell("k", {}, 1)
    store.lease("old", "me", -1)
    store.lease("new", "me", 60)
    size = store.size()
    assert {k: size[k] for k in ("calls", "failed_calls", "judgements", "cells", "leases", "artifacts")} == {
        "calls": 2, "failed_calls": 1, "judgements": 1, "cells": 1, "leases": 2, "artifacts": 0,
    }  # fmt: skip
    assert store.clean() == {"leases": 1, "failed_calls": 0, "unfinished": 0, "artifacts": 0}
    assert store.clean(failures=True)["failed_calls"] == 1
    assert (store.call(call("a").id), store.call(call("b").id)) == (call("a"), None)


def test_export_writes_rows_that_read_back(store, tmp_path):
    said, one = choice("p", by="\ud83d\0"), call("a", text="\ud83d\0é")
    store.add_calls([one])
    store.add_judgements([replace(said, by="judge")])
    store.add_cell("k", {"a": 1}, {"b": 2})
    assert store.export(tmp_path / "out") == {"calls": 1, "judgements": 1, "cells": 1}
    rows = {
        name: [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("calls", "judgements", "cells")
    }
    assert [from_row(Call, row) for row in rows["calls"]] == [one]
    assert [judgement_from_row(row) for row in rows["judgements"]] == [replace(said, by="judge")]
    assert rows["cells"] == [{"key": "k", "manifest": {"a": 1}, "result": {"b": 2}}]


def test_nothing_is_opened_before_it_is_needed(tmp_path):
    store = Store(tmp_path / "deep" / "s.db")
    assert not (tmp_path / "deep").exists()
    assert store.artifact("k") is None
    store.add_calls([call("a")])
    store.close()
    assert store.call(call("a").id) == call("a")  # opens itself again
    store.close()


def test_the_default_is_home(tmp_path):
    with Store() as store:
        store.add_calls([call("a")])
        with store.writing("k") as folder:
            (folder / "x").touch()
    assert (tmp_path / "home" / "store.db").is_file()
    assert (tmp_path / "home" / "artifacts" / "k" / "x").is_file()


def test_every_connection_is_write_ahead_and_waits_for_the_disk(tmp_path):
    with Store(tmp_path / "s.db") as store, store._database.transaction(write=False) as connection:
        pragma = {p: connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous")}
        assert pragma == {"journal_mode": "wal", "synchronous": 2}
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_opening_waits_for_another_that_is_at_it(tmp_path, lock):
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None, check_same_thread=False)
    other.execute(lock)
    threading.Timer(0.3, lambda: other.execute("COMMIT")).start()
    with Store(tmp_path / "s.db") as store:
        store.add_calls([call("a")])
    other.close()


def test_a_newer_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE pippin_schema (version INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO pippin_schema VALUES (99)")
    with pytest.raises(StoreError, match=r"s\.db: written by a newer Pippin \(store version 99, this one knows 1\)"):
        Store(path).size()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("pippin_schema",)]


def test_what_is_no_store_is_refused(tmp_path):
    path = tmp_path / "s.db"
    path.write_text("Dear diary, today I opened a text file as a database. " * 50)
    with pytest.raises(StoreError, match=r"s\.db: cannot be opened: file is not a database"):
        Store(path).call("x")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        Store(tmp_path / "file" / "s.db").call("x")


def test_urls_are_refused_without_repeating_them():
    for url in ("mysql://me:hush@host/db", "postgres ql://me:hush@host", "postgresql://me:hush@host:port/db"):
        with pytest.raises(InputError, match="not the URL of a store") as caught:
            Store(url)
        assert "hush" not in str(caught.value)


def test_a_server_store_hides_its_password():
    assert "hush" not in str(Store("postgresql://me:hush@host/db")._database)


def test_the_tables_compile_for_postgresql():
    statements = [
        str(sa.schema.CreateTable(table).compile(dialect=postgresql.dialect()))
        for table in database._tables.sorted_tables
    ]
    assert len(statements) == 6
    assert all("BIGSERIAL" in text for text in statements if "pippin_schema" not in text)


def test_a_store_goes_to_another_process(tmp_path):
    store = Store(tmp_path / "s.db")
    store.add_calls([call("a")])
    again = pickle.loads(pickle.dumps(store))
    assert again.call(call("a").id) == call("a")
    again.close()
    store.close()


def test_a_forked_child_opens_its_own(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.add_calls([call("parent")])
        engine = store._database._engine
        child = os.fork()
        if child == 0:  # no pytest machinery may run in the child
            try:
                store.add_calls([call("child")])
                os._exit(0 if store._database._engine is not engine else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        store.add_calls([call("parent again")])
        assert store.size()["calls"] == 3


def test_reading_needs_no_lock(tmp_path):
    with Store(tmp_path / "s.db") as store, Store(tmp_path / "s.db") as reader:
        store.add_calls([call("a")])
        with store._database.transaction():  # a writer at work
            start = time.monotonic()
            assert reader.call(call("a").id) == call("a")
            assert time.monotonic() - start < 5


def test_the_store_module_loads_nothing_heavy():
    code = "import pippin.core.store, sys; print(sorted({'torch', 'numpy', 'pyarrow', 'aiohttp'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
