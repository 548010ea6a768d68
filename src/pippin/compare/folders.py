"""What a model folder says of itself, in files that neither unpickle nor run: configurations, the model card, the
trainer's state.

What a folder does not say stays unsaid. ``training_args.bin``, which would say most, is a pickle and is not opened.

Source: transformers, ``Trainer`` (files of a checkpoint) and ``modelcard.py``; TRL, ``templates/lm_model_card.md``;
  PEFT, ``config.py``; Hugging Face hub, model cards (front matter)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pippin.core.errors import InputError

Json = dict[str, Any]
ADAPTER = "adapter_config.json"
NOT_OPENED = "training_args.bin is a pickle and was not opened: what only it says is not declared"
_CARD_BYTES = 1 << 20
_LIBRARIES = "TRL|Transformers|Pytorch|Datasets|Tokenizers|PEFT|Unsloth"
_VERSION = re.compile(rf"^- ({_LIBRARIES}):? +v?(\d\S*)\s*$", re.MULTILINE)
_SETTING = re.compile(r"^- ([a-z_]+): (\S.*?)\s*$", re.MULTILINE)
_STEP = re.compile(r"checkpoint-[0-9]+")
_NAMES = {"pytorch": "torch"}
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Papers:
    """A model folder's papers; each is empty where the folder has none."""

    folder: Path  # where the weights lie
    config: Json = field(default_factory=dict)
    adapter: Json = field(default_factory=dict)
    front: Json = field(default_factory=dict)  # the model card's front matter
    card: str = ""
    state: Json = field(default_factory=dict)  # trainer_state.json
    notes: tuple[str, ...] = ()

    @property
    def tags(self) -> list[str]:
        """The card's tags."""
        return tags(self.card)

    @property
    def base(self) -> str:
        """The base model, as far as the papers name it; see :func:`named`."""
        stated = self.adapter.get("base_model_name_or_path") or self.front.get("base_model")
        stated = stated[0] if isinstance(stated, list) and len(stated) == 1 else stated
        return named(stated, self.folder) if isinstance(stated, str) and stated not in ("", "None") else ""

    @property
    def datasets(self) -> str:
        """The data sets that the card names, in its order."""
        return ", ".join(texts(self.front.get("datasets")))

    @property
    def versions(self) -> Json:
        """``library.NAME`` -> version, from the card's list of framework versions."""
        found = versions(self.card)
        if "library.transformers" not in found and isinstance(self.config.get("transformers_version"), str):
            found["library.transformers"] = self.config["transformers_version"]
        return found

    @property
    def settings(self) -> Json:
        """The hyperparameters that the trainer's card lists, by its own names."""
        _, heading, rest = self.card.partition("### Training hyperparameters")
        return {k: number(v) for k, v in _SETTING.findall(rest.partition("\n### ")[0])} if heading else {}


def is_model(folder: Path) -> bool:
    """Whether this folder, or a checkpoint in it, holds a model's or an adapter's configuration."""
    return folder.is_dir() and (_has_model(folder) or bool(_checkpoints(folder)))


def weights_folder(path: Path) -> Path:
    """The folder itself where it holds a model, else its last ``checkpoint-N``, else the folder."""
    checkpoints = _checkpoints(path)
    return path if _has_model(path) or not checkpoints else checkpoints[-1]


def read_papers(path: Path) -> Papers:
    """The papers of a model folder, or of the last checkpoint in it where the folder itself holds no model.

    Raises:
        InputError: a configuration is not JSON.
    """
    folder, checkpoints = weights_folder(path), _checkpoints(path)
    notes = [] if folder == path else [f"the last of {len(checkpoints)} checkpoints was taken: {folder.name}"]
    card = card_of(path)
    states = [place / "trainer_state.json" for place in (folder, path, *reversed(checkpoints))]
    state = next((found for place in states if (found := read_json(place))), {})
    if any((place / "training_args.bin").is_file() for place in (folder, path)):
        notes.append(NOT_OPENED)
    return Papers(
        folder, read_json(folder / "config.json"), read_json(folder / ADAPTER), front_matter(card), card, state,
        tuple(notes),
    )  # fmt: skip


