"""Benchmarks of lm-evaluation-harness on a model as Pippin names it; what it records is kept, task by task.

Models that run here are loaded by Pippin and handed over, so that every name and path works and no pickle is opened.
A server is asked for chat completions, which have no log-likelihoods; with a tokenizer, for completions, which do.

Source: lm_eval 0.4.13, ``evaluator.simple_evaluate`` and ``loggers.EvaluationTracker``.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

from pippin.core.config import setting
from pippin.core.errors import InputError, MissingExtra, UnknownName
from pippin.core.run import write_json
from pippin.core.store import Store
from pippin.core.types import digest
from pippin.data.eval_logs import HarnessLog, harness_log

LIBRARY = "lm_eval"


@dataclass(frozen=True)
class Asked:
    """How the tasks are asked; equal for all models of a comparison."""

    limit: int | None = setting(None, "at most so many samples of each task")
    num_fewshot: int | None = setting(None, "worked examples before each question; none: as the task has it")
    apply_chat_template: bool | None = setting(None, "as a chat; none: only servers' chat interface")
    include_path: str = setting("", "a folder with tasks of your own")
    tokenizer: str = setting("", "of a server: ask its completions, whose log-likelihoods tasks can use")
    batch_size: int = setting(16, "samples at once, of models that run here")
    device: str = setting("cpu", "where models run")
    dtype: str = setting("float32", "numbers of models that run here")


class Subject:
    """A model that is to be asked, loaded when it is first needed.

    Args:
        name: as everywhere in Pippin; an endpoint is ``openai/NAME@URL#KEY_ENV``.
    """

    def __init__(self, name: str, asked: Asked) -> None:
        self.name, self.asked = name, asked
        self.served = name.startswith("openai/")
        if self.served:
            from pippin.lm.endpoint import options, parse

            rest, stated = options(name.removeprefix("openai/"))
            self.endpoint, self.many = parse(rest), int(stated.get("max_connections", 8))

    @cached_property
    def policy(self) -> Any:
        """The model that runs here.

        Raises:
            InputError, UnknownName, MissingExtra: as :func:`pippin.lm.models.resolve`; or it only answers.
        """
        from pippin.lm import models

        found = models.resolve(self.name, dtype=self.asked.dtype, device=self.asked.device)
        if not hasattr(found, "chat"):
            raise InputError("this model has no weights for lm-evaluation-harness", where=self.name,
                             expected="a checkpoint, smollm2, world/base, hf/ORG/NAME or openai/NAME")  # fmt: skip
        return found

    @property
    def identity(self) -> str:
        """What the answers depend on: the weights, or the name of what is served."""
        return self.endpoint.name if self.served else self.policy.identity

    @property
    def as_chat(self) -> bool:
        """Whether questions are sent as conversations."""
        stated = self.asked.apply_chat_template
        return (self.served and not self.asked.tokenizer) if stated is None else stated

    def note(self) -> str:
        """What of the model its benchmark leaves out; empty where nothing."""
        if self.served or self.policy.decoding.plain:
            return ""
        return f"{self.name}: its decoding recipe is not used; lm-evaluation-harness asks the weights alone"

    @cached_property
    def lm(self) -> Any:
        """The model as lm-evaluation-harness takes it. A key goes into the requests' head and nowhere else."""
        if not self.served:
            from lm_eval.models.huggingface import HFLM

            tokenizer = self.policy.chat.tokenizer
            return HFLM(pretrained=self.policy.model, tokenizer=tokenizer, batch_size=self.asked.batch_size)
        from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

        key = self.endpoint.key()
        head = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        common = {"model": self.endpoint.model, "header": head, "num_concurrent": self.many}
        if not self.asked.tokenizer:
            return LocalChatCompletion(
                base_url=f"{self.endpoint.base_url}/chat/completions", tokenizer_backend=None, **common
            )
        return LocalCompletionsAPI(
            base_url=f"{self.endpoint.base_url}/completions", tokenizer_backend="huggingface",
            tokenizer=self.asked.tokenizer, **common,
        )  # fmt: skip


class Harness:
    """lm-evaluation-harness itself, with its list of tasks, which is read when it is first needed (some seconds).

    Args:
        tasks: names of tasks, groups or tags.
        include_path: a folder with tasks of one's own.

    Raises:
        MissingExtra: it is not installed.
        InputError: no such folder.
    """

    def __init__(self, tasks: Sequence[str], include_path: str = "") -> None:
        try:
            self.version = importlib.metadata.version(LIBRARY)
        except importlib.metadata.PackageNotFoundError:
            raise MissingExtra("lm-evaluation-harness", "bench", "pippin bench") from None
        if include_path and not Path(include_path).expanduser().is_dir():
            raise InputError("no such folder", where=f"--include-path {include_path}")
        self.tasks, self.own = tuple(tasks), str(Path(include_path).expanduser()) if include_path else None

    @cached_property
    def manager(self) -> Any:
        """The harness's list of tasks, which has all that are asked for.

        Raises:
            UnknownName: no task, group or tag has such a name; the nearest one is named.
        """
        with _silence():
            from lm_eval.tasks import TaskManager

            known = TaskManager(include_path=self.own)
        for name in self.tasks:
            if name not in known.all_tasks:
                raise UnknownName("task", name, known.all_tasks, mend="Tasks of your own: --include-path FOLDER")
        return known


