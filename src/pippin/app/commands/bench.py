"""``pippin bench``: MMLU, HellaSwag and their like by lm-evaluation-harness, with intervals and paired differences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pippin.app.commands.logs import Cluster, Gate, Metric
from pippin.app.commands.options import Json, Limit, Seed
from pippin.core.errors import InputError

if TYPE_CHECKING:
    from pippin.app.console import Console


def bench(
    model: Annotated[
        str,
        typer.Argument(help="A checkpoint, smollm2, world/base, hf/ORG/NAME or openai/NAME@URL.", show_default=False),
    ] = "",
    tasks: Annotated[
        str, typer.Argument(help="Tasks or groups of lm-evaluation-harness, with commas.", show_default=False)
    ] = "",
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare", metavar="MODEL", help="Compared with MODEL, paired; may be repeated.", show_default=False
        ),
    ] = None,
    limit: Limit = None,
    num_fewshot: Annotated[
        int | None,
        typer.Option("--num-fewshot", "--num_fewshot", min=0, help="Worked examples.", show_default="the task's own"),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--apply-chat-template/--no-chat-template",
            help="Ask as a chat.",
            show_default="only servers' chat interface",
        ),
    ] = None,
    include_path: Annotated[
        str,
        typer.Option("--include-path", "--include_path", help="A folder with tasks of your own.", show_default=False),
    ] = "",
    tokenizer: Annotated[
        str,
        typer.Option(help="A server's tokenizer: ask its completions, for log-likelihoods.", show_default=False),
    ] = "",
    device: Annotated[str, typer.Option(help="Where models run.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Numbers of models that run here.")] = "float32",
    batch_size: Annotated[int, typer.Option("--batch-size", "--batch_size", min=1, help="Samples at once.")] = 16,
    metric: Metric = "",
    cluster: Cluster = "",
    gate: Gate = "",
    out: Annotated[
        Path | None, typer.Option(help="Also write each model's log here, as --log_samples does.", show_default=False)
    ] = None,
    tasks_for: Annotated[
        str,
        typer.Option(
            metavar="BENCHMARK", help="Write tasks of its pairs instead: llmbar, auto_j ...", show_default=False
        ),
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="With --tasks-for: where the benchmark's data lie.", show_default=False)
    ] = None,
    seed: Seed = 0,
    json: Json = "",
) -> None:
    """Benchmark models by lm-evaluation-harness. What was asked once is kept; the same command resumes."""
    from pippin.app.bridges import harness
    from pippin.app.commands.logs import check, hold, show
    from pippin.app.console import Console, folder
    from pippin.compare.scored import compare_scored
    from pippin.compare.scored_logs import Choice, of_harness
    from pippin.core.store import Store

    console = Console(json)
    target = folder(out, "--out") if out else None
    if tasks_for:
        _write_tasks(console, tasks_for, data, target)
        return
    names = [name for name in tasks.split(",") if name]
    if not model or not names:
        raise InputError("a model and tasks are needed", expected="pippin bench MODEL TASK,TASK")
    asked = harness.Asked(limit, num_fewshot, chat, include_path, tokenizer, batch_size, device, dtype)
    library = harness.Harness(names, include_path)
    models = list(dict.fromkeys([model, *(compare or ())]))
    check(gate, len(models))
    found = []
    with Store() as store, console.progress("benchmarks", len(models) * len(names)) as advance:
        for at, name in enumerate(models):
            subject = harness.Subject(name, asked)

            def tell(task: str, done: int, total: int, at: int = at, name: str = name) -> None:
                advance(at * total + done, what=f"{name}: {task}")

            log = harness.benchmark(subject, library, store, seed=seed, told=tell)
            if target is not None:
                harness.save(log, target / "".join(c if c.isalnum() or c in ".-_" else "_" for c in name))
            if subject.note():
                console.note(f"note: {subject.note()}")
            found.append(of_harness(log, name, Choice(metric, cluster)))
    told = compare_scored(found, seed=seed)
    show(console, told)
    console.result({**told.to_row(), "out": str(target) if target else None})
    hold(told, gate)


def _write_tasks(console: Console, benchmark: str, data: Path | None, out: Path | None) -> None:
    """Tasks of a benchmark's pairs, as files."""
    from pippin.app.bridges.harness_tasks import write_tasks

    if data is None or out is None:
        raise InputError("where the data lie, and where the tasks go", where=f"--tasks-for {benchmark}",
                         expected="--data FOLDER --out FOLDER")  # fmt: skip
    told = write_tasks(benchmark, data, out)
    console.say(f"{out}: {told['pairs']} pairs in {len(told['tasks'])} tasks, each pair in both orders")
    console.say(f"pippin bench MODEL {told['group']} --include-path {out} --cluster pair")
    console.result(told)
