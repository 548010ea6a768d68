"""Pippin within inspect_ai, and lm-evaluation-harness within Pippin, each as installed with Pippin's own extra."""

import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pippin.compare.scored import compare_scored
from pippin.compare.scored_logs import Choice, read_scored
from pippin.data.eval_logs import harness_log

pytestmark = pytest.mark.oracle

ROOT = Path(__file__).parents[2]
INSPECT = ["inspect_ai==0.3.285", "--editable", f"{ROOT}[inspect]"]
HARNESS = ["torch==2.13.0", "transformers==5.24.0", "lm_eval==0.4.13", "--editable", f"{ROOT}[hf,bench]"]
KEY = "k-3f9a-very-secret"


# ---------------------------------------------------------------------- inspect_ai


@pytest.fixture(scope="module")
def run(environment, ask, tmp_path_factory):
    """``run(scorer, **job)``: what inspect_ai says of one evaluation."""
    python = environment("pippin-inspect-0.3.285", *INSPECT)
    os.environ["PIPPIN_HOME"] = str(tmp_path_factory.mktemp("home"))

    def tell(scorer, args=(), **job):
        usual = {"format": "eval", "epochs": 1, "samples": 8, "answers": ["no", "yes it is"], "metrics": []}
        folder = str(tmp_path_factory.mktemp("logs"))
        whole = {**usual, "folder": folder, "scorer": scorer, "args": dict(args), **job}
        [found] = ask(python, "bridge_inspect.py", [whole])
        return found

    return tell


def test_a_judge_asks_inspects_grader_in_both_orders_and_failures_are_unscored(run):
    told = run("pippin/judge", {"judge": "vanilla", "against": "other"}, graded=True)
    values = {row["id"]: row["value"] for row in told["rows"]}
    assert told["status"] == "success" and told["unscored"] == [2]
    assert {k: v for k, v in values.items() if k not in (4, 5)} == {0: 0.5, 1: 1, 2: 0.5, 3: 1, 6: 0.5, 7: 1}
    assert (values[4], values[5]) == (None, None)
    by_id = {row["id"]: row for row in told["rows"]}
    assert by_id[4]["reason"] == by_id[5]["reason"] == "grader_failed"
    assert "ValueError: broken" in by_id[4]["said"] and "no idea" in by_id[5]["said"]
    assert by_id[0]["usage"] == ["mockllm/grader", "mockllm/model"]  # counted as this sample's
    assert told["metrics"]["mean"] == pytest.approx(4.5 / 6)
    [read] = read_scored([told["file"]])
    level = compare_scored([read]).levels[0]
    assert level.missing == 2 and level.mean and level.mean.value == pytest.approx(4.5 / 6)
    assert (level.mean.low, level.mean.high) == pytest.approx((told["metrics"]["low"], told["metrics"]["high"]))


def test_a_judge_of_pippin_keeps_what_it_said_in_pippins_store(run):
    told = run("pippin/judge", {"judge": "rule/shorter", "against": "other"})
    assert {row["value"] for row in told["rows"]} == {1.0}
    assert Path(os.environ["PIPPIN_HOME"], "store.db").exists()


def test_a_judge_of_pippin_that_fails_on_everything_leaves_all_unscored(run, tmp_path):
    (tmp_path / "s.py").write_text("def gone(request):\n    raise ConnectionError('gone away')\n")
    told = run("pippin/judge", {"judge": f"scripted/{tmp_path / 's.py'}:gone:vanilla", "against": "other"})
    assert told["status"] == "success" and told["unscored"] == [8]
    assert all(row["value"] is None and "gone away" in row["said"] for row in told["rows"])


def test_a_judge_gives_numbers(run):
    told = run("pippin/judge", {"judge": "rating"}, graded=True)
    assert [row["value"] for row in told["rows"]] == [2, 9, 2, 9, None, None, 2, 9]


@pytest.mark.parametrize("cluster", [None, "pair"])
def test_the_interval_agrees_with_inspects_where_both_are_right(run, cluster):
    """200 samples, half of them right: within a tenth of the width of its own clustered t interval."""
    named = {"cluster": cluster} if cluster else {}
    told = run("includes", samples=200, answers=["no", "yes", "yes", "no", "yes", "no", "no"],
               metrics=[["pippin/interval", named], ["ci", named], ["accuracy", {}]])["metrics"]  # fmt: skip
    ours, theirs = ((told[a], told[b]) for a, b in (("low", "high"), ("lower", "upper")))
    assert ours == pytest.approx(theirs, abs=0.1 * (theirs[1] - theirs[0]))
    assert told["clusters"] == (100 if cluster else 200)


