"""``pippin bundle``: a study's report as an archive that others analyse again and extend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pippin.app.commands.options import Json


def bundle(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a study's report.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="The archive.", show_default="the folder's name and .zip")] = None,
    json: Json = "",
) -> None:
    """Pack a study with its answers, verdicts and books, but no weights or keys. `pippin report FILE.zip` opens it."""
    from pippin.app.console import Console, writable
    from pippin.compare import bundle as bundles
    from pippin.core.store import Store

    console = Console(json)
    target = writable(out or Path(f"{run.absolute().name}.zip"), "--out")
    with Store() as store:
        hashes = bundles.make(run, target, store)
    size = target.stat().st_size
    console.say(f"{target}: {len(hashes)} files, {size / 1e6:.1f} MB, no weights, no keys")
    console.say(f"Opened anywhere, offline: pippin report {target.name}. Extended: `extend: {target.name}` in a study")
    console.result({"path": str(target), "bytes": size, "sha256": hashes})
