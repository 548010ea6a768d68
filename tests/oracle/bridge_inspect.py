"""Run inside an environment that has inspect_ai and Pippin: for each job {folder, format, epochs, samples, answers,
scorer, args, graded, metrics}, evaluate a mock model; answer with the log's file and what inspect_ai made of it.

The model's answer to question k in its epoch e is ``answers[(k + e) % len(answers)]``. The grader prefers the output
that has a "yes", falls silent on question 5 and breaks on question 4.
"""

import json
import os
import sys
from collections import Counter

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import accuracy, ci, ci_wilson, includes, mean, stderr
from inspect_ai.scorer._metric import metric_create
from inspect_ai.scorer._scorer import scorer_create
from inspect_ai.solver import generate

OWN = {"accuracy": accuracy, "mean": mean, "stderr": stderr, "ci": ci, "ci_wilson": ci_wilson}


def output(text):
    made = ModelOutput.from_content("mockllm/model", text)
    made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # or its tokens are counted online
    return made


def grade(messages, *_):
    text = messages[-1].text
    if "question 4" in text:
        raise ValueError("broken")
    if "question 5" in text:
        return output("no idea")
    if "[output (a)" not in text:  # one output alone, to be rated
        return output("9" if "yes" in text.split("[output")[1].split("[end")[0] else "2")
    shown = [text.split(f"[output ({x})")[1].split("[end")[0] for x in "ab"]
    return output("(a)" if "yes" in shown[0] else "(b)" if "yes" in shown[1] else "(a)")


def measure(name, args):
    return OWN[name](**args) if name in OWN else metric_create(name, **args)


def run(job):
    seen = Counter()

    def answer(messages, *_):
        k = int(messages[-1].text.split()[1])
        seen[k] += 1
        return output(job["answers"][(k + seen[k] - 1) % len(job["answers"])])

    samples = [
        Sample(id=k, input=f"question {k} ?", target="yes", metadata={"other": "certainly not", "pair": k // 2})
        for k in range(job["samples"])
    ]
    grader = get_model("mockllm/grader", custom_outputs=grade, memoize=False)
    args = job["args"] | ({"model": grader} if job.get("graded") else {})
    chosen = includes() if job["scorer"] == "includes" else scorer_create(job["scorer"], **args)
    task = Task(dataset=samples, solver=generate(), scorer=chosen, epochs=job["epochs"], name="asked",
                metrics=[measure(*m) for m in job["metrics"]] or None)  # fmt: skip
    model = get_model("mockllm/model", custom_outputs=answer, memoize=False)
    (log,) = eval([task], model=model, log_dir=job["folder"], log_format=job["format"], display="none")
    read = read_eval_log(log.location)
    scores = read.results.scores if read.results else []
    return {
        "file": log.location.removeprefix("file://"), "status": read.status,
        "metrics": {name: m.value for score in scores for name, m in score.metrics.items()},
        "unscored": [score.unscored_samples for score in scores],
        "rows": [
            {"id": s.id, "value": v.value if v.value == v.value else None, "reason": v.reason, "said": v.explanation,
             "usage": sorted(s.model_usage)}
            for s in read.samples or [] for v in (s.scores or {}).values()
        ],
    }  # fmt: skip


for line in sys.stdin:
    sys.stdout.flush()
    kept, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115 - only our answer goes out
    try:
        found = [run(job) for job in json.loads(line)]
    finally:
        sys.stdout = kept
    print(json.dumps(found), flush=True)
