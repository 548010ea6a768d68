"""Rows of the ecosystem's columns into records and back: pure functions, no files.

==============  ===============================================================================================
form            columns
==============  ===============================================================================================
group           Pippin's own: ``prompt`` (an object), ``responses``, ``judgements``
preference      ``chosen``, ``rejected`` and perhaps ``prompt``; without it the prompt is what both begin with
ranked          ``prompt``, ``responses`` and perhaps ``scores`` or ``ranks`` (1 is best)
completion      ``prompt``, ``completion`` and perhaps ``label`` (true or false), ``model``
output          ``instruction``, ``output`` and perhaps ``input``, ``generator`` (Alpaca, AlpacaEval)
messages        ``messages`` (or ``conversations`` with ``from`` and ``value``); a last assistant turn is the response
prompt          ``prompt`` alone
==============  ===============================================================================================

Everywhere a text may be a string (one turn) or a list of messages (conversational). Source of the columns: TRL,
"Dataset formats and types"; AlpacaEval, "model outputs"; ShareGPT for ``conversations``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pippin.core.errors import InputError
from pippin.core.types import (
    Choice,
    Group,
    Judgement,
    Message,
    Messages,
    Note,
    Outcome,
    Preference,
    Prompt,
    Ranking,
    Response,
    Score,
    assistant,
    from_row,
    to_row,
    user,
)

LABELS = "labels"
"""Who a label of a file is ``by`` where the file does not say."""

TRUSTED = ("gold", LABELS)
"""Authors whose choices can measure judges."""

ROLES = {
    "system": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
}  # fmt: skip
_JUDGEMENTS = {"choice": Choice, "ranking": Ranking, "score": Score, "note": Note}
_FORMS: tuple[tuple[str, frozenset[str]], ...] = (
    ("preference", frozenset({"chosen", "rejected"})),
    ("ranked", frozenset({"prompt", "responses"})),
    ("completion", frozenset({"prompt", "completion"})),
    ("output", frozenset({"instruction", "output"})),
    ("messages", frozenset({"messages"})),
    ("messages", frozenset({"conversations"})),
    ("prompt", frozenset({"prompt"})),
    ("prompt", frozenset({"instruction"})),
)


def form(row: Mapping[str, Any], where: str = "") -> str:
    """The form of a row, from the columns that have a value.

    Raises:
        InputError: no form fits; names the columns found and those that would do.
    """
    columns = {name for name, value in row.items() if value is not None}
    if isinstance(row.get("prompt"), Mapping):
        return "group"
    for name, needed in _FORMS:
        if needed <= columns:
            return name
    raise InputError(
        "a row without a prompt", where=where, found=sorted(columns),
        expected="prompt; prompt and completion; prompt, chosen and rejected; messages; or instruction and output",
    )  # fmt: skip


def group(row: Mapping[str, Any], where: str = "") -> Group:
    """The Group that a row of any form states.

    Raises:
        InputError: a column is missing, empty or of the wrong type.
    """
    match form(row, where):
        case "group":
            return _own(row, where)
        case "preference":
            return _preference(row, where)
        case "ranked":
            return _ranked(row, where)
        case "completion":
            return _completion(row, where)
        case "output":
            prompt = _prompt(_instruction(row, where), row)
            author = str(row.get("generator") or "")
            return Group(prompt, responses(prompt, [_said(row["output"], "output", where)], author))
        case "messages":
            return _conversation(row, where)
        case _:
            stated = row.get("prompt")
            asked = _instruction(row, where) if stated is None else messages(stated, "prompt", where)
            return Group(_prompt(asked, row))


def messages(value: Any, column: str, where: str = "") -> Messages:
    """A string (one user turn) or a list of ``{role, content}`` (or ``{from, value}``) as messages.

    Raises:
        InputError: empty, of another type, or with a role that is not known.
    """
    if isinstance(value, str) and value.strip():
        return user(value)
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return tuple(_message(turn, column, where) for turn in value)
    raise InputError(f"no text in column {column!r}", where=where, found=value, expected="a text or a list of messages")


def responses(prompt: Prompt, said: Iterable[Messages], by: str = "") -> tuple[Response, ...]:
    """Responses to one prompt; equal texts are numbered, so that their ids differ."""
    seen: Counter[Messages] = Counter()
    result = []
    for turns in said:
        result.append(Response(prompt.id, turns, by=by, sample=seen[turns]))
        seen[turns] += 1
    return tuple(result)


def merge(groups: Iterable[Group]) -> list[Group]:
    """One Group per prompt, in the order of first appearance; the responses and judgements of all, each once."""
    merged: dict[str, Group] = {}
    for item in groups:
        known = merged.get(item.prompt.id)
        if known is None:
            merged[item.prompt.id] = item
            continue
        answers = {r.id: r for r in (*known.responses, *item.responses)}
        opinions = dict.fromkeys((*known.judgements, *item.judgements))
        merged[item.prompt.id] = Group(known.prompt, tuple(answers.values()), tuple(opinions))
    return list(merged.values())


def group_row(item: Group) -> dict[str, Any]:
    """A Group as Pippin's own row, which :func:`group` reads back whole."""
    return {
        "prompt": to_row(item.prompt),
        "responses": [to_row(response) for response in item.responses],
        "judgements": [to_row(j) for j in item.judgements],
    }


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """``prompt`` as messages, with its id and what else is known of it."""
    more = {"source": prompt.source, "reference": prompt.reference, "tags": list(prompt.tags)}
    later = [m.content for m in prompt.follow_ups]
    row: dict[str, Any] = {"prompt": _turns(prompt.messages), "prompt_id": prompt.id}
    return row | {k: v for k, v in more.items() if v} | ({"follow_ups": later} if later else {})


