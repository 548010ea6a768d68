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


def use_files(files: list[Path] | None) -> None:
    """Add the leaves of ``--with``.

    Raises:
        InputError: a file is missing or defines no leaf.
    """
    from pippin.core import catalog

    for file in files or ():
        catalog.use_file(file)
