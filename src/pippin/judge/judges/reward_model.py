"""A reward model saved by the method ``reward_model``: ``rm/PATH``.

Source: Ouyang et al., "Training language models to follow instructions with human feedback", 2022, arXiv 2203.02155.
"""

from __future__ import annotations

from pathlib import Path

from pippin.core.errors import InputError
from pippin.core.run import file_digest
from pippin.core.types import Judge
from pippin.judge.judging import Judging, Options, Rows, ScoreJudge


def make(rest: str, options: Options) -> Judging:
    options.none_left("a reward model")
    path = Path(rest).expanduser()
    if not path.is_dir():
        raise InputError("no such reward model", where=rest, expected="a folder that `pippin align reward_model` wrote")
    from pippin.lm.reward import load_reward

    model = load_reward(path)

    def scores(rows: Rows) -> list[float]:
        return model.score([prompt.messages for prompt, _ in rows], [response.text for _, response in rows])

    return ScoreJudge(Judge(f"rm/{rest}", file_digest(path), {"reward": str(path)}), scores)


JUDGE = make
