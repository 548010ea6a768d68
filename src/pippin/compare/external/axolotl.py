"""A checkpoint of axolotl: its configuration as the model card quotes it, or as a YAML file beside the weights.

Source: axolotl, ``train.py`` (``setup_model_card``) and ``utils/schemas/config.py`` (keys and their defaults)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pippin.compare import folders
from pippin.compare.outside import External, Json, Kind

_QUOTED = re.compile(r"^axolotl version: `([^`\n]+)`\s*\n```ya?ml\n(.*?)\n```[ \t]*$", re.MULTILINE | re.DOTALL)
_FILES = ("axolotl_config.yaml", "axolotl_config.yml", "config.yaml", "config.yml")
_OWN = {"base_model", "micro_batch_size", "sequence_len", "train_on_inputs", "datasets"}
_SETTINGS = {
    "learning_rate": "learning_rate", "lr_scheduler": "lr_scheduler_type", "optimizer": "optim",
    "num_epochs": "num_train_epochs", "max_steps": "max_steps", "micro_batch_size": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps", "weight_decay": "weight_decay",
    "warmup_steps": "warmup_steps", "warmup_ratio": "warmup_ratio", "rl_beta": "beta", "dpo_beta": "beta",
    "lora_r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout", "seed": "seed",
}  # fmt: skip


def detect(path: Path) -> bool:
    return folders.is_model(path) and bool(_configuration(path)[1])


def read(path: Path) -> External:
    papers = folders.read_papers(path)
    version, told = _configuration(path)
    stated = told.get("rl") if isinstance(told.get("rl"), str) else ""
    method = stated or ("reward_model" if told.get("reward_model") else "sft")
    data = {"sft": "data (demonstrations)", "grpo": "prompts.train"}.get(method, "data (preferences)")
    manifest: Json = folders.declared(papers, method) | {"method": method}
    manifest |= {"library.axolotl": version} if version else {}
    if isinstance(told.get("base_model"), str):
        manifest["base"] = folders.named(told["base_model"], papers.folder)
    settings = {_SETTINGS[k]: _plain(v) for k, v in told.items() if k in _SETTINGS}
    settings |= {"use_peft": True} if told.get("adapter") else {}
    manifest |= {f"method.{method}.{k}": v for k, v in settings.items() if v is not None}
    fields = {
        data: _data(told.get("datasets")),
        "precision": _precision(told),
        "truncation": _truncation(told),
        "packing": "packed rows" if told.get("sample_packing") is True else "none",
        "masking": _masking(told) if method == "sft" else "response only",
    }
    manifest |= {field: value for field, value in fields.items() if value not in (None, "")}
    return External("axolotl", str(papers.folder), manifest=manifest, notes=papers.notes)


def _configuration(path: Path) -> tuple[str, Json]:
    """(version, configuration) from the card, or from a file in the folder; ("", {}) where there is neither."""
    found = _QUOTED.search(folders.card_of(path))
    if found:
        return found[1], folders.yaml_of(found[2])
    places = [path / name for name in _FILES] + [folders.weights_folder(path) / name for name in _FILES]
    for place in places:
        told = folders.yaml_of(folders.text_of(place))
        if "base_model" in told and len(_OWN & told.keys()) > 1:
            return "", told
    return "", {}


def _plain(value: Any) -> Any:
    """A number, a truth value or a text; None for anything else."""
    return folders.number(value) if isinstance(value, str) else value if isinstance(value, (int, float)) else None


def _data(datasets: Any) -> str:
    listed = datasets if isinstance(datasets, list) else []
    return ", ".join(folders.texts([row.get("path") for row in listed if isinstance(row, dict)]))


def _precision(told: Json) -> str:
    """What is said outright; ``auto`` leaves it to the machine."""
    if told.get("bf16") in (True, "true", "full"):
        return "bfloat16"
    return "float16" if told.get("fp16") in (True, "true") else ""


def _truncation(told: Json) -> str:
    length = _plain(told.get("sequence_len"))
    if not length:
        return ""
    cut = told.get("excess_length_strategy") == "truncate"
    return f"keep start, {length} tokens" if cut else f"rows of more than {length} tokens left out"


def _masking(told: Json) -> str:
    """Which tokens were trained on; empty where it hangs on templates that the configuration does not show."""
    if told.get("train_on_inputs"):
        return "prompt and response"
    listed = told.get("datasets")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    chats = [row for row in rows if row.get("type") == "chat_template"]
    if not chats:
        return "response only" if rows and all(isinstance(row.get("type"), str) for row in rows) else ""
    plain = all(row.get("roles_to_train") in (None, ["assistant"]) for row in chats) and len(chats) == len(rows)
    return "every assistant turn" if plain else ""


EXTERNAL = Kind(detect, read, "policy", over=("trl", "peft", "transformers"))