def test_the_logs_of_two_runs_are_compared_as_inspect_counts_them(run):
    one = run("includes", samples=40, answers=["no", "yes", "no", "no"], epochs=2)
    two = run("includes", samples=40, answers=["no", "yes", "yes", "no"], epochs=2, format="json")
    told = compare_scored(read_scored([one["file"], two["file"]]))
    assert told.notes == ()  # the means that inspect_ai states are those of the samples
    means = [level.mean.value for level in told.levels if level.mean]
    assert means == pytest.approx([log["metrics"]["accuracy"] for log in (one, two)])
    [contrast] = told.contrasts
    assert contrast.delta and contrast.delta.value == pytest.approx(means[1] - means[0])
    assert contrast.delta.clusters == 40 and contrast.verdict == "better"


# ---------------------------------------------------------------------- lm-evaluation-harness


@pytest.fixture(scope="module")
def bench(environment, tmp_path_factory):
    """``bench(*arguments)``: exit code, output and errors of ``pippin bench``."""
    python = environment("pippin-bench-0.4.13", *HARNESS)
    home = tmp_path_factory.mktemp("home")

    def tell(*arguments, **env):
        known = {**os.environ, "PIPPIN_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
                 "HF_HOME": str(home / "hf"), **env}  # fmt: skip
        command = [str(python), "-m", "pippin", "bench", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=known, timeout=900)

    return tell


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Two tasks of sums and a group of both; and one of written answers."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, n in (("adds", 12), ("takes", 20)):
        rows = [
            {"question": f"What is {k + 20} {'plus' if name == 'adds' else 'minus'} 2?",
             "choices": [str(k + 22), str(k + 18)], "label": 0 if name == "adds" else 1} for k in range(n)
        ]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        _task(folder, name, name, 'output_type: multiple_choice\ndoc_to_choice: "{{choices}}"\n'
              'doc_to_target: "{{label}}"', "acc")  # fmt: skip
    _task(folder, "adds", "writes", 'output_type: generate_until\ndoc_to_target: "{{choices[label]}}"\n'
          'generation_kwargs: {until: ["\\n"], max_gen_toks: 8}', "exact_match")  # fmt: skip
    (folder / "sums.yaml").write_text(
        "group: sums\ntask: [adds, takes]\naggregate_metric_list:\n  - {metric: acc, weight_by_size: true}\n"
    )
    return folder


def _task(folder, data, name, more, metric):
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / data}.jsonl}}}}\n"
        f'test_split: test\ndoc_to_text: "{{{{question}}}}"\n{more}\n'
        f"metric_list:\n  - {{metric: {metric}, aggregation: mean, higher_is_better: true}}\n"
    )


def test_two_models_on_a_group_then_from_the_store_and_from_the_logs(bench, tasks, tmp_path):
    arguments = ("world/base", "sums", "--compare", "world/sft", "--include-path", tasks, "--out", tmp_path / "out")
    made = bench(*arguments, "--json", tmp_path / "first.json")
    assert made.returncode == 0, made.stderr
    assert "fatal" not in made.stderr and "note" not in made.stderr
    first = json.loads((tmp_path / "first.json").read_text())
    for model in ("base", "sft"):
        log = harness_log(tmp_path / "out" / f"world_{model}")
        means = {line["part"]: line["mean"]["value"] for line in first["levels"] if line["name"] == f"world/{model}"}
        assert means == pytest.approx({name: log.results["results"][name]["acc,none"] for name in means})
    assert [c["part"] for c in first["contrasts"]] == ["sums", "adds", "takes"]
    told = compare_scored(read_scored([str(tmp_path / "out" / f"world_{model}") for model in ("base", "sft")]))
    assert [c.delta and c.delta.value for c in told.contrasts] == [c["delta"]["value"] for c in first["contrasts"]]
    again = bench(*arguments, "--json", tmp_path / "second.json", PATH="/nowhere")
    assert again.returncode == 0 and again.stdout == made.stdout
    assert json.loads((tmp_path / "second.json").read_text()) == first


