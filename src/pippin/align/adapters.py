"""Training a low-rank adapter in place of the weights (Hu et al. 2021), through ``peft``.

The reference is the same model with its adapter off, so there is no second copy. What is saved is the adapter's folder.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pippin.core.errors import InputError, MissingExtra
from pippin.lm.policy import Policy

if TYPE_CHECKING:
    from pippin.align.method import Training

ALL_LINEAR = ("all-linear",)  # peft's word for every linear layer but the head


def attach(policy: Policy, training: Training, base: str) -> None:
    """Put a fresh adapter on the policy's model, in place; it changes nothing before it is trained.

    Args:
        base: the model as the user named it; an adapter's folder names its base.

    Raises:
        InputError: the policy is an adapter already, or a setting does not fit.
        MissingExtra: ``peft`` is not installed.
    """
    try:
        from peft import LoraConfig, TaskType, get_peft_model
    except ImportError:
        raise MissingExtra("peft", "peft", "training an adapter") from None
    if (Path(base).expanduser() / "adapter_config.json").is_file():
        raise InputError(
            "an adapter on an adapter has no base that a folder could name", where=base, expected="a whole model",
            mend="Merge the first one: load_policy(PATH).save(NEW)",
        )  # fmt: skip
    targets = tuple(training.lora_target_modules)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=training.lora_r,
        lora_alpha=training.lora_alpha,
        target_modules="all-linear" if targets == ALL_LINEAR else list(targets),
        base_model_name_or_path=_base_name(policy.model, base),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        try:
            policy.model = get_peft_model(policy.model, config)
        except ValueError as error:
            raise InputError(
                "peft cannot put an adapter there", where="lora_target_modules", found=str(error)
            ) from None
    policy.model.peft_config["default"].base_model_name_or_path = _base_name(policy.model, base)
    policy.model.eval()


def is_adapted(model: Any) -> bool:
    """Whether the model carries an adapter of ``peft``."""
    return hasattr(model, "peft_config") and hasattr(model, "disable_adapter")


def plain(model: Any) -> Any:
    """The causal model that carries the adapter's layers, without ``peft``'s wrapper; any other model as it is."""
    return model.get_base_model() if is_adapted(model) else model


def without(model: Any) -> Any:
    """A copy of the model as it was before the adapter."""
    return copy.deepcopy(model).unload() if is_adapted(model) else copy.deepcopy(model)


def reference(policy: Policy) -> Policy:
    """The policy with its adapter off, as a policy of its own over the same weights."""
    return Policy(AdapterOff(policy.model), policy.chat, policy.decoding, policy.name)


class AdapterOff(torch.nn.Module):
    """A model with its adapter, read as if it had none."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.adapted = model
        self.config = model.config

    def forward(self, **inputs: Any) -> Any:
        with self.adapted.disable_adapter():
            return self.adapted(**inputs)

    def get_output_embeddings(self) -> Any:
        return self.adapted.get_output_embeddings()

    def get_base_model(self) -> Any:
        return self.adapted.get_base_model()

    def save_pretrained(self, folder: Any) -> None:
        without(self.adapted).save_pretrained(folder)


def _base_name(model: Any, base: str) -> str:
    """Where the base is found again: its name on the hub, or the folder that was read."""
    if base.startswith("hf/"):
        return base.removeprefix("hf/")
    return str(Path(model.config.name_or_path).absolute())
