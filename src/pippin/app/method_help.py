"""``pippin align --help``: the settings that every method has, and with a method's name before it the method's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer.core

if TYPE_CHECKING:
    from pippin.core.config import Setting

_BESIDE = ("collapse", "report_to", "run_name", "push_to_hub", "hub_model_id", "hub_private_repo")
_SHARED = "Settings of every method (--setting value, or a key of the file)"


class Command(typer.core.TyperCommand):
    """A command whose open options are the settings of the method that its first word names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["words"] = [
            word for word in args if not word.startswith("-")
        ]  # help is printed while these are parsed
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The options, then the settings in groups."""
        from pippin.align.method import Training
        from pippin.app import job
        from pippin.core import catalog
        from pippin.core.config import describe

        super().format_options(ctx, formatter)
        name = next((word for word in ctx.meta.get("words", ()) if word in catalog.names("methods")), "")
        shared = describe(Training)
        if name:
            method = catalog.load("methods", name)
            shared = [row._replace(default=method.defaults.get(row.name, row.default)) for row in shared]
            with formatter.section(f"Settings of {name}"):
                formatter.write_dl([_row(row) for row in describe(method.config)])
        with formatter.section(_SHARED):
            formatter.write_dl([_row(row) for row in shared])
        with formatter.section("Judgements into preferences, trackers, the hub"):
            formatter.write_dl([_row(row) for row in describe(job.Job) if row.name.partition(".")[0] in _BESIDE])
        if not name:
            formatter.write_paragraph()
            formatter.write_text("`pippin align METHOD --help` shows the settings of a method.")


def _row(row: Setting) -> tuple[str, str]:
    default = ",".join(map(str, row.default)) if isinstance(row.default, tuple) else row.default
    shown = "empty" if default == "" else str(default).lower() if isinstance(default, bool) else default
    return f"--{row.name} {row.type.upper() if row.type in ('text', 'path') else row.type}", f"{row.help}  [{shown}]"
