"""The books of a run: what it spent (:class:`Ledger`), what it stood on (:func:`environment`), what it was made of.

Files are written atomically, so a run's folder never holds half a result.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import canonical, digest, plain

Rule = Literal["sum", "max", "last"]


def home() -> Path:
    """Where the store and the caches lie: ``PIPPIN_HOME``, or ``~/.cache/pippin``. Not created here."""
    return Path(os.environ.get("PIPPIN_HOME") or "~/.cache/pippin").expanduser().absolute()


def _column(unit: str, help: str, rule: Rule, default: float | None = 0) -> Any:
    return field(default=default, metadata={"unit": unit, "help": help, "rule": rule})


@dataclass
class Ledger:
    """What a run has spent and what it ended with. Comparisons match arms on any one of these columns.

    Each column has a unit, a sentence and a rule by which counts come together: ``sum``, ``max``, or ``last`` (a
    property of the final policy, None until measured). :meth:`columns` lists them.
    """

    prompts_seen: int = _column("prompts", "Prompts that a training step used, repeats counted", "sum")
    policy_tokens_sampled: int = _column("tokens", "Tokens that the policy generated in training", "sum")
    scorer_calls: int = _column("responses", "Responses scored by a reward model, rule or program", "sum")
    judge_calls: int = _column("calls", "Requests to a judging language model, stored ones counted", "sum")
    labels: int = _column("labels", "Preferences, rankings, scores or demonstrations used", "sum")
    gradient_tokens: int = _column("tokens", "Tokens forwarded with gradient, all trained networks together", "sum")
    steps: int = _column("steps", "Optimizer steps", "sum")
    wall_clock: float = _column("seconds", "Time from start to end, resumed parts added", "sum", 0.0)
    peak_memory: int = _column("bytes", "Largest memory held at once", "max")
    inference_multiplier: float = _column("responses per answer", "What one answer costs: n of best-of-n", "max", 1.0)
    kl: float | None = _column("nats per response", "KL of the final policy from its reference", "last", None)
    mean_length: float | None = _column("tokens", "Mean response length of the final policy", "last", None)
    share_without_end: float | None = _column(
        "share", "Responses of the final policy that never ended by themselves", "last", None
    )

    def add(self, **counts: float | None) -> None:
        """Enter ``counts``, each by its column's rule.

        Raises:
            UnknownName: no such column.
            InputError: a ``sum`` or ``max`` column was given a negative number or one that is not finite.
        """
        known = {f.name: f for f in fields(self)}
        for name, count in counts.items():
            if name not in known:
                raise UnknownName("ledger column", name, known)
            rule: Rule = known[name].metadata["rule"]
            count = plain(count) if hasattr(count, "item") else count
            if rule == "last":
                setattr(self, name, getattr(self, name) if count is None else count)
                continue
            if count is None or not 0 <= count < float("inf"):
                raise InputError(f"the ledger's {name} only grows", found=count, expected="a number of 0 or more")
            held = getattr(self, name)
            setattr(self, name, held + count if rule == "sum" else max(held, count))

    def merge(self, later: Ledger) -> Ledger:
        """A new ledger of this stage and a ``later`` one of the same arm."""
        both = Ledger(**self.to_row())
        both.add(**later.to_row())
        return both

    def to_row(self) -> dict[str, Any]:
        """Every column by name, unmeasured ones as None."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def columns(cls) -> dict[str, tuple[str, str]]:
        """Unit and meaning of every column."""
        return {f.name: (f.metadata["unit"], f.metadata["help"]) for f in fields(cls)}


_LIBRARIES = (
    "pippin", "torch", "transformers", "tokenizers", "safetensors", "peft", "gguf", "numpy", "scipy", "pyarrow",
    "pydantic", "sqlalchemy", "aiohttp", "orjson",
)  # fmt: skip


@cache
def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """Versions of Python, the platform and the installed libraries that results depend on. Imports none of them."""
    return {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}", **_versions()}


def peak_memory() -> int:
    """The most memory that this process has held, in bytes (resident set; accelerators not counted)."""
    # On Linux ru_maxrss starts from what the parent held when it started this process; VmHWM (proc(5)) does not.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON with sorted keys, whole or not at all; the folder is made. Equal values give equal bytes.

    Raises:
        ValueError: a number is not finite (JSON has no such number).
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False, default=plain)
    # Lone surrogates come with hostile text; JSON's escapes can hold them where UTF-8 cannot.
    if any("\ud800" <= c <= "\udfff" for c in text):
        text = json.dumps(value, sort_keys=True, indent=2, allow_nan=False, default=plain)
    with replacing(path) as file:
        file.write((text + "\n").encode())


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path``, durably, when the block ends, and goes away if it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Make the content of a file, or the entries of a folder (new files, renames), durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: str | Path, length: int = 16) -> str:
    """The first ``length`` hex digits of the SHA-256 of a file; of a folder, that of its files' names and digests."""
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return digest([[p.relative_to(path).as_posix(), file_digest(p, 64)] for p in files], length)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:length]
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None


def data_digest(rows: Iterable[Any], length: int = 16) -> str:
    """The hash of a sequence of records or dicts, in order: equal exactly where training would see the same data."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(canonical(row).encode("utf-8", "surrogatepass") + b"\n")
    return whole.hexdigest()[:length]