def declared(papers: Papers, method: str) -> Json:
    """The manifest that every trainer's folder gives, as far as its papers go.

    Args:
        method: under whose name settings stand (``method.NAME.learning_rate``).
    """
    found: Json = {"base": papers.base, **papers.versions}
    settings = trained(papers.state) | lora(papers.adapter)
    return {k: v for k, v in found.items() if v} | {f"method.{method}.{k}": v for k, v in settings.items()}


def trained(state: Mapping[str, Any]) -> Json:
    """What ``trainer_state.json`` says of the run: steps, epochs, rows a device and step, the highest logged rate."""
    names = {"global_step": "steps", "train_batch_size": "per_device_train_batch_size", "epoch": "num_train_epochs"}
    found: Json = {new: state[old] for old, new in names.items() if isinstance(state.get(old), (int, float))}
    history = state.get("log_history")
    lines = history if isinstance(history, list) else []
    rates = [line.get("learning_rate") for line in lines if isinstance(line, dict)]
    logged = [rate for rate in rates if isinstance(rate, (int, float))]
    return found | ({"highest logged learning_rate": max(logged)} if logged else {})


def lora(adapter: Mapping[str, Any]) -> Json:
    """What ``adapter_config.json`` says, by the names of TRL's settings."""
    if not adapter:
        return {}
    names = {"r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}
    found: Json = {new: adapter[old] for old, new in names.items() if isinstance(adapter.get(old), (int, float))}
    modules = texts(adapter.get("target_modules"))
    if modules:
        found["lora_target_modules"] = sorted(modules)
    return {"use_peft": True, **found}


def named(base: str, folder: Path) -> str:
    """A base model's name as studies write it: ``hf/ORG/NAME`` of the hub, a packaged model's name, a whole path."""
    from pippin.lm.hf import PACKAGED, adapted_path, locate

    place = adapted_path(folder, base)
    if place is None:
        return f"hf/{base}" if _HUB.fullmatch(base) else base
    place = place.resolve()
    return next((name for name in PACKAGED if locate(name).resolve() == place), str(place))


def card_of(path: Path) -> str:
    """The model card beside the weights, or that of the training run around a checkpoint; empty where there is none."""
    places = [weights_folder(path), path, *([path.absolute().parent] if _STEP.fullmatch(path.name) else [])]
    return next((text for place in places if (text := text_of(place / "README.md"))), "")


def tags(card: str) -> list[str]:
    """The tags of a model card."""
    return texts(front_matter(card).get("tags"))


def versions(card: str) -> Json:
    """``library.NAME`` -> version, from a card's list of framework versions."""
    return {f"library.{_NAMES.get(k.lower(), k.lower())}": v for k, v in _VERSION.findall(card)}


def front_matter(card: str) -> Json:
    """The YAML between the first two lines of dashes of a model card; empty where there is none that can be read."""
    parts = re.split(r"^---[ \t]*$", card, maxsplit=2, flags=re.MULTILINE)
    return {} if len(parts) < 3 or parts[0].strip() else yaml_of(parts[1])


def texts(value: Any) -> list[str]:
    """The texts of a list, or a single text; what else a hostile file may nest there is left."""
    listed = value if isinstance(value, list) else [value]
    return [item for item in listed if isinstance(item, str) and item]


def yaml_of(text: str) -> Json:
    """A YAML mapping; empty where the text is none."""
    import yaml

    try:
        # libyaml's loader stops at a depth; PyYAML's own takes time by the square of it
        stated = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return stated if isinstance(stated, dict) else {}


def text_of(path: Path) -> str:
    """The first MiB of a file as text; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_CARD_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def read_json(path: Path) -> Json:
    """A JSON object; empty where there is no such file.

    Raises:
        InputError: it is something else.
    """
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("not a JSON file", where=str(path), found=str(error)) from None
    if not isinstance(stated, dict):
        raise InputError("not a JSON object", where=str(path))
    return stated


def _has_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", ADAPTER))


def _checkpoints(folder: Path) -> list[Path]:
    """``checkpoint-N`` folders that hold a model, by N."""
    found = [p for p in folder.glob("checkpoint-*") if _STEP.fullmatch(p.name) and _has_model(p)]
    return sorted(found, key=lambda p: int(p.name.rpartition("-")[2]))


def number(text: str) -> Any:
    """A text as the number that it is, else the text (YAML 1.1 takes ``2e-5`` for a text)."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
