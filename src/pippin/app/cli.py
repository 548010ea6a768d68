"""``pippin``: the commands, and what becomes of errors.

Exit codes: 0 done; 1 a failure that is not the input's; 2 bad input, one line on standard error, nothing written;
3 some items failed, the same command resumes them; 4 the gate does not hold; 130 interrupted, nothing lost.
"""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches

import typer
from typer.exceptions import Abort, TyperException

from pippin.app.commands import (
    align,
    bench,
    bundle,
    chat,
    compare,
    demo,
    doctor,
    judge,
    label,
    logs,
    meta,
    report,
    respond,
    store,
)
from pippin.app.commands import list as listing
from pippin.app.method_help import Command
from pippin.core.errors import PippinError

app = typer.Typer(
    name="pippin",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help=(
        "Instruction tuning, apples to apples: make and read instruction data, collect feedback on responses, align a "
        "model with it, judge the result, and judge the judges. `pippin demo` shows the whole circle in five minutes."
    ),
)
# settings of a method are its own: whatever is no option of `align` is one of them
_OPEN = {"allow_extra_args": True, "ignore_unknown_options": True}

app.command("demo", short_help="the whole circle from nothing, in five minutes")(demo.demo)
app.command("list", short_help="readers, strategies, judges, methods ... with paper and file")(listing.show)
app.command("respond", short_help="answers of a model to prompts")(respond.respond)
app.command("chat", short_help="a conversation in the terminal")(chat.chat)
app.command("judge", short_help="which response is better, or how good it is")(judge.judge)
app.command("label", short_help="pairs for people to judge, drawn with known probabilities")(label.label)
app.command("meta", short_help="how good a judge is")(meta.meta)
app.command("align", short_help="a policy from data, by a method", context_settings=_OPEN, cls=Command)(align.align)
app.command("compare", short_help="which of two is better; a study of many arms")(compare.compare)
app.command("bench", short_help="MMLU, HellaSwag and their like, with intervals")(bench.bench)
app.command("logs", short_help="models compared by logs of Inspect or lm-evaluation-harness")(logs.logs)
app.command("report", short_help="the page of a study again, from its results or a bundle")(report.report)
app.command("bundle", short_help="a study packed for others: no weights, no keys")(bundle.bundle)
app.command("store", short_help="what is stored: size, export, clean-up")(store.store)
app.command("doctor", short_help="versions, devices, keys: what works here")(doctor.doctor)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and end.")
) -> None:
    if version:
        from pippin import __version__

        typer.echo(f"pippin {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; its exit code. Errors become one line on standard error."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a forked tokenizer warns into our one line of error
    try:
        code = app(arguments, prog_name="pippin", standalone_mode=False)
    except (KeyboardInterrupt, Abort):
        code = 130
    except TyperException as error:
        _complain(_usage(error))
        return 2
    except PippinError as error:
        if _debug():
            raise
        _complain(str(error))
        return error.exit_code
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a folder that may not be written
        if _debug():
            raise
        _complain(": ".join(filter(None, [str(error.filename or ""), error.strerror or str(error)])))
        return 1
    except Exception as error:  # the last line of defence: a short message instead of a traceback
        if _debug():
            raise
        _complain(f"{type(error).__name__}: {error}. A fault in Pippin or a library; PIPPIN_DEBUG=1 shows where")
        return 1
    if code == 130:  # an interrupt, which typer gives as the exit code
        print("interrupted, nothing lost; run the same command to go on", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _complain(message: str) -> None:
    from pippin.app.console import one_line

    print(f"error: {one_line(message)}", file=sys.stderr)


def _usage(error: TyperException) -> str:
    """A usage error in one line, with the nearest option or command and where to read more."""
    message = error.format_message().strip().rstrip(".")
    possible = getattr(error, "possibilities", None) or ()
    near = get_close_matches(getattr(error, "option_name", ""), possible, n=1, cutoff=0)
    if near:
        message = f"{error.message}. Did you mean {near[0]}?"
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "pippin"
    return f"{message}{'' if message.endswith('?') else '.'} See `{path} --help`"


def _debug() -> bool:
    return bool(os.environ.get("PIPPIN_DEBUG"))
