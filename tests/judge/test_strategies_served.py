"""Every strategy on a real model behind a real server: smollm2, served by ``transformers serve``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from judge_pairs import pair

from pippin.core import catalog
from pippin.core.errors import MissingExtra
from pippin.core.store import Store
from pippin.core.types import Call, Outcome, Request
from pippin.judge.ask import ORDERS
from pippin.judge.resolve import resolve
from pippin.lm import engine, models
from pippin.lm.api import Api

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TOKENS = 16
PAIRS = [
    pair("What is the capital of France?", "The capital of France is Paris.", "I like cheese."),
    pair("Name three colours.", "Red, green and blue.", "Colours are a matter of taste, and there are many of them."),
]


class Brief:
    """The model behind the server, its answers cut to a few tokens: a small model on a small machine."""

    concurrent = True

    def __init__(self, api: Api) -> None:
        self.api, self.name, self.asked = api, api.name, 0
        self.identity = f"{engine.identity(api)} in {TOKENS} tokens"

    def answer(self, requests: Sequence[Request]) -> Iterator[Call]:
        self.asked += len(requests)
        cut = [
            replace(r, sampling=replace(r.sampling, max_tokens=min(TOKENS, r.sampling.max_tokens))) for r in requests
        ]
        full = {(engine.request_digest(self.api.identity, c), c.key): r for c, r in zip(cut, requests, strict=True)}
        for call in self.api.answer(cut):
            asked = full[call.request, call.key]
            yield replace(call, request=engine.request_digest(self.identity, asked))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brief]:
    imports = pytest.importorskip("transformers.utils.import_utils")
    if not imports.is_serve_available():
        pytest.skip("transformers[serving] (fastapi, uvicorn, openai) is not installed")
    from pippin.lm import hf

    try:
        folder = hf.converted(hf.smollm2_file())
    except MissingExtra as missing:
        pytest.skip(str(missing))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("served") / "log.txt"
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--host", "127.0.0.1",
               "--port", str(port), "--device", "cpu", "--dtype", "float32"]  # fmt: skip
    with log.open("wb") as out:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for one another are slow on busy cores
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        for _ in range(240):
            assert server.poll() is None, log.read_text(errors="replace")[-2000:]
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
        api = models.resolve(f"openai/{folder}@{address}/v1", max_connections=2)
        assert isinstance(api, Api)
        yield Brief(api)
        api.close()
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one store for all: what several strategies ask alike is asked once."""
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize("name", catalog.names("strategies"))
def test_a_strategy_works_with_a_real_model(name: str, served: Brief, home: Path) -> None:
    strategy = catalog.load("strategies", name)
    cost = strategy.calls(strategy.config())
    with Store(home / "store.db") as store:
        before = served.asked
        said = resolve("s", models={"s": served}, strategy=name).compare(PAIRS, store=store)
        asked = served.asked - before
        assert asked <= len(PAIRS) * (cost.pair + cost.prompt + cost.more)
        known = store.calls([call for choice in said for call in choice.calls])
        again = resolve("s", models={"s": served}, strategy=name).compare(PAIRS, store=store)
    assert again == said and served.asked == before + asked  # the second time nothing is asked
    assert [(c.first, c.second) for c in said] == [tuple(r.id for r in p.shown(o)) for p in PAIRS for o in ORDERS]
    for choice in said:
        assert choice.outcome is not Outcome.FAILED and choice.calls
        for call in choice.calls:
            assert known[call].stop in ("end", "length") and known[call].completion_tokens
    print(name, asked, [str(choice.outcome) for choice in said])
