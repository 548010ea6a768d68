"""The batch interface against a local server that keeps files and batches."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from aiohttp import web
from lm_server import Server
from lm_tiny import completion

from pippin.core.errors import InputError
from pippin.core.store import Store
from pippin.core.types import Key, Request, user
from pippin.lm import endpoint as ep
from pippin.lm import models
from pippin.lm.api import Api
from pippin.lm.batch import Batch
from pippin.lm.engine import run

KEY = "sk-very-secret-0123456789"


class Batches(Server):
    """Files and batches; a batch is over after ``looks`` looks. ``judge`` says what becomes of a line's content."""

    def __init__(self):
        self.files, self.batches, self.looks, self.ill, self.instead = {}, {}, 2, 0, None
        self.judge = lambda content: 200
        super().__init__()

    def routes(self, app):
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{id}/content", self.content)
        app.router.add_post("/v1/batches", self.start)
        app.router.add_get("/v1/batches", self.list)
        app.router.add_get("/v1/batches/{id}", self.look)

    async def upload(self, request):
        self.headers.append(dict(request.headers))
        if self.ill:
            self.ill -= 1
            return web.json_response({"error": {"message": f"busy {KEY}"}}, status=503, headers={"retry-after-ms": "1"})
        form = await request.post()
        assert form["purpose"] == "batch" and form["file"].filename.endswith(".jsonl")
        name = f"file-{sum(key.startswith('file') for key in self.files)}"
        self.files[name] = form["file"].file.read()
        return web.json_response({"id": name})

    async def start(self, request):
        order = await request.json()
        assert (order["endpoint"], order["completion_window"]) == ("/v1/chat/completions", "24h")
        name = f"batch-{len(self.batches)}"
        self.batches[name] = {"id": name, "input_file_id": order["input_file_id"], "status": "in_progress", "looks": 0}
        return web.json_response(self.batches[name])

    async def list(self, request):
        return web.json_response({"data": [*self.batches.values()]})

    async def look(self, request):
        if self.instead:
            return await self.instead(request)
        batch = self.batches[request.match_info["id"]]
        batch["looks"] += 1
        if batch["looks"] > self.looks and batch["status"] == "in_progress":
            good, bad = [], []
            for line in self.files[batch["input_file_id"]].splitlines():
                row = json.loads(line)
                content = row["body"]["messages"][-1]["content"]
                self.bodies.append(row["body"])
                status = self.judge(content)
                body = completion(f"re: {content}") if status == 200 else {"error": {"message": "no"}}
                if status:
                    answer = {"custom_id": row["custom_id"], "response": {"status_code": status, "body": body}}
                    (good if status == 200 else bad).append(json.dumps({**answer, "error": None}))
            name = batch["id"]
            self.files[f"{name}-good"] = "\n".join(reversed(good)).encode()
            self.files[f"{name}-bad"] = "\n".join(bad).encode()
            batch |= {"status": "completed", "output_file_id": f"{name}-good", "error_file_id": f"{name}-bad"}
        return web.json_response(batch)

    async def content(self, request):
        return web.Response(body=self.files[request.match_info["id"]])


@pytest.fixture
def server():
    server = Batches()
    yield server
    server.close()


