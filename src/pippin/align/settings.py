"""The settings of a run: a method's own and those that every method shares; from one mapping, into a manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pippin.align import hints, interventions
from pippin.align.method import Method, Training
from pippin.core import config

Json = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """A method's own Config and the Training that every method shares, told apart by field names."""

    training: Training
    own: Any

    @classmethod
    def of(cls, name: str, method: Method, values: Mapping[str, Any], *, where: str = "") -> Settings:
        """From one flat mapping; the method's defaults stand between Training's and what is given.

        Raises:
            InputError: a value has the wrong type.
            UnknownName: a key is neither the method's nor Training's; names the nearest, or what to do instead of it.
        """
        shared = {f.name for f in fields(Training)}
        own = {f.name for f in fields(method.config)}
        for key in values:
            if key not in shared | own:
                raise hints.unknown(name, key, shared | own, where=where)
        merged = {**method.defaults, **values}
        return cls(
            config.build(Training, {k: v for k, v in merged.items() if k in shared}, where=where),
            config.build(method.config, {k: v for k, v in merged.items() if k in own}, where=where),
        )

    def flat(self, name: str) -> Json:
        """As manifest entries: what the method owns under ``method.NAME.``, what all arms share under its own name."""
        shared = dataclasses.asdict(self.training)
        entries = {
            "truncation": f"keep start, {shared.pop('max_length')} tokens",
            "precision": "bfloat16" if shared.pop("bf16") else "float32",
            "seed": shared.pop("seed"),
        }
        # change no weight
        unsaid = ["logging_steps", "save_steps", "max_loss", "watch_prompts", "gradient_checkpointing"]
        if not self.training.use_peft:
            unsaid += [key for key in shared if key.startswith("lora_")] + ["use_peft"]
        for key in [*unsaid, *interventions.unsaid(self.training)]:
            shared.pop(key)
        own = {**shared, **dataclasses.asdict(self.own)}
        return entries | {f"method.{name}.{key}": value for key, value in own.items()}
