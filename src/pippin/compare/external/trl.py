"""A checkpoint of TRL: its method, base, data and versions as the model card and the trainer's state say them.

Source: TRL, ``trainer/base_trainer.py`` and ``templates/lm_model_card.md`` (the card's tags and its sentences)
"""

from __future__ import annotations

from pathlib import Path

from pippin.compare import folders
from pippin.compare.outside import External, Json, Kind

# the card's tag -> (method here, the manifest's field of its data)
_METHODS = {
    "sft": ("sft", "data (demonstrations)"), "dpo": ("dpo", "data (preferences)"), "cpo": ("cpo", "data (preferences)"),
    "orpo": ("orpo", "data (preferences)"), "kto": ("kto", "data (preferences)"), "bco": ("bco", "data (preferences)"),
    "reward-trainer": ("reward_model", "data (preferences)"), "grpo": ("grpo", "prompts.train"),
    "rloo": ("rloo", "prompts.train"), "ppo": ("ppo", "prompts.train"), "online-dpo": ("online_dpo", "prompts.train"),
    "nash-md": ("nash_md", "prompts.train"), "xpo": ("xpo", "prompts.train"), "gkd": ("gkd", "data (demonstrations)"),
}  # fmt: skip


def detect(path: Path) -> bool:
    if not folders.is_model(path):
        return False
    card = folders.card_of(path)
    return "trl" in folders.tags(card) or "library.trl" in folders.versions(card)


def read(path: Path) -> External:
    papers = folders.read_papers(path)
    method, data = next((_METHODS[tag] for tag in papers.tags if tag in _METHODS), ("trl", ""))
    manifest: Json = folders.declared(papers, method)
    manifest |= {"method": method} if data else {}
    manifest |= {data: papers.datasets} if data and papers.datasets else {}
    return External("trl", str(papers.folder), manifest=manifest, notes=papers.notes)


EXTERNAL = Kind(detect, read, "policy", over=("peft", "transformers"))
