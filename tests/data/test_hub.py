"""Fetching data sets from the hub: against a small server of this machine, and without any."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pippin.core.errors import InputError
from pippin.data import hub
from pippin.data.rows import read_rows

ROW = {"question": "q", "label": "A>B"}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP as one download needs."""

    revision = "a" * 40
    files: ClassVar[dict[str, bytes]] = {
        "README.md": b"words", "load.py": b"raise SystemExit", "dataset_infos.json": b"{}", "weights.bin": b"x",
        "data/test.jsonl": json.dumps(ROW).encode() + b"\n", "data/copy.csv": b"a\n1\n",
    }  # fmt: skip
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name = self.path.partition(f"/resolve/{self.revision}/")[2]
        listing = [{"type": "file", "path": f, "size": len(b), "oid": "0" * 40} for f, b in self.files.items()]
        about = {"id": "org/pairs", "sha": self.revision, "siblings": [{"rfilename": file} for file in self.files]}
        body = self.files[name] if name else json.dumps(listing if "/tree/" in self.path else about).encode()
        self.send_response(200 if name or self.path.startswith("/api/datasets/org/pairs") else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.revision)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    pytest.importorskip("huggingface_hub")
    if os.environ.get("HF_HUB_OFFLINE"):
        pytest.skip("HF_HUB_OFFLINE is set")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")

    def stop() -> None:
        server.shutdown()
        server.server_close()

    yield stop
    stop()


def test_fetch_takes_rows_alone_and_needs_no_network_after(tmp_path: Path, served: Callable[[], None]) -> None:
    with pytest.raises(InputError, match="no/such cannot be fetched") as caught:
        hub.fetch("no/such", tmp_path)
    assert "name the local file" in str(caught.value)
    Hub.asked.clear()
    folder = hub.fetch("org/pairs", tmp_path)
    assert tmp_path in folder.parents
    assert [str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()] == ["data/test.jsonl"]
    assert not any(name in path for path in Hub.asked for name in ("load.py", "weights.bin", "copy.csv"))
    assert [row for _, row in read_rows(folder / "data" / "test.jsonl")] == [ROW]
    served()
    assert hub.fetch("org/pairs", tmp_path) == folder


@pytest.mark.parametrize("name", ["org/pairs", "pairs", "../..", "https://x/y", ""])
def test_fetch_without_a_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the port of nobody
    with pytest.raises(InputError, match="name the local file or folder instead") as caught:
        hub.fetch(name, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*"))


def test_one_safe_format_is_chosen() -> None:
    assert hub.choose(["b.parquet", "a/x.parquet", "rows.jsonl", "run.py"]) == ["a/x.parquet", "b.parquet"]
    assert hub.choose(["rows.JSONL.gz", "dataset_infos.json", "x.csv"]) == ["rows.JSONL.gz"]
    assert hub.choose(["load.py", "model.pkl", "../out.csv", "/etc/x.csv", "README.md"]) == []
