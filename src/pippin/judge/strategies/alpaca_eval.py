"""AlpacaEval's judges: one token weighed by its log-probabilities, or a ranking in JSON.

Source: Dubois et al., "Length-Controlled AlpacaEval", 2024, arXiv 2404.04475; its code's weighted and ranking judges
The wording is our own.

The outputs are called ``m`` and ``M``, in the order shown. The length control is the statistics' work.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pippin.core.types import Call, Choice, Key, Outcome, Request, Sampling, Stop
from pippin.judge.ask import SYSTEM, Order, Pair
from pippin.judge.parse import missing, without_thinking
from pippin.judge.scoring import side_by_side
from pippin.judge.strategy import Asker, Asking, Calls, Strategy, each_order, stated

FAMILY = {
    "alpaca_eval": "Asks for one token and weighs it by the log-probabilities of both.",
    "alpaca_eval_ranking": "Asks for a ranking of both outputs as a JSON list.",
}
ONE, TWO = NAMES = ("m", "M")
TOKEN_PARSER, RANKING_PARSER = "alpaca_eval-1", "alpaca_eval_ranking-1"
"""What reads the answers; other parsers know no ``m`` and ``M``."""

RANKING_TOKENS = 100
TASK = (
    f"Below are an instruction and the outputs of two models, {ONE} and {TWO}. The better output is the one that most "
    "people would prefer as an answer to the instruction."
)
TOKEN = f"Which output is better? Reply with its name alone, the one letter {ONE} or {TWO}."
RANKING = (
    "Rank the outputs. Reply with a JSON list and nothing else: two objects, the better one first, each with the key "
    f'"model" ("{ONE}" or "{TWO}") and the key "rank" (1 is better, 2 is worse).'
)
_FENCED = re.compile(r"^```(?:json)?\s*\n(.*)\n\s*```$", re.DOTALL)


def token(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
    messages = side_by_side(pair, order, TASK, TOKEN, system=SYSTEM, labels=NAMES)
    sampling = Sampling(temperature=0.0, max_tokens=1)
    [call] = yield [Request(Key(pair.id, "judge", order), messages, sampling, labels=NAMES)]
    outcome, p_first = read_token(call)
    return stated(pair, order, asker, outcome, p_first=p_first, calls=(call.id,), parser=TOKEN_PARSER)


def ranking(pair: Pair, order: Order, asker: Asker) -> Asking[Choice]:
    messages = side_by_side(pair, order, TASK, RANKING, system=SYSTEM, labels=NAMES)
    [call] = yield [Request(Key(pair.id, "judge", order), messages, Sampling(0.0, max_tokens=RANKING_TOKENS))]
    return stated(pair, order, asker, read_ranking(call), calls=(call.id,), parser=RANKING_PARSER)


def read_token(call: Call) -> tuple[Outcome, float | None]:
    """The outcome, and the probability that the first shown is better where there are log-probabilities.

    A name that is not among the likely tokens has probability zero, as in AlpacaEval, if the other one is. Without
    log-probabilities the text decides. It is one token: whether it was cut off says nothing.
    """
    if call.stop in ("error", "filter"):
        return (Outcome.FAILED if call.stop == "error" else Outcome.REFUSED), None
    known = {name: lp for name, lp in (call.logprobs or {}).items() if name in NAMES and math.isfinite(lp)}
    if known:
        most = max(known.values())
        one, two = (math.exp(known.get(name, -math.inf) - most) for name in NAMES)
        p = one / (one + two)
        return (Outcome.TIE if p == 0.5 else Outcome.FIRST if p > 0.5 else Outcome.SECOND), p
    _, text = without_thinking(call.text.strip())
    said = text.strip(" \n\"'`*.()[]")
    if call.logprobs is None and said in NAMES:
        return (Outcome.FIRST if said == ONE else Outcome.SECOND), None
    return _why(text, "end"), None


def read_ranking(call: Call) -> Outcome:
    """The model of rank 1; equal ranks are a tie. Anything but the list asked for is no ranking."""
    if call.stop == "error":
        return Outcome.FAILED
    _, text = without_thinking(call.text.strip())
    fenced = _FENCED.match(text)
    try:
        rows: Any = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return _why(text, call.stop)
    if not isinstance(rows, list) or not all(isinstance(r, dict) and set(r) == {"model", "rank"} for r in rows):
        return _why(text, call.stop)
    ranks = {row["model"]: row["rank"] for row in rows if isinstance(row["model"], str)}
    if len(rows) != 2 or set(ranks) != set(NAMES) or not all(type(rank) is int for rank in ranks.values()):
        return _why(text, call.stop)
    told = {(1, 2): Outcome.FIRST, (2, 1): Outcome.SECOND, (1, 1): Outcome.TIE}
    return told.get((ranks[ONE], ranks[TWO]), Outcome.UNPARSED)


def _why(text: str, stop: Stop) -> Outcome:
    told = missing(text, stop)
    return told if told.missing else Outcome.UNPARSED


STRATEGY = {
    "alpaca_eval": Strategy(each_order(token), lambda _: Calls(2)),
    "alpaca_eval_ranking": Strategy(each_order(ranking), lambda _: Calls(2)),
}
