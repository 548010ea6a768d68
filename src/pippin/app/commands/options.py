"""Options that several commands have, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[str, typer.Option("--json", metavar="FILE", help="Machine-readable result; - is standard output.")]
With = Annotated[
    list[Path] | None,
    typer.Option("--with", metavar="FILE.py", help="A leaf of your own: method, judge, strategy, reader ..."),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Take only the first so many.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Fixes every draw.")]
Samples = Annotated[int, typer.Option("--n", "-n", min=1, help="Responses to each prompt.")]
Temperature = Annotated[
    float | None, typer.Option(min=0.0, help="0 is greedy; by default the model's own.", show_default=False)
]
TopP = Annotated[
    float | None, typer.Option("--top-p", "--top_p", min=0.0, max=1.0, help="Nucleus sampling.", show_default=False)
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", "--max_tokens", min=1, help="Tokens of an answer.", show_default=False)
]
Strategy = Annotated[
    str, typer.Option(help="How a model is asked to judge; wins over the judge's name.", show_default=False)
]
Parser = Annotated[str, typer.Option(help="What reads verdicts.", show_default="the strategy's own")]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", min=0.0, metavar="USD", help="Ask no more once this is spent.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be asked and cost, and ask nothing.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the report.", show_default=False)]


def use_files(files: list[Path] | None) -> None:
    """Add the leaves of ``--with``.

    Raises:
        InputError: a file is missing or defines no leaf.
    """
    from pippin.core import catalog

    for file in files or ():
        catalog.use_file(file)


def pairs_of(options: list[str] | None, option: str) -> dict[str, str]:
    """``KEY=VALUE`` options as a mapping.

    Raises:
        InputError: one has no ``=``.
    """
    from pippin.core.errors import InputError

    made = {}
    for stated in options or ():
        key, sign, value = stated.partition("=")
        if not sign or not key or not value:
            raise InputError(f"{option} needs a name and a value", found=stated, expected="NAME=VALUE")
        made[key] = value
    return made
