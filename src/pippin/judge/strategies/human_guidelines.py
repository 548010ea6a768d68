"""The rating task as people get it: a description, a definition, a question with five answers.

Source: Chiang and Lee, "Can Large Language Models Be an Alternative to Human Evaluations?", ACL 2023, arXiv 2305.01937;
    "A Closer Look into Using Large Language Models for Automatic Evaluation", 2023, arXiv 2310.05657 (analyse-rate)
The wording is our own.
"""

from __future__ import annotations

from dataclasses import dataclass

from pippin.core.config import setting
from pippin.core.types import Key, Prompt, Request, Response, Sampling, Score
from pippin.judge.scoring import alone
from pippin.judge.strategies.cot import EXPLANATION_TOKENS
from pippin.judge.strategies.rating import SYSTEM
from pippin.judge.strategy import NUMBER, Asker, Asking, Calls, Strategy, by_ratings, read_score

FAMILY = {
    "human_guidelines": "Rates each output from 1 to 5, told what people are told: task, definition, question.",
    "human_guidelines_explained": "As human_guidelines, with an analysis before the rating.",
}
SCALE = (1.0, 5.0)
OVERALL = "overall quality"
DEFINITION = "How good the output is as an answer to the instruction, all things considered"
RATE = "Reply with the number alone: 1, 2, 3, 4 or 5."
ANALYSE = (
    "Answer in two parts. First analyse the output with regard to the question, in a few sentences. Then write as the "
    "last line the word Rating, a colon, and the number alone: 1, 2, 3, 4 or 5."
)


@dataclass(frozen=True)
class Config:
    """Settings of human_guidelines."""

    attribute: str = setting(OVERALL, "What is rated")
    definition: str = setting("", "What the attribute means; by default only the overall quality is defined")


def guidelines(config: Config) -> str:
    """The task's description, and the definition of the attribute where there is one."""
    definition = config.definition or (DEFINITION if config.attribute == OVERALL else "")
    told = f" {config.attribute[:1].upper()}{config.attribute[1:]} means: {definition}." if definition else ""
    return (
        "Thank you for taking part. You will read an instruction, and an output that was written for it. Please rate "
        f"the {config.attribute} of the output.{told} Read both carefully before you answer."
    )


def question(config: Config) -> str:
    """The question, and what its lowest and highest answer mean."""
    return f"How do you rate the {config.attribute} of the output, on a scale from 1 (lowest) to 5 (highest)?"


def _strategy(answer: str, tokens: int) -> Strategy:
    def rate(prompt: Prompt, response: Response, asker: Asker) -> Asking[Score]:
        config: Config = asker.config
        messages = alone(prompt, response, guidelines(config), f"{question(config)}\n\n{answer}", system=SYSTEM)
        [call] = yield [Request(Key(response.id, "judge"), messages, Sampling(0.0, max_tokens=tokens))]
        return read_score(prompt, response, asker, call, SCALE, criterion=config.attribute)

    return Strategy(by_ratings(rate), lambda _: Calls(pair=2), NUMBER, Config, rate)


STRATEGY = {
    "human_guidelines": _strategy(RATE, 50),
    "human_guidelines_explained": _strategy(ANALYSE, EXPLANATION_TOKENS),
}
