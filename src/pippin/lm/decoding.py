"""The decoding recipe of a policy, and the files that keep it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pippin.core.errors import InputError

FILE = "pippin.json"  # beside the weights, where the recipe says more than generation_config.json can


@dataclass(frozen=True)
class Decoding:
    """The decoding recipe of a policy: what belongs to it beside its weights.

    Args:
        prefix: control text put after the opening of the assistant's turn; conditioned on, never part of the answer.
        banned: tokens (as text) that are never drawn.
        n: answers drawn for each one given; the best by ``reranker`` is kept (best-of-n).
        reranker: the scorer's spec, say ``rm/PATH``.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    prefix: str = ""
    banned: tuple[str, ...] = ()
    n: int = 1
    reranker: str = ""

    @property
    def plain(self) -> bool:
        """Nothing that ``generation_config.json`` could not say."""
        return not (self.prefix or self.banned or self.reranker or self.n != 1)


def read_decoding(folder: Path) -> Decoding:
    """The decoding recipe of a saved policy; what a foreign checkpoint leaves unsaid has this project's defaults.

    Raises:
        InputError: :data:`FILE` is not what :meth:`Policy.save` writes.
    """
    if (folder / FILE).is_file():
        try:
            stated = json.loads((folder / FILE).read_text(encoding="utf-8"))["decoding"]
            return Decoding(**{**stated, "banned": tuple(stated.get("banned", ()))})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError("not a decoding recipe", where=str(folder / FILE), found=str(error)) from None
    try:
        stated = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Decoding()
    if "do_sample" not in stated:
        return Decoding()
    greedy = not stated["do_sample"]
    default = Decoding()
    return Decoding(
        temperature=0.0 if greedy else float(stated.get("temperature") or 1.0),
        top_p=1.0 if greedy else float(stated.get("top_p") or 1.0),
        max_tokens=int(stated.get("max_new_tokens") or default.max_tokens),
    )
