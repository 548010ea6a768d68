"""The model card: ``README.md`` in a run's folder, from the run's papers. The same papers give the same bytes.

A card is published, so it has names and digests and no path, address or key (:mod:`pippin.align.public`); whatever
comes from data or models stands in code spans.

Source: Hugging Face hub, model cards (the keys of the front matter)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pippin.align import public
from pippin.core import catalog
from pippin.core.run import Ledger, replacing

FILE = "README.md"
PAPERS = "pippin_run.json"
EVALUATION = "eval.json"
Json = dict[str, Any]

_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PACKAGED = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
_DATA = {
    "data": "data", "prompts.train": "prompts", "prompts.dev": "development prompts", "masking": "trained tokens",
    "truncation": "truncation", "collapse": "judgements into preferences", "reward": "reward",
    "judge.dev": "judge of development answers",
    "feedback": "feedback in words", "base.template": "chat template", "base.tokenizer": "tokenizer",
    "base.weights": "first weights", "precision": "precision", "seed": "seed",
}  # fmt: skip
_READINGS = {
    "sum": "summed log-probability", "mean": "mean log-probability", "implicit": "implicit reward", "score": "score",
}  # fmt: skip


def write_card(folder: Path, names: Mapping[str, str] | None = None) -> Path:
    """Write the card of the finished run in ``folder`` from its papers; the card's path.

    Args:
        names: what the command called ``data``, ``prompts`` and ``eval_data``; the papers hold their digests alone.
    """
    papers = json.loads((folder / PAPERS).read_text(encoding="utf-8"))
    measured = folder / EVALUATION
    evaluation = json.loads(measured.read_text(encoding="utf-8")) if measured.is_file() else {}
    kind = "adapter" if (folder / "adapter_config.json").is_file() else "weights"
    kind = "reward" if (folder / "pippin_reward.json").is_file() else kind
    with replacing(folder / FILE) as file:
        file.write(card(papers, evaluation, kind, names or {}).encode("utf-8", "backslashreplace"))
    return folder / FILE


def card(papers: Json, evaluation: Json, kind: str, names: Mapping[str, str]) -> str:
    """The card's text. Pure.

    Args:
        papers: what ``pippin_run.json`` says: manifest, ledger, state, metrics, perhaps ``watch``.
        evaluation: what ``eval.json`` says; empty where nothing was held out.
        kind: what the folder holds: ``weights``, ``adapter`` or ``reward``.
        names: as :func:`write_card`.
    """
    manifest = public.manifest(papers["manifest"])
    method = manifest["method"]
    entry = next((e for e in catalog.entries("methods") if e.name == method), None)
    sections = [
        _front(papers["manifest"], kind, names),
        _intro(manifest, kind, entry),
        _loading(manifest, kind, papers.get("state", {})),
        _table("Data and prompts", ("what", "value"), _data(manifest, names)),
        _table("Settings", ("setting", "value"), _settings(manifest, method), note=_TUNING),
        _table("What it cost", ("column", "value", "unit"), _ledger(papers["ledger"])),
        _table("Metrics of training", ("metric", "first", "last"), _metrics(papers.get("metrics", {})), note=_MEANS),
        _evaluation(evaluation),
        _watch(papers.get("watch")),
        _table("Counted on the way", ("what", "value"), _state(papers.get("state", {}))),
        _table("Versions", ("library", "version"), _under(manifest, "library.")),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


_TUNING = "What the method was told; defaults are listed like the rest."
_MEANS = (
    "Means over the first and the last logged window of training batches, without intervals: for following the run, "
    "not for comparing it with another."
)


def _front(manifest: Json, kind: str, names: Mapping[str, str]) -> str:
    """The front matter: what is known and nothing else, so no licence."""
    import yaml

    base = hub_name(str(manifest["model"]))
    data = [hub_name(names[key]) for key in ("data", "prompts") if names.get(key)]
    tags = ["pippin", manifest["method"].replace("_", "-"), *(["lora"] if kind == "adapter" else [])]
    stated: Json = {
        "base_model": base,
        "datasets": sorted({d for d in data if d}),
        "library_name": {"weights": "transformers", "adapter": "peft", "reward": "pippin"}[kind],
        "pipeline_tag": "" if kind == "reward" else "text-generation",
        "tags": tags,
    }
    text = yaml.safe_dump({k: v for k, v in stated.items() if v}, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---"


def hub_name(name: str) -> str:
    """``ORG/NAME`` where the name says that it is one of the hub's (``hf/ORG/NAME``, ``hf://datasets/ORG/NAME``, a
    packaged model); otherwise empty, since a local path may look the same."""
    if name in _PACKAGED:
        return _PACKAGED[name]
    for head in ("hf://datasets/", "hf/"):
        found = _HUB.match(name.removeprefix(head)) if name.startswith(head) else None
        if found:
            return found[0]
    return ""


def _intro(manifest: Json, kind: str, entry: catalog.Entry | None) -> str:
    made = {"weights": "A policy", "adapter": "A low-rank adapter (LoRA) of a policy", "reward": "A reward model"}[kind]
    version = manifest.get("library.pippin", "")
    lines = [
        f"# {_plain(manifest['model'])}, {manifest['method']}",
        f"{made}, made from {_code(manifest['model'])} by the method {_code(manifest['method'])} with "
        f"Pippin {version}.",
    ]
    if entry is not None and entry.summary:
        lines.append(
            f"{_plain(entry.summary)} Source: {_plain(entry.source)}." if entry.source else _plain(entry.summary)
        )
    return "\n\n".join(lines)


def _loading(manifest: Json, kind: str, state: Json) -> str:
    loaded = {
        "weights": (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("FOLDER_OR_ID")\n'
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER_OR_ID")'
        ),
        "adapter": (
            "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\n"
            'model = AutoPeftModelForCausalLM.from_pretrained("FOLDER_OR_ID")\n'
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER_OR_ID")'
        ),
        "reward": (
            "from pippin.core.types import user\nfrom pippin.lm.reward import load_reward\n\n"
            'reward = load_reward("FOLDER")\n'
            'reward.score([user("a prompt")], ["a response"])'
        ),
    }[kind]
    return f"## How to load it\n\n```python\n{loaded}\n```\n\nOr `pippin {_USES[kind]}`."


_USES = {"weights": "chat FOLDER", "adapter": "chat FOLDER", "reward": "judge rm/FOLDER FILE --out judged.jsonl"}


def _data(manifest: Json, names: Mapping[str, str]) -> list[tuple[str, ...]]:
    called = {"data": names.get("data"), "prompts.train": names.get("prompts")}
    rows = []
    for key, title in _DATA.items():
        value = manifest.get(key)
        if value in (None, ""):
            continue
        said = called.get(key)
        digest = key in ("data", "prompts.train", "prompts.dev") or key.startswith("base.")
        shown = f"{_code(public.name(said))}, " if said else ""
        rows.append((title, f"{shown}{'digest ' if digest else ''}{_code(value)}"))
    return rows


def _settings(manifest: Json, method: str) -> list[tuple[str, ...]]:
    return _under(manifest, f"method.{method}.")


def _under(manifest: Json, head: str) -> list[tuple[str, ...]]:
    return [(_code(k.removeprefix(head)), _code(v)) for k, v in sorted(manifest.items()) if k.startswith(head)]


def _ledger(row: Json) -> list[tuple[str, ...]]:
    units = Ledger.columns()
    return [(_code(k), _number(v), units[k][0]) for k, v in row.items() if v not in (None, 0, 0.0) and k in units]


def _metrics(metrics: Json) -> list[tuple[str, ...]]:
    first, last = metrics.get("first", {}), metrics.get("last", {})
    rows = [(_code(k), *(_number(line.get(k)) for line in (first, last))) for k in sorted({**first, **last})]
    return rows + [(_code(k), "", _number(metrics[k])) for k in ("best_round", "best_score") if k in metrics]


def _evaluation(found: Json) -> str:
    """Accuracies on held-out preferences, each with its interval and n."""
    whens = [when for when in ("before", "after", "change") if found.get(when)]
    rows = [
        (title, *(_estimate(found[when].get(key)) for when in whens))
        for key, title in _READINGS.items()
        if any(key in found[when] for when in whens)
    ]
    note = f"Accuracy on {_code(public.name(str(found.get('data', ''))))}, intervals of 95 % by prompt."
    left = found.get("prompts_shared_with_training_left_out")
    note += f" Prompts that were trained on are left out ({left})." if left else ""
    return _table("Held-out preferences", ("reading", *whens), rows, note=note)


def _watch(summary: Json | None) -> str:
    if not summary:
        return ""
    from pippin.align.watch import lines

    return "## What the run saw of itself\n\n" + "\n".join(f"- {_plain(line)}" for line in lines(summary))


def _state(state: Json) -> list[tuple[str, ...]]:
    plain = {k: v for k, v in public.manifest(state).items() if isinstance(v, (int, float, str)) and v != ""}
    return [(_code(k), _number(v) if isinstance(v, float) else _code(v)) for k, v in sorted(plain.items())]


def _table(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    rows = list(rows)
    if not rows:
        return ""
    lines = [f"| {' | '.join(headers)} |", f"|{' --- |' * len(headers)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n\n".join(filter(None, [f"## {title}", note, "\n".join(lines)]))


def _estimate(told: Json | None) -> str:
    if not told:
        return ""
    return f"{told['value']:.3f} [{told['low']:.3f}, {told['high']:.3f}], n={told['n']}"


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _code(value: Any) -> str:
    """A value as a code span that nothing in it can end, inside a table or out of it."""
    text = "".join(c if c.isprintable() else " " for c in str(value)).strip()
    if not text:
        return ""
    fence = "`" * (max(map(len, re.findall(r"`+", text)), default=0) + 1)
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text}{room}{fence}".replace("|", "\\|")


def _plain(text: str) -> str:
    """Words without markup: what markdown and HTML would take for their own is escaped."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\`*_\[\]#|<>])", r"\\\1", shown)
