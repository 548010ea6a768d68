"""Two outputs side by side and a number for each: what is shown, how the numbers are read, what several of them say.

Numbers become one comparison by differences, first shown less second shown. What could not be read is left out and
stays among the choice's calls; where nothing could be read, the outcome is the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from pippin.core.types import (
    Call,
    Choice,
    Key,
    Message,
    Messages,
    Outcome,
    Prompt,
    Request,
    Response,
    Sampling,
)
from pippin.judge.ask import LABELS, SYSTEM, Extra, Order, Pair, block, fence, mark_for, numbered, turns
from pippin.judge.numbers import Scale, read_two
from pippin.judge.parse import without_thinking
from pippin.judge.strategy import NUMBER, Asker, Asking, stated

TOKENS = 512
"""Most that a review with its scores may take."""

GENERAL = "How well the output does what the instruction asks, on the whole"
"""The one aspect where a model has listed none."""

ASPECT_TOKENS = 200
_ITEM = re.compile(r"^[ \t]*(?:\d+[.):]|[-*•])[ \t]+(\S.*)$", re.MULTILINE)
_PLACES = 9  # so that 7.2 less 7.1 is a tenth


def side_by_side(
    pair: Pair,
    order: Order,
    task: str,
    answer: str,
    *,
    rules: Sequence[str] = (),
    extras: Sequence[Extra] = (),
    system: str = SYSTEM,
    labels: tuple[str, str] = LABELS,
) -> Messages:
    """The messages that show an instruction, two outputs and more to go by, and end with what to answer."""
    later = (m.content for m in pair.prompt.follow_ups)
    mark = fence(pair, *later, *(extra.text for extra in extras))
    one, two = pair.shown(order)
    parts = [
        task,
        numbered("How to judge", rules),
        *turns("instruction", pair.prompt.messages, mark),
        *turns(f"output {labels[0]}", conversation(pair.prompt, one), mark),
        *turns(f"output {labels[1]}", conversation(pair.prompt, two), mark),
        *(f"{extra.words}\n{block(extra.title, extra.text, mark)}" for extra in extras),
        answer,
    ]
    return (Message("system", system), Message("user", "\n\n".join(filter(None, parts))))


def alone(
    prompt: Prompt, response: Response, task: str, answer: str, *, extras: Sequence[Extra] = (), system: str
) -> Messages:
    """The messages that show an instruction, one output and more to go by, and end with what to answer."""
    shown = [*prompt.messages, *prompt.follow_ups, *response.messages]
    mark = mark_for([prompt.id, response.id], [*(m.content for m in shown), *(extra.text for extra in extras)])
    parts = [
        task,
        *turns("instruction", prompt.messages, mark),
        *turns("output", conversation(prompt, response), mark),
        *(f"{extra.words}\n{block(extra.title, extra.text, mark)}" for extra in extras),
        answer,
    ]
    return (Message("system", system), Message("user", "\n\n".join(parts)))


def conversation(prompt: Prompt, response: Response) -> Messages:
    """A response with the follow-ups that its answers stand between, also where it holds the answers alone."""
    if any(m.role == "user" for m in response.messages):
        return response.messages
    said: Messages = ()
    for n, message in enumerate(response.messages):
        said += (*prompt.follow_ups[n - 1 : n], message) if n else (message,)
    return said


def spoken(title: str, words: str, call: Call) -> list[Extra]:
    """What a model wrote in an earlier call, without its thinking, as something to go by; none where it wrote none."""
    _, text = without_thinking(call.text.strip())
    return [Extra(title, words, text)] if text else []


def two_scores(scale: Scale) -> str:
    """The sentence that asks for two scores in the last line."""
    low, high = map(int, scale)
    return (
        f"Write as the last line two numbers from {low} (worst) to {high} (best) and nothing else: the score of output "
        f"{LABELS[0]}, a space, the score of output {LABELS[1]}."
    )


def difference(call: Call, scale: Scale) -> float | Outcome:
    """The score of the first shown less that of the second, or why there is none.

    A text that was cut off has not come to its last line, whatever numbers stand in it.
    """
    if call.stop == "length":
        return Outcome.TRUNCATED
    read = read_two(call.text, call.stop, scale)
    return read if isinstance(read, Outcome) else round(read[0] - read[1], _PLACES)


def by_mean(
    pair: Pair, order: Order, asker: Asker, calls: Sequence[Call], scale: Scale, *, earlier: Sequence[str] = ()
) -> Choice:
    """The higher mean score wins, over all calls that could be read; ``strength`` is the difference of the means."""
    read = [difference(call, scale) for call in calls]
    found = numbers(read)
    ids = (*earlier, *(call.id for call in calls))
    if not found:
        return stated(pair, order, asker, reason(read), calls=ids, parser=NUMBER)
    return by_sign(pair, order, asker, math.fsum(found) / len(found), calls=ids)


def by_sign(pair: Pair, order: Order, asker: Asker, strength: float, *, calls: tuple[str, ...]) -> Choice:
    """Above zero the first shown wins, below zero the second; zero is a tie."""
    strength = round(strength, _PLACES)
    outcome = Outcome.TIE if strength == 0 else Outcome.FIRST if strength > 0 else Outcome.SECOND
    return stated(pair, order, asker, outcome, strength=strength, calls=calls, parser=NUMBER)


def numbers(read: Iterable[float | Outcome]) -> list[float]:
    """The readings that are numbers."""
    return [value for value in read if not isinstance(value, Outcome)]


def reason(read: Sequence[float | Outcome]) -> Outcome:
    """Why nothing could be read: that a call failed, which may be mended by asking again, else the first reason."""
    reasons = [value for value in read if isinstance(value, Outcome)]
    return Outcome.FAILED if Outcome.FAILED in reasons else next(iter(reasons), Outcome.UNPARSED)


def aspects(prompt: Prompt, role: str, most: int) -> Asking[tuple[list[str], Call]]:
    """At most ``most`` aspects from which outputs to this prompt should be judged, listed by the model; and its call.

    The outputs are not shown, so that all pairs of a prompt share the list. A text without a list gives
    :data:`GENERAL` alone, a failed call gives none.
    """
    mark = mark_for([prompt.id], [m.content for m in (*prompt.messages, *prompt.follow_ups)])
    parts = [
        "Below is an instruction. Two outputs to it will be compared. From which sides should one look at them?",
        *turns("instruction", (*prompt.messages, *prompt.follow_ups), mark),
        f"Make a numbered list of at most {most}, the most important first, made for this very instruction and as "
        "different from one another as can be. Each stands on a line of its own: its name, a colon, and what to look "
        "at. Write nothing else.",
    ]
    messages = (
        Message("system", "You prepare the evaluation of outputs to an instruction. The instruction is material."),
        Message("user", "\n\n".join(parts)),
    )
    [call] = yield [Request(Key(prompt.id, role), messages, Sampling(temperature=0.0, max_tokens=ASPECT_TOKENS))]
    return ([] if call.stop == "error" else listed(call)[:most] or [GENERAL]), call


def listed(call: Call) -> list[str]:
    """The items of a numbered or bulleted list, each once; a last line that was cut off is none."""
    _, text = without_thinking(call.text.strip())
    if call.stop == "length":
        text = text.rpartition("\n")[0]
    items = (item.replace("**", "").strip() for item in _ITEM.findall(text))
    return list(dict.fromkeys(item for item in items if re.search(r"\w", item)))
