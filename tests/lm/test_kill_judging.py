"""A run of judgements that is killed again and again: nothing is lost, nothing is paid for twice."""

import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from bisect import bisect
from collections import Counter
from itertools import pairwise

import pytest
from lm_server import Server
from lm_tiny import completion

from pippin.core.store import Store

KEY = "sk-very-secret-0123456789"
DURABLE = 1.0  # seconds within which an answer is on the disk
ON_THE_WAY = 64  # answers that a client without a turn on a busy machine has not read yet: twice its connections


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


SCRIPT = textwrap.dedent(
    """
    import sys
    from pippin.core.store import Store
    from pippin.core.types import Prompt, Response, assistant, user
    from pippin.judge.ask import Pair
    from pippin.judge.resolve import resolve
    pairs = []
    for i in range(int(sys.argv[2])):
        prompt = Prompt(user(f"question {i}"))
        pairs.append(Pair(prompt, *(Response(prompt.id, assistant(f"{i}: {text}"), text) for text in ("yes", "no"))))
    print("ready", flush=True)
    with Store() as store:
        said = resolve(f"openai/m@{sys.argv[1]}?max_connections=32:vanilla").compare(pairs, store=store)
    print(sum(not choice.outcome.missing for choice in said))
    """
)


def killed_and_resumed(server, home, pairs, kills, seed):
    async def behave(body, tries):
        await asyncio.sleep(0.02 + 0.02 * random.random())
        return completion("(a)")

    server.behave = behave
    command = [sys.executable, "-c", SCRIPT, server.url, str(pairs)]
    environment = {**os.environ, "PIPPIN_HOME": str(home), "OMP_NUM_THREADS": "1"}
    rng, killed_at = random.Random(seed), []
    whole = 2 * pairs * 0.03 / 32  # seconds that a run takes at least
    for _ in range(kills):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 2.5 * whole / kills + 0.15))
            process.send_signal(signal.SIGKILL)
            killed_at.append(time.monotonic())
            process.wait()
    last = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert last.stdout.split() == ["ready", str(2 * pairs)]
    assert last.stderr == ""

    with Store(home / "store.db") as store:
        said = store.judgements()
        assert len(said) == len({(c.prompt_id, c.first, c.second) for c in said}) == 2 * pairs
        assert store.size()["calls"] == 2 * pairs and store.size()["failed_calls"] == 0
        assert len(store.calls([call for choice in said for call in choice.calls])) == 2 * pairs

    asked = {}
    for content, arrived, answered in server.log:
        asked.setdefault(content, []).append((arrived, answered))
    assert len(asked) == 2 * pairs
    answers = sorted(answered for _, _, answered in server.log if answered is not None)
    for times in asked.values():
        for (_, answered), (again, _) in pairwise(times):
            kill = max(when for when in killed_at if when < again)
            later = bisect(answers, kill) - bisect(answers, answered or math.inf)
            assert later < ON_THE_WAY or answered > kill - DURABLE, "asked again although it was stored"
    return sum(len(times) - 1 for times in asked.values())


def test_killed_four_times(server, tmp_path):
    killed_and_resumed(server, tmp_path / "home", 100, 4, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_fifty_times(server, tmp_path):
    killed_and_resumed(server, tmp_path / "home", 1000, 50, seed=1)


def pippin(*arguments, home, **environment):
    command = [sys.executable, "-c", "from pippin.app.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "PIPPIN_HOME": str(home), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def pairs_file(path, n):
    rows = ({"prompt": f"question {i}", "chosen": f"{i}: yes", "rejected": f"{i}: no"} for i in range(n))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_whatever_is_wrong_with_a_server_the_same_command_finishes_later(server, tmp_path):
    """Too busy, broken, garbage, dead connections, too slow, a wrong key: FAILED, exit code 3, and no key anywhere."""
    ill = True

    async def behave(body, tries):
        from aiohttp import web

        text = body["messages"][-1]["content"]
        trouble = next((k for k in range(6) if f"question {k}\n" in text), None) if ill else None
        if trouble in (0, 1, 5):
            status, told = {0: (429, "slow down"), 1: (500, "broken"), 5: (401, f"bad key {KEY}")}[trouble]
            return web.json_response({"error": {"message": told}}, status=status)
        if trouble == 2:
            return web.Response(text="<html>garbage")
        if trouble == 3:
            return None
        if trouble == 4:
            await asyncio.sleep(2)
        return completion("(a)")

    server.behave = behave
    file, out, home = pairs_file(tmp_path / "pairs.jsonl", 12), tmp_path / "said.jsonl", tmp_path / "home"
    name = f"openai/m@{server.url}?timeout=0.3&deadline=1#TEST_KEY"
    first = pippin("judge", name, file, "--out", out, home=home, TEST_KEY=KEY)
    assert first.returncode == 3, first.stderr
    assert "12 of 24 failed" in first.stderr and "Traceback" not in first.stderr
    outcomes = Counter(json.loads(line)["outcome"] for line in out.read_text().splitlines())
    assert outcomes["failed"] == 12
    healthy = {content for content, _, _ in server.log if not any(f"question {k}\n" in content for k in range(6))}
    assert all(server.tries[content] == 1 for content in healthy)

    ill = False
    second = pippin("judge", name, file, "--out", out, home=home, TEST_KEY=KEY)
    assert second.returncode == 0, second.stderr
    assert all(server.tries[content] == 1 for content in healthy)  # not asked again
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (kept.decode("utf-8", "replace"), first.stdout, first.stderr, second.stdout, second.stderr):
        assert KEY not in text and "0123456789" not in text


def test_a_server_that_is_down(tmp_path):
    server = Server()
    port = server.port
    server.close()
    file, out = pairs_file(tmp_path / "pairs.jsonl", 40), tmp_path / "said.jsonl"
    command = ("judge", f"openai/m@http://127.0.0.1:{port}/v1?deadline=1", file, "--out", out)
    down = pippin(*command, home=tmp_path / "home")
    assert down.returncode == 3, down.stderr
    assert "80 of 80 failed" in down.stderr

    async def behave(body, tries):
        return completion("(a)")

    server = Server(port)
    server.behave = behave
    try:
        assert pippin(*command, home=tmp_path / "home").returncode == 0
    finally:
        server.close()
    assert len(server.log) == 80


def test_a_traceback_has_no_key(server, tmp_path):
    script = textwrap.dedent(
        f"""
        from pippin.core.types import Key, Request, user
        from pippin.lm import models
        api = models.resolve("openai/m@{server.url}?deadline=1#TEST_KEY")
        for call in api.answer([Request(Key("s"), user("q")), None]):
            raise RuntimeError(call.error)
        """
    )

    async def behave(body, tries):
        return {"error": {"message": f"bad key {KEY}"}}

    server.behave = behave
    environment = {**os.environ, "PIPPIN_HOME": str(tmp_path), "TEST_KEY": KEY, "PYTHONASYNCIODEBUG": "1"}
    failed = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script], env=environment, capture_output=True, text=True
    )
    assert failed.returncode == 1 and "Traceback" in failed.stderr
    assert KEY not in failed.stderr + failed.stdout
