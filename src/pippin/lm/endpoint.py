"""What there is to say of an OpenAI-compatible server without talking to it: its name, a request's body, an answer's
meaning, when to try again. Pure functions; :mod:`pippin.lm.api` does the talking."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Request, digest
from pippin.lm.engine import request_digest

DEFAULT_URL = "https://api.openai.com/v1"
TOP_LOGPROBS = 20  # the most that servers give
# Parameters that some servers or models do not take; the answer is then asked for without them.
OPTIONAL = ("logprobs", "top_logprobs", "seed")
OVERLOADED = (503, 504, 529)  # fewer at once may help
# what may stand behind ? in a model's name
SETTINGS: dict[str, type] = {
    "max_connections": int, "timeout": float, "deadline": float, "rpm": float, "tpm": float, "input": float,
    "output": float, "batch": int,
}  # fmt: skip
FEWER = "top_logprobs>5"  # in a set of unsupported parameters: fewer alternatives are taken


@dataclass(frozen=True)
class Endpoint:
    """One model at one server. ``key_env`` names the environment variable with the key, which itself is never kept."""

    model: str
    base_url: str
    key_env: str = ""

    @property
    def name(self) -> str:
        """``openai/NAME``, with the server where it is not the default one. Never has a key in it."""
        return f"openai/{self.model}" + ("" if self.base_url == DEFAULT_URL else f"@{self.base_url}")

    def key(self) -> str:
        """The key, read now.

        Raises:
            InputError: the variable is named and not set, or holds what cannot be a key.
        """
        if not self.key_env:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise InputError(
                "the key of this model is not set", where=self.name, expected=f"environment variable {self.key_env}",
                mend=f"export {self.key_env}=..., or name another variable: {self.name}#OTHER_ENV",
            )  # fmt: skip
        if not (key.isascii() and key.isprintable()):
            raise InputError("the key of this model has characters that no key has", where=f"variable {self.key_env}")
        return key


def options(spec: str) -> tuple[str, dict[str, Any]]:
    """(the spec without them, the settings that stand in it as ``?timeout=5&max_connections=64``, before any ``#``).

    ``input`` and ``output`` (US dollars per million tokens) become ``prices``; a zero may be left out.

    Raises:
        UnknownName: no such setting; the nearest one is named.
        InputError: a value is not a positive number.
    """
    head, hash_mark, tail = spec.partition("#")
    rest, _, query = head.partition("?")
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in SETTINGS:
            raise UnknownName("setting of a model", name, list(SETTINGS))
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        lowest = 0.0 if name in ("input", "output", "batch") else 1e-9
        if not lowest <= number < math.inf or (SETTINGS[name] is int and not number.is_integer()):
            raise InputError(f"bad value of {name}", where=f"openai/{rest}", found=value, expected="a positive number")
        found[name] = SETTINGS[name](number)
    if "input" in found or "output" in found:
        found["prices"] = (found.pop("input", 0.0), found.pop("output", 0.0))
    return rest + hash_mark + tail, found


def parse(spec: str, base_url: str = "") -> Endpoint:
    """The endpoint of ``NAME``, ``NAME@URL``, ``NAME#KEY_ENV`` or ``NAME@URL#KEY_ENV`` (what follows ``openai/``).

    A server named in the spec gets no key unless the spec names one: OPENAI_API_KEY is for the default server, which
    is ``base_url``, else OPENAI_BASE_URL, else OpenAI's.

    Raises:
        InputError: no name; a key or a password stands in the spec (it is not repeated in the message).
    """
    rest, has_env, key_env = spec.rpartition("#") if "#" in spec else (spec, "", "")
    name, has_url, address = rest.rpartition("@http") if "@http" in rest else (rest, "", "")
    url = f"http{address}" if has_url else base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
    if has_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key_env):
        raise InputError(
            "what follows # must be the name of an environment variable, not a key", where=f"openai/{name}",
            mend="Put the key into a variable and name it: openai/NAME@URL#KEY_ENV",
        )  # fmt: skip
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise InputError("a server's address must not have a password in it", where=f"openai/{name}")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError("not a server's address", where=f"openai/{name}", found=url, expected="http://host:8000/v1")
    if not name:
        raise InputError("the model has no name", expected="openai/NAME", where=url)
    return Endpoint(name, url.rstrip("/"), key_env or ("" if has_url else "OPENAI_API_KEY"))


def body(endpoint: Endpoint, request: Request, extra: Mapping[str, Any], unsupported: frozenset[str]) -> dict[str, Any]:
    """The JSON of a chat completion. Draws get a seed from what is asked and which draw it is."""
    sampling = request.sampling
    wanted: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "temperature": sampling.temperature,
        "max_completion_tokens" if "max_tokens" in unsupported else "max_tokens": sampling.max_tokens,
    }
    if sampling.temperature > 0:
        wanted["seed"] = int(digest([sampling.seed, "answer", request_digest("", request), request.key.sample], 7), 16)
        if sampling.top_p < 1:
            wanted["top_p"] = sampling.top_p
    if request.labels:
        wanted |= {"logprobs": True, "top_logprobs": 5 if FEWER in unsupported else TOP_LOGPROBS}
    return {k: v for k, v in (wanted | dict(extra)).items() if k not in unsupported or k == "max_tokens"}


def unsupported_parameter(status: int, message: str, sent: Mapping[str, Any]) -> str:
    """The parameter that this refusal is about and that can be left out or renamed, or ``""``."""
    if status not in (400, 422):
        return ""
    if "max_tokens" in sent and "max_completion_tokens" in message:
        return "max_tokens"
    if sent.get("top_logprobs") == TOP_LOGPROBS and re.search(
        r"logprobs.*\b(greater|less|larger|exceeds?|max\w*|at most|between|below)\b", message, re.IGNORECASE | re.DOTALL
    ):
        return FEWER
    if not re.search(r"support|unrecognized|unknown|unexpected|not (allowed|permitted)|extra", message, re.IGNORECASE):
        return ""
    return next((p for p in OPTIONAL if p in sent and re.search(rf"\b{p}\b", message)), "")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait: ``retry-after-ms``, ``retry-after`` in seconds, then as an HTTP date."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
    try:
        when = parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError, TypeError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - (now or datetime.now(UTC))).total_seconds()


def bounded(asked: float | None) -> float | None:
    """A wait that a server asks for, where it is one that is honoured: up to 120 s."""
    return asked if asked is not None and 0 < asked <= 120 and math.isfinite(asked) else None


def delay(attempt: int, headers: Mapping[str, str], chance: float) -> float:
    """Seconds before try ``attempt`` + 1 (the first try is 0).

    The server's own word up to 120 s, else half a second doubled each time up to 8 s, less up to a quarter of it
    (``chance`` in [0, 1)), so that clients which failed together do not come back together.
    """
    asked = bounded(retry_after(headers))
    if asked is not None:
        return asked
    return min(8.0, 0.5 * 2.0**attempt) * (1 - 0.25 * chance)


def permanent(status: int, headers: Mapping[str, str]) -> bool:
    """Another try of the same request cannot help: client errors except 408, 409 and 429, or the server says so."""
    told = headers.get("x-should-retry", "").lower()
    if told in ("true", "false"):
        return told == "false"
    return status < 500 and status not in (408, 409, 429)


def no_money(status: int, problem: Any) -> bool:
    """A refusal with 429 that waiting does not mend: the account's money is used up."""
    return status == 429 and isinstance(problem, dict) and problem.get("code") == "insufficient_quota"


def answer_fields(reply: Any, request: Request, prices: tuple[float, float] | None) -> dict[str, Any]:
    """The fields of a Call in a chat completion, and ``has_logprobs``: whether log-probabilities came with it.

    What a model thought before it answered (``reasoning_content``, ``reasoning``) is not its text: an answer that was
    cut off while thinking is empty.

    Args:
        prices: US dollars per million prompt and completion tokens; a ``cost`` in the reply goes before.

    Raises:
        ValueError: the reply is not a chat completion.
    """
    try:
        choice, usage = reply["choices"][0], reply.get("usage") or {}
        message = choice["message"]
        text = message.get("content") or ""
        details = usage.get("completion_tokens_details") or {}
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(f"not a chat completion: {str(reply)[:200]}") from None
    if not isinstance(text, str):
        raise ValueError(f"the content of a chat completion is not text: {str(text)[:200]}")
    refusal = message.get("refusal")
    stop = {"length": "length", "content_filter": "filter"}.get(choice.get("finish_reason") or "", "end")
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    thought = details.get("reasoning_tokens")
    if thought is None and not text and (message.get("reasoning_content") or message.get("reasoning")):
        thought = written  # all that was written
    price = usage.get("cost")
    if price is None and prices is not None and read is not None and written is not None:
        price = (read * prices[0] + written * prices[1]) / 1e6
    return {
        "text": text or refusal or "",
        "stop": "filter" if refusal else stop,
        "served_model": reply.get("model") or "",
        "fingerprint": reply.get("system_fingerprint") or "",
        "logprobs": label_logprobs(request.labels, choice.get("logprobs")) if request.labels else None,
        "prompt_tokens": read,
        "completion_tokens": written,
        "thinking_tokens": thought,
        "price": price,
        "has_logprobs": bool((choice.get("logprobs") or {}).get("content")),
    }


def label_logprobs(labels: Sequence[str], logprobs: Any) -> dict[str, float] | None:
    """Log-probability of each label, read where the answer's first tokens tell labels apart; ``None`` if nowhere.

    At each position, along the tokens that were drawn, the alternatives that continue exactly one label count for it.
    A label that no alternative continues is left out: it has less probability than the last one given, not zero.
    """
    content = (logprobs or {}).get("content") or []
    so_far = ""
    for position in content:
        found: dict[str, list[float]] = {}
        for option in position.get("top_logprobs") or []:
            text = (so_far + option["token"]).lstrip()
            meant = [label for label in labels if text and (label.startswith(text) or text.rstrip() == label)]
            if len(meant) == 1:
                found.setdefault(meant[0], []).append(option["logprob"])
        if found:
            return {label: math.log(math.fsum(map(math.exp, found[label]))) for label in labels if label in found}
        so_far += position["token"]
        if not any(label.startswith(so_far.strip()) for label in labels):
            return None
    return None


def redacted(text: str, key: str) -> str:
    """``text`` without the key, and without what looks like a part of one."""
    text = text.replace(key, "[key]") if key else text
    return re.sub(r"\bsk-[\w*-]{4,}", "[key]", text)[:500]
