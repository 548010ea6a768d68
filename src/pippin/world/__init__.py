"""A small world of instructions whose answers a program can check.

``lexicon`` holds the words, ``tasks`` the instructions and their grammar, ``verifier`` the truth about an answer,
``people`` those who demonstrate and annotate (with known faults), ``corpus`` the documents from which ``pretrain``
makes the base model. The base has the skills but not the instruction format: supervised fine-tuning elicits them,
together with the demonstrators' shared mistakes, and alignment has something to mend.

Only ``pretrain`` imports torch.
"""

from pathlib import Path

BASE = Path(__file__).parent / "base"
"""Folder of the base model: config, weights, tokenizer with chat template, and ``recipe.json``."""

SFT = Path(__file__).parent / "sft"
"""The base after fine-tuning on the demonstrations (seed 0), as the demonstration does it; ``world/sft``."""
