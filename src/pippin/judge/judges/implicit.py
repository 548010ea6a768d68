"""The implicit reward of a policy, beta times its log-ratio to the reference over the response: ``implicit/PATH``.

Source: Rafailov et al., "Direct Preference Optimization", NeurIPS 2023, arXiv 2305.18290, section 4, equation 5.

Settings: ``reference`` (a model's name or path; by default what the run's manifest names, else the model it started
from) and ``beta`` (0.1), which scales the numbers and changes no comparison.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pippin.core.config import build, setting
from pippin.core.errors import InputError
from pippin.core.types import Judge, digest
from pippin.judge.judging import Judging, Options, Rows, ScoreJudge

RUN = "pippin_run.json"
"""What a training run writes beside its weights."""


@dataclass(frozen=True)
class Config:
    """Settings of an implicit reward."""

    reference: str = setting("", "Model or path of the reference policy")
    beta: float = setting(0.1, "Scale of the reward, in reward per nat")


def reference_of(path: Path) -> str:
    """The reference that the manifest of a trained policy names, else the model that it started from.

    Raises:
        InputError: there is no manifest, or it names neither.
    """
    file = path / RUN
    manifest = json.loads(file.read_text("utf-8")).get("manifest", {}) if file.is_file() else {}
    stated = manifest.get("reference") or manifest.get("model")
    if not stated:
        raise InputError("the reference of this policy is not known", where=str(path),
                         mend="Name it: implicit/PATH?reference=MODEL")  # fmt: skip
    return str(stated)


def make(rest: str, options: Options) -> Judging:
    config = build(Config, options.settings, where=f"implicit/{rest}")
    path = Path(rest).expanduser()
    if not path.is_dir():
        raise InputError("no such policy", where=rest, expected="a checkpoint folder")
    named = config.reference or reference_of(path)
    from pippin.lm.hf import load_policy

    policy, reference = load_policy(str(path)), load_policy(named)

    def scores(rows: Rows) -> list[float]:
        prompts, texts = [p.messages for p, _ in rows], [r.text for _, r in rows]
        pairs = zip(policy.logprobs(prompts, texts), reference.logprobs(prompts, texts), strict=True)
        return [config.beta * (ours.total - theirs.total) for ours, theirs in pairs]

    models = {"policy": str(path), "reference": named}
    return ScoreJudge(Judge(f"implicit/{rest}", digest([models, config]), models), scores)


JUDGE = make