def response_row(prompt: Prompt, response: Response) -> dict[str, Any]:
    """``prompt`` and ``completion`` as messages, ``model``, and how the text came about."""
    row = prompt_row(prompt) | {"completion": _turns(response.messages), "model": response.by}
    more = {"sample": response.sample, "stop": response.stop,
            "sampling": to_row(response.sampling) if response.sampling else None}  # fmt: skip
    return row | {k: v for k, v in more.items() if v}


def preference_row(item: Group, preference: Preference) -> dict[str, Any]:
    """``prompt``, ``chosen``, ``rejected`` as messages; ``probability`` and ``weight`` where they are not 1."""
    chosen, rejected = item.responses[preference.i], item.responses[preference.j]
    authors = {j.by for j in item.judgements}
    row = prompt_row(item.prompt) | {"chosen": _turns(chosen.messages), "rejected": _turns(rejected.messages)}
    if len(authors) == 1:
        row["by"] = authors.pop()
    if chosen.by or rejected.by:
        row |= {"chosen_model": chosen.by, "rejected_model": rejected.by}
    if preference.probability != 1:
        row["probability"] = preference.probability
    if preference.weight != 1:
        row["weight"] = preference.weight
    return row


def _turns(turns: Messages) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in turns]


def _message(turn: Any, column: str, where: str) -> Message:
    role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
    content = turn.get("content", turn.get("value")) if isinstance(turn, Mapping) else None
    known = ROLES.get(str(role).lower())
    if known is None or not isinstance(content, str):
        raise InputError(f"not a message in column {column!r}", where=where, found=turn,
                         expected="{role: system, user or assistant, content: text}")  # fmt: skip
    return Message(known, content)  # type: ignore[arg-type]


def _said(value: Any, column: str, where: str) -> Messages:
    """A response: a text, a message or a list of messages. It may be empty: an empty answer is an answer."""
    if isinstance(value, str):
        return assistant(value)
    if isinstance(value, Mapping):
        value = [value]
    turns = messages(value, column, where)
    if turns[-1].role != "assistant":
        raise InputError(f"column {column!r} does not end with the assistant", where=where, found=turns[-1].role)
    return turns


def _prompt(turns: Messages, row: Mapping[str, Any]) -> Prompt:
    later = row.get("follow_ups") or ()
    follow_ups = tuple(Message("user", text) if isinstance(text, str) else _message(text, "follow_ups", "")
                       for text in later)  # fmt: skip
    reference = row.get("reference")
    return Prompt(
        turns, follow_ups, str(row.get("source") or row.get("dataset") or ""),
        reference if isinstance(reference, str) else None, tuple(row.get("tags") or ()),
    )  # fmt: skip


def _instruction(row: Mapping[str, Any], where: str) -> Messages:
    """Alpaca's two fields as one user turn; blank or null ``input`` means that there is none."""
    asked, given = row["instruction"], row.get("input")
    if not isinstance(asked, str) or not asked.strip():
        raise InputError("no text in column 'instruction'", where=where, found=asked, expected="a text")
    return user(f"{asked}\n\n{given}" if isinstance(given, str) and given.strip() else asked)


def _conversation(row: Mapping[str, Any], where: str) -> Group:
    column = "messages" if row.get("messages") is not None else "conversations"
    turns = messages(row[column], column, where)
    if turns[-1].role != "assistant":
        return Group(_prompt(turns, row))
    if len(turns) == 1:
        raise InputError(f"nothing is asked in column {column!r}", where=where, found="one assistant turn")
    prompt = _prompt(turns[:-1], row)
    return Group(prompt, responses(prompt, [turns[-1:]], str(row.get("model") or "")))


