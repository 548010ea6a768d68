"""A finished run on the Hugging Face hub: what others load, and its papers without paths, addresses or keys.

Names of settings are those of ``transformers.TrainingArguments``. The token comes from ``HF_TOKEN`` or ``hf auth
login`` through huggingface_hub, which also obeys ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from pippin.align import card, public
from pippin.core.errors import InputError, MissingExtra
from pippin.core.run import write_json

_LEFT = ("checkpoint-*", "runs", "wandb", "align.yaml", "watch.jsonl", ".*")
"""What is for resuming or for this machine alone."""

_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")


def ready(hub_model_id: str) -> str:
    """The user whom the hub knows by the token. To be asked before a run, so that it does not end at a closed door.

    Raises:
        InputError: no name of a model, no token, a token that the hub refuses, or no network.
        MissingExtra: huggingface_hub is not installed.
    """
    if not _ID.fullmatch(hub_model_id):
        raise InputError(
            "not the name of a model", where="hub_model_id", found=hub_model_id, expected="ORG/NAME or NAME"
        )
    try:
        return _api().whoami()["name"]
    except Exception as error:
        raise _failed(hub_model_id, error) from error


def push(folder: Path, hub_model_id: str, *, private: bool | None = None) -> str:
    """Upload the run in ``folder`` in one commit; the page's address. A repository that is not there is made.

    Weights, tokenizer, configurations, metrics and the card go as they are; ``pippin_run.json`` and ``eval.json`` go
    without paths and addresses; checkpoints, optimiser states and trackers' files stay.

    Raises:
        InputError: the folder holds no finished run, or as :func:`ready`. The folder is as it was.
        MissingExtra: as :func:`ready`.
    """
    if not (folder / card.PAPERS).is_file():
        raise InputError("no finished run to push", where=str(folder), expected=f"a folder with {card.PAPERS}")
    api = _api()
    with tempfile.TemporaryDirectory(prefix="pippin-push-") as temporary:
        stage = staged(folder, Path(temporary))
        try:
            made = api.create_repo(hub_model_id, private=private, exist_ok=True)
            api.upload_folder(
                folder_path=stage, repo_id=made.repo_id, commit_message="Model and papers of a Pippin run"
            )
        except Exception as error:
            raise _failed(hub_model_id, error) from error
    return str(made)


def staged(folder: Path, stage: Path) -> Path:
    """Fill ``stage`` with what is pushed: links to the files that go as they are, and the papers as they are shown."""
    left = {path for pattern in _LEFT for path in folder.glob(pattern)}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and folder / inside.parts[0] not in left:
            (stage / inside).parent.mkdir(parents=True, exist_ok=True)
            (stage / inside).symlink_to(path.absolute())
    for name in (card.PAPERS, card.EVALUATION, "adapter_config.json"):
        if (stage / name).is_symlink():
            shown = _shown(json.loads((folder / name).read_text(encoding="utf-8")))
            if name == "adapter_config.json":
                shown["base_model_name_or_path"] = _base(folder)
            (stage / name).unlink()
            write_json(stage / name, shown)
    return stage


def _base(folder: Path) -> str:
    """What the adapter's base is called where others can find it; a local base by its name alone."""
    model = str(json.loads((folder / card.PAPERS).read_text(encoding="utf-8"))["manifest"]["model"])
    return card.hub_name(model) or public.name(model)


def _shown(value: Any) -> Any:
    return public.manifest({"": value})[""]


def _api() -> Any:
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError:
        raise MissingExtra("huggingface_hub", "hf", "push_to_hub") from None
    return HfApi()


def _failed(hub_model_id: str, error: Exception) -> InputError:
    said = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
    return InputError(
        "the Hugging Face hub does not take the model", where=f"hub_model_id {hub_model_id}", found=public.name(said),
        mend="Set HF_TOKEN to a token that may write, or run `hf auth login`; then the same command pushes",
    )  # fmt: skip
