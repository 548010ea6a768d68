"""Run inside an environment that has inspect_ai: for each job {folder, format, answers}, evaluate a mock model that
gives these answers to two questions over two epochs; answer with the log's file and the scores as inspect_ai read them.
"""

import json
import sys

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, includes, mean, scorer, value_to_float
from inspect_ai.solver import generate, system_message


@scorer(metrics={"length": [mean()], "grade": [mean()]})
def several():
    async def score(state, target):
        return Score(value={"length": len(state.output.completion), "grade": "P"})

    return score


def output(text):
    made = ModelOutput.from_content("mockllm/model", text)
    made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # or its tokens are counted online
    return made


def run(job):
    asked = [ChatMessageSystem(content="Be brief."), ChatMessageUser(content="Say bye.")]
    samples = [Sample(id="a", input="Say hello.", target="hello"), Sample(id=2, input=asked, target="bye")]
    task = Task(dataset=samples, solver=[system_message("You help."), generate()], scorer=[includes(), several()],
                epochs=2, name="greet")  # fmt: skip
    model = get_model(
        "mockllm/model", custom_outputs=[output(text) for text in job["answers"]],
        config=GenerateConfig(temperature=0.5, max_tokens=33, max_connections=1),
    )  # fmt: skip
    (log,) = eval([task], model=model, log_dir=job["folder"], log_format=job["format"], display="none", max_samples=1)
    read = read_eval_log(log.location)
    number = value_to_float()
    rows = [
        {"id": s.id, "epoch": s.epoch, "text": s.output.completion, "includes": number(s.scores["includes"].value),
         "length": number(s.scores["several"].value["length"]), "grade": number(s.scores["several"].value["grade"])}
        for s in read.samples
    ]  # fmt: skip
    stated = {score.name: {m.name: m.value for m in score.metrics.values()} for score in read.results.scores}
    return {"file": log.location.removeprefix("file://"), "rows": rows, "stated": stated}


for line in sys.stdin:
    print(json.dumps([run(job) for job in json.loads(line)]), flush=True)