def _completion(row: Mapping[str, Any], where: str) -> Group:
    prompt = _prompt(messages(row["prompt"], "prompt", where), row)
    said = _said(row["completion"], "completion", where)
    draw, stop = row.get("sample") or 0, row.get("stop") or ""
    response = Response(prompt.id, said, by=str(row.get("model") or ""), sample=draw, stop=stop)
    label = row.get("label")
    if label is None:
        return Group(prompt, (response,))
    if not isinstance(label, bool):
        raise InputError("column 'label' is not a truth value", where=where, found=label, expected="true or false")
    score = Score(prompt.id, response.id, float(label), str(row.get("by") or LABELS), "label", (0.0, 1.0))
    return Group(prompt, (response,), (score,))


def _preference(row: Mapping[str, Any], where: str) -> Group:
    chosen, rejected = (_said(row[name], name, where) for name in ("chosen", "rejected"))
    if row.get("prompt") is not None:
        asked = messages(row["prompt"], "prompt", where)
        sides = [_after(asked, side) for side in (chosen, rejected)]
    elif isinstance(row["chosen"], str) or isinstance(row["rejected"], str):
        raise InputError("a row without a prompt", where=where, found=sorted(row), expected="a column prompt",
                         mend="Texts that hold the whole dialogue need their own reader, such as hh_rlhf")  # fmt: skip
    else:
        shared = _common(chosen, rejected)
        asked, sides = chosen[:shared], [chosen[shared:], rejected[shared:]]
        if not asked:
            raise InputError("chosen and rejected have no prompt in common", where=where)
    prompt = _prompt(asked, row)
    answers = tuple(
        Response(r.prompt_id, r.messages, by=str(row.get(f"{name}_model") or ""), sample=r.sample)
        for name, r in zip(("chosen", "rejected"), responses(prompt, sides), strict=True)
    )
    by, p = str(row.get("by") or LABELS), row.get("probability")
    outcome = Outcome.TIE if p == 0.5 else Outcome.FIRST
    return Group(prompt, answers, (Choice(prompt.id, answers[0].id, answers[1].id, outcome, by, p_first=p),))


def _after(asked: Messages, side: Messages) -> Messages:
    """``side`` without the prompt, where it repeats it (Zephyr's layout)."""
    return side[len(asked) :] if len(side) > len(asked) and side[: len(asked)] == asked else side


def _common(one: Messages, two: Messages) -> int:
    """How many first messages are the same, the last assistant turn of either never counted."""
    limit = min(len(one), len(two)) - 1
    return next((i for i in range(limit) if one[i] != two[i]), limit)


def _ranked(row: Mapping[str, Any], where: str) -> Group:
    prompt = _prompt(messages(row["prompt"], "prompt", where), row)
    listed = row["responses"]
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise InputError("no response in column 'responses'", where=where, found=listed, expected="a list")
    answers = responses(prompt, [_said(value, "responses", where) for value in listed])
    by = str(row.get("by") or LABELS)
    opinions: list[Judgement] = []
    for column in ("scores", "ranks"):
        values = row.get(column)
        if values is None:
            continue
        if len(values) != len(answers):
            raise InputError(f"column {column!r} does not fit", where=where, found=len(values), expected=len(answers))
        if column == "ranks":
            opinions.append(Ranking(prompt.id, tuple(r.id for r in answers), tuple(values), by))
        else:
            pairs = zip(answers, values, strict=True)
            opinions += [Score(prompt.id, r.id, None if v is None else float(v), by,
                               outcome=Outcome.ABSTAINED if v is None else None) for r, v in pairs]  # fmt: skip
    return Group(prompt, answers, tuple(opinions))


def _own(row: Mapping[str, Any], where: str) -> Group:
    unknown = set(row) - {"prompt", "responses", "judgements"}
    if unknown:
        raise InputError(f"unknown key {sorted(unknown)[0]!r} in a Group", where=where)
    prompt = from_row(Prompt, _lean(row["prompt"]), where=where)
    answers = tuple(from_row(Response, _lean(r), where=where) for r in row.get("responses") or ())
    opinions = tuple(judgement(j, where) for j in row.get("judgements") or ())
    return Group(prompt, answers, opinions)


def judgement(row: Mapping[str, Any], where: str = "") -> Judgement:
    """A judgement of any kind from its row; ``kind`` says which, a choice where it is absent.

    Raises:
        InputError: an unknown kind, or keys that do not fit.
    """
    kind = _JUDGEMENTS.get(str(row.get("kind") or "choice"))
    if kind is None:
        raise InputError("a judgement of unknown kind", where=where, found=row.get("kind"), expected=list(_JUDGEMENTS))
    return from_row(kind, _lean(row) | ({"value": row.get("value")} if kind is Score else {}), where=where)


def _lean(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without nulls: Parquet gives every row the columns of all rows."""
    return {key: value for key, value in row.items() if value is not None}