@pytest.fixture
def batch(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    return Batch(ep.parse(f"gpt-4o-mini@{server.url}#TEST_KEY"), poll=0.01, deadline=2)


def requests(n):
    return [Request(Key(f"s{i}"), user(f"q{i}")) for i in range(n)]


def test_answers_through_one_batch(server, batch):
    calls = {c.key.subject: c for c in batch.answer(requests(5))}
    assert [calls[f"s{i}"].text for i in range(5)] == [f"re: q{i}" for i in range(5)]
    assert len(server.batches) == 1 and server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert calls["s0"].price == pytest.approx(0.5 * (10 * 0.15 + 4 * 0.60) / 1e6)
    api = Api(ep.parse(f"gpt-4o-mini@{server.url}#TEST_KEY"))
    assert (api.identity, api.name) == (batch.identity, batch.name)  # what one has stored the other uses


def test_what_fails_in_a_batch_is_a_failed_call_and_asked_again(server, batch, tmp_path):
    server.judge = lambda content: {"q1": 400, "q2": 0}.get(content, 200)

    def task(i):
        (call,) = yield [Request(Key(f"s{i}"), user(f"q{i}"))]
        return call.error or call.text

    with Store(tmp_path / "s.db") as store:
        got = run({f"t{i}": task(i) for i in range(4)}, {"": batch}, store)
        assert (got["t0"], got["t1"]) == ("re: q0", "HTTP 400: no")
        assert got["t2"] == "the batch is completed: no answer"
        server.judge = lambda content: 200
        again = run({f"t{i}": task(i) for i in range(4)}, {"": batch}, store)
    assert again == {f"t{i}": f"re: q{i}" for i in range(4)}
    assert len(server.batches) == 2 and len(server.files["file-1"].splitlines()) == 2


def test_a_refused_batch_says_why(server, batch):
    server.looks = 10**9

    async def look(request):
        problem = {"message": f"the key {KEY} has no right to this"}
        return web.json_response({"status": "failed", "errors": {"data": [problem]}})

    server.instead = look
    calls = list(batch.answer(requests(2)))
    assert {c.error for c in calls} == {"the batch is failed: the key [key] has no right to this"}


def test_a_busy_server_is_asked_again_and_a_dead_one_given_up(server, batch):
    server.ill = 2
    assert [c.stop for c in batch.answer(requests(1))] == ["end"]
    batch.endpoint, batch.deadline = ep.parse("m@http://127.0.0.1:9/v1"), 0.1
    (call,) = batch.answer(requests(1))
    assert call.stop == "error" and "cannot reach" in call.error


@pytest.mark.parametrize("moment", ["started", "answered"])
def test_a_killed_process_finds_its_batch(server, batch, moment, tmp_path):
    """Killed while it waits, or after the answers came and before they were stored: one batch in all."""
    server.looks = 10**9 if moment == "started" else 0
    script = textwrap.dedent(
        f"""
        import os, signal
        from pippin.core.types import Key, Request, user
        from pippin.lm import endpoint as ep
        from pippin.lm.batch import Batch
        batch = Batch(ep.parse("gpt-4o-mini@{server.url}#TEST_KEY"), poll=0.01)
        batch._start_ = batch._start
        def start(record):
            batch._start_(record)
            if {moment == "started"!r}:
                os.kill(os.getpid(), signal.SIGKILL)
        batch._start = start
        for call in batch.answer([Request(Key(f"s{{i}}"), user(f"q{{i}}")) for i in range(3)]):
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    killed = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    server.looks = 0
    assert {c.text for c in batch.answer(requests(4))} == {f"re: q{i}" for i in range(4)}
    assert [len(server.files[f"file-{k}"].splitlines()) for k in range(2)] == [3, 1]
    assert len(server.batches) == 2


def test_a_batch_that_was_started_but_not_noted_is_found(server, batch):
    records = batch._handed_in({batch._custom_id(r): r for r in requests(2)})
    records[0].batch, records[0].began = "", records[0].began - 60
    records[0].save()
    assert len(list(batch.answer(requests(2)))) == 2
    assert len(server.batches) == 1


def test_large_files_are_split(server, batch, monkeypatch):
    monkeypatch.setattr("pippin.lm.batch.MOST_REQUESTS", 3)
    assert len(list(batch.answer(requests(8)))) == 8
    assert len(server.batches) == 3


def test_by_name(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    model = models.resolve(f"openai/m@{server.url}?batch=1&deadline=3#TEST_KEY")
    assert isinstance(model, Batch) and model.deadline == 3 and model.prices is None
    assert isinstance(models.resolve(f"openai/m@{server.url}?batch=0"), Api)
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(InputError, match="TEST_KEY"):
        list(model.answer(requests(1)))


def test_the_key_is_in_no_file(server, batch, home):
    list(batch.answer(requests(2)))
    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"batch-0" in kept and KEY.encode() not in kept