def benchmark(
    subject: Subject, harness: Harness, store: Store, *, seed: int = 0,
    told: Callable[[str, int, int], None] | None = None,
) -> HarnessLog:  # fmt: skip
    """What the model did on each task, from the store where it has been asked before. Each is kept as soon as done.

    Args:
        told: receives task, how many are done, and how many there are.

    Raises:
        InputError: a task's data cannot be had, or it needs log-likelihoods that the server's chat does not give.
        UnknownName: as :attr:`Harness.manager`.
    """
    made = []
    for at, task in enumerate(harness.tasks):
        if told is not None:
            told(task, at, len(harness.tasks))
        key = "bench-" + digest(["bench", subject.identity, task, _settings(subject), seed, harness.version])
        folder = store.artifact(key)
        if folder is None:
            with store.writing(key) as new:
                _run(subject, task, harness.manager, seed, new)
            folder = store.artifact(key)
        assert folder is not None
        made.append(harness_log(folder))
    return together(made, subject.name)


def together(logs: Sequence[HarnessLog], name: str) -> HarnessLog:
    """Several runs of one model as one.

    Raises:
        InputError: a task is in two of them.
    """
    results: dict[str, Any] = {}
    samples: dict[str, tuple[dict[str, Any], ...]] = {}
    for log in logs:
        twice = next((task for task in log.samples if task in samples), None)
        if twice is not None:
            raise InputError("a task is named twice, alone or in a group", where=name, found=twice)
        samples |= log.samples
        for key, value in log.results.items():
            results[key] = {**results.get(key, {}), **value} if isinstance(value, dict) else value
    return HarnessLog(logs[0].path, {**results, "model_name": name}, samples)


def save(log: HarnessLog, folder: Path) -> None:
    """Write a run as ``--log_samples`` does, so that other programs, and ``pippin logs``, read it."""
    folder.mkdir(parents=True, exist_ok=True)
    time = datetime.fromtimestamp(float(log.results.get("date", 0)), UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
    for task, rows in log.samples.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"samples_{task}_{time}.jsonl").write_text(text, encoding="utf-8")
    write_json(folder / f"results_{time}.json", log.results)


def _settings(subject: Subject) -> dict[str, Any]:
    """All that the samples' scores depend on beside the model and the task's name: files of one's own among it."""
    from pippin.compare.inputs import fingerprint

    folder = subject.asked.include_path
    asked = asdict(replace(subject.asked, apply_chat_template=subject.as_chat))
    del asked["batch_size"], asked["device"]
    return {**asked, "include_path": fingerprint(folder) if folder else ""}


def _run(subject: Subject, task: str, manager: Any, seed: int, folder: Path) -> None:
    """Ask one task and write what the harness records into ``folder``."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(folder))
    asked = subject.asked
    try:
        with _silence(), _small(subject):
            results = simple_evaluate(
                model=subject.lm, model_args={"pretrained": "model"}, tasks=[task], num_fewshot=asked.num_fewshot,
                limit=asked.limit, bootstrap_iters=0, log_samples=True, evaluation_tracker=tracker,
                apply_chat_template=subject.as_chat, fewshot_as_multiturn=subject.as_chat, task_manager=manager,
                random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed, fewshot_random_seed=seed,
            )  # fmt: skip
            assert results is not None
            samples = results.pop("samples")
            tracker.save_results_aggregated(results=results, samples=samples)
            for name, rows in samples.items():
                tracker.save_results_samples(task_name=name, samples=rows)
    except NotImplementedError as error:
        raise InputError(
            "this task needs log-likelihoods, which a chat interface does not give", where=f"{subject.name}: {task}",
            found=str(error)[:100], mend="Give --tokenizer, where the server has a completions interface",
        ) from None  # fmt: skip
    except (OSError, ValueError) as error:  # the hub cannot be reached, has no such data set, or a file is missing
        raise InputError(
            "lm-evaluation-harness could not run this task", where=f"{subject.name}: {task}",
            found=f"{type(error).__name__}: {error}",
        ) from None  # fmt: skip


@contextmanager
def _small(subject: Subject) -> Iterator[None]:
    if subject.served:
        yield
        return
    from pippin.lm.threads import one_thread_if_small

    with one_thread_if_small(subject.policy.model):
        yield


@contextmanager
def _silence() -> Iterator[None]:
    """Its notices go nowhere, its bars to where a person is watching; nothing of it to standard output."""
    logger = logging.getLogger(LIBRARY)
    level = logger.level
    logger.setLevel(logging.ERROR)
    with ExitStack() as stack:
        stack.callback(logger.setLevel, level)
        stack.enter_context(redirect_stdout(sys.stderr))
        if not sys.stderr.isatty():
            stack.enter_context(redirect_stderr(StringIO()))
            stack.enter_context(_children_silent())
        yield


@contextmanager
def _children_silent() -> Iterator[None]:
    """Standard error of the processes that it starts goes nowhere (it asks git of wherever it is run)."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