def test_the_scores_are_those_of_the_harness_by_itself(bench, tasks, environment, tmp_path):
    """The same checkpoint through its own command line and its own loader: the same value in every row."""
    assert bench("world/sft", "adds", "--include-path", tasks, "--out", tmp_path / "ours").returncode == 0
    from pippin.world import SFT

    python = environment("pippin-bench-0.4.13", *HARNESS)
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    command = [python, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={SFT},dtype=float32",
               "--tasks", "adds", "--include_path", tasks, "--device", "cpu", "--log_samples", "--output_path",
               tmp_path / "theirs"]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True, capture_output=True, env=env, timeout=900)
    ours, theirs = (harness_log(tmp_path / name).samples["adds"] for name in ("ours", "theirs"))
    assert len(ours) == len(theirs) == 12
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine["doc_hash"], mine["acc"]) == (other["doc_hash"], other["acc"])
        for a, b in zip(mine["filtered_resps"], other["filtered_resps"], strict=True):
            assert float(a[0]) == pytest.approx(float(b[0]), abs=1e-3)


def test_pairs_of_a_benchmark_run_as_tasks(bench, tmp_path):
    rows = [{"input": f"Name {k}.", "output_1": f"{k}", "output_2": "I will not.", "label": 1} for k in range(4)]
    (tmp_path / "Natural").mkdir()
    (tmp_path / "Natural" / "dataset.json").write_text(json.dumps(rows))
    assert bench("--tasks-for", "llmbar", "--data", tmp_path, "--out", tmp_path / "t").returncode == 0
    made = bench("world/base", "pippin_llmbar,pippin_llmbar_chat", "--include-path", tmp_path / "t",
                 "--cluster", "pair", "--json", tmp_path / "j.json")  # fmt: skip
    assert made.returncode == 0, made.stderr
    found = {line["part"]: line for line in json.loads((tmp_path / "j.json").read_text())["levels"]}
    assert found["pippin_llmbar"]["mean"]["clusters"] == 4 and found["pippin_llmbar"]["samples"] == 8
    assert found["pippin_llmbar_chat"]["samples"] == 8


class _Chat(BaseHTTPRequestHandler):
    """Answers every question with its first number plus 2, and keeps the heads of requests."""

    heads: list = []  # noqa: RUF012 - one server at a time

    def do_POST(self):
        self.heads.append(dict(self.headers))
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        text = str(int(asked.split()[2]) + 2)
        body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


def test_a_server_is_asked_as_a_chat_with_its_own_key_alone(bench, tasks, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"openai/m@http://127.0.0.1:{server.server_port}/v1"
    try:
        with_key = bench(f"{url}#MY_KEY", "writes", "--include-path", tasks, "--out", tmp_path / "o",
                         MY_KEY=KEY, OPENAI_API_KEY="another")  # fmt: skip
        assert with_key.returncode == 0, with_key.stderr
        assert "1.000 [" in with_key.stdout
        assert {head.get("Authorization") for head in _Chat.heads} == {f"Bearer {KEY}"}
        assert not any(KEY in file.read_text() for file in tmp_path.rglob("*") if file.is_file())
        _Chat.heads.clear()
        assert bench(f"{url}", "writes", "--limit", 2, "--include-path", tasks, OPENAI_API_KEY="x").returncode == 0
        assert {head.get("Authorization") for head in _Chat.heads} == {None}
        refused = bench(url, "adds", "--include-path", tasks)
        assert refused.returncode == 2 and "log-likelihoods" in refused.stderr and "--tokenizer" in refused.stderr
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("world/base", "hellaswagg"), "Did you mean 'hellaswag'"),
        (("world/base", "hellaswag", "--limit", "2"), "could not run this task"),
        (("./nothing", "hellaswag"), "no such model"),
        (("world/base",), "a model and tasks are needed"),
    ],
)
def test_what_cannot_be_done_is_one_line(bench, arguments, says):
    made = bench(*arguments)
    assert made.returncode == 2 and says in made.stderr and len(made.stderr.strip().splitlines()) == 1


def test_clusters_of_logs_are_fields_of_the_documents(bench, tasks, tmp_path):
    assert bench("world/base", "takes", "--include-path", tasks, "--out", tmp_path / "o").returncode == 0
    [read] = read_scored([str(tmp_path / "o" / "world_base")], Choice(cluster="label"))
    assert {sample.cluster for sample in read.samples.values()} == {"1"}
