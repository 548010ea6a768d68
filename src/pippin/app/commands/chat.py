"""``pippin chat``: a conversation in the terminal, or with lines from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from pippin.app.commands.options import Json, MaxTokens, Seed, Temperature, TopP

_HELP = "/reset begins anew, /quit ends (so does the end of input)"


def chat(
    model: Annotated[str, typer.Argument(help="A model's name or path.")],
    system: Annotated[str, typer.Option(help="A system message before the conversation.", show_default=False)] = "",
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    seed: Seed = 0,
    json: Json = "",
) -> None:
    """Talk with a model: one line is one turn; /reset begins anew, /quit ends."""
    from pippin.app.console import Console, printable
    from pippin.compare.sides import Draw, find_model, reranker
    from pippin.core.types import Message, Prompt
    from pippin.data.respond import respond

    console = Console(json)
    talking = find_model(model)
    sampling = Draw(1, temperature, top_p, max_tokens, seed).sampling(talking)
    rerank = reranker(talking)
    opening = (Message("system", system),) if system else ()
    said = opening
    if sys.stdin.isatty():
        console.note(f"{model}. {_HELP}")
    for line in _lines():
        if line == "/quit":
            break
        if line == "/reset":
            said = opening
            continue
        if line.startswith("/") and " " not in line:
            console.note(f"no command {printable(line)}: {_HELP}")
            continue
        asked = (*said, Message("user", line))
        told = respond(talking, [Prompt(asked)], sampling=sampling, rerank=rerank)
        if told.failed:
            console.note(f"no answer: {told.failed[0][2]}")
            continue
        said = (*asked, Message("assistant", told.rows[0][1].text))
        console.say(printable(said[-1].content))
    console.result({"model": model, "messages": [{"role": m.role, "content": m.content} for m in said]})


def _lines() -> Iterator[str]:
    """Lines of input that are not blank, with a prompt sign and history where a person types."""
    watched = sys.stdin.isatty()
    if watched:
        _history()
    while True:
        try:
            line: Any = input("> ") if watched else sys.stdin.readline()
        except EOFError:
            return
        if not watched and not line:
            return
        if line.strip():
            yield line.strip()


def _history() -> None:
    """Arrow keys and history, where Python was built with them."""
    try:
        import readline  # noqa: F401 - importing it is what gives input() its line editing
    except ImportError:
        return
