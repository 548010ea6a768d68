"""The model card and the push: what the hub asks for, all that was done, and no path, address or key."""

import json

import pytest
import yaml

from pippin.align import card, public, publish, run
from pippin.core.errors import InputError

PAPERS = {
    "manifest": {
        "method": "dpo", "model": "hf/Qwen/Qwen2.5-0.5B-Instruct", "base.weights": "a1", "data": "d1g357",
        "prompts.train": None, "masking": "response only", "truncation": "keep start, 64 tokens", "seed": 3,
        "reward": "rm//home/me/rm", "method.dpo.beta": 0.1, "method.dpo.note": "a | `b` <script>x</script>",
        "library.pippin": "0.1.0", "library.torch": "2.13.0",
    },
    "ledger": {"steps": 30, "labels": 120, "kl": None, "wall_clock": 12.5, "judge_calls": 0},
    "metrics": {"first": {"step": 1, "loss": 0.693147}, "last": {"step": 30, "loss": 0.5}},
    "state": {"dropped_rows": 2, "bins": [1, 2], "critic_from": "/home/me/rm"},
}  # fmt: skip
EVALUATION = {
    "data": "hh_rlhf:/home/me/test.jsonl.gz[400:]",
    "before": {"sum": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}},
    "after": {"sum": {"value": 0.6, "low": 0.5, "high": 0.7, "n": 90}},
    "change": {},
    "prompts_shared_with_training_left_out": 4,
}
NAMES = {"data": "hf://datasets/org/pairs", "prompts": ""}


def front(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_front_matter_says_what_is_known():
    said = front(card.card(PAPERS, {}, "weights", NAMES))
    assert said == {
        "base_model": "Qwen/Qwen2.5-0.5B-Instruct", "datasets": ["org/pairs"], "library_name": "transformers",
        "pipeline_tag": "text-generation", "tags": ["pippin", "dpo"],
    }  # fmt: skip
    papers = {**PAPERS, "manifest": {**PAPERS["manifest"], "model": "/home/me/sft", "method": "reward_model"}}
    said = front(card.card(papers, {}, "reward", {"data": "mine/pairs.jsonl"}))
    assert said == {"library_name": "pippin", "tags": ["pippin", "reward-model"]}
    assert "lora" in front(card.card(PAPERS, {}, "adapter", {}))["tags"]


def test_what_was_done_stands_there():
    text = card.card(PAPERS, EVALUATION, "weights", NAMES)
    for words in (
        "| `beta` | `0.1` |", "| data | `hf://datasets/org/pairs`, digest `d1g357` |", "arXiv 2305.18290",
        "| `labels` | 120 | labels |", "| `loss` | 0.693147 | 0.5 |", "0.600 [0.500, 0.700], n=90",
        "`hh_rlhf:test.jsonl.gz[400:]`", "left out (4)", "| `dropped_rows` | `2` |", "| `torch` | `2.13.0` |",
        "AutoModelForCausalLM.from_pretrained",
    ):  # fmt: skip
        assert words in text, words
    assert text == card.card(json.loads(json.dumps(PAPERS)), EVALUATION, "weights", NAMES)


def test_no_path_and_no_markup_of_others():
    text = card.card(PAPERS, EVALUATION, "weights", NAMES)
    assert "/home" not in text and "me/rm" not in text
    assert "``a \\| `b` <script>x</script>``" in text  # inside a code span, which nothing in it ends


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("world/base", "world/base"),
        ("hf/Qwen/Qwen2.5", "hf/Qwen/Qwen2.5"),
        ("/home/me/a.jsonl", "a.jsonl"),
        ("~/runs/sft/", "sft"),
        ("./sft", "sft"),
        ("../other/sft[2:5]", "sft[2:5]"),
        ("/home/me/My Project/sft", "sft"),
        ("rm//home/me/rm", "rm/rm"),
        ("rm/runs/rm", "rm/rm"),
        ("python//home/me/f.py:reward", "python/f.py:reward"),
        ("python/f.py:reward?conversational=true", "python/f.py:reward?conversational=true"),
        ("openai/m@http://host:8000/v1#KEY_ENV:vanilla", "openai/m:vanilla"),
        ("openai/m@https://me:pw@host/v1#sk-123", "openai/m"),
        ("openai/m@http://host:8000/v1:fair_eval?k=5", "openai/m:fair_eval?k=5"),
        ("rule/longer+rm//home/me/rm", "rule/longer+rm/rm"),
        ("hh_rlhf:/data/hh/test.jsonl.gz[:400]", "hh_rlhf:test.jsonl.gz[:400]"),
        ("world/demonstrations?n=40", "world/demonstrations?n=40"),
        ("cannot reach http://10.0.0.1:80/x now", "cannot reach (an address) now"),
        ("and/or", "and/or"),
        ("Answer: 1/2", "Answer: 1/2"),
    ],
)
def test_names_for_others(name, shown):
    assert public.name(name) == shown


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run in a folder, with a checkpoint and a tracker's files beside it."""
    from pippin.core.types import Group, Response, assistant
    from pippin.world import people

    folder = tmp_path_factory.mktemp("runs") / "sft"
    rows = people.demonstrations(4, 0)
    data = [Group(p, (Response(p.id, assistant(t), by=who, stop="end"),)) for p, t, who in rows]
    run.align("sft", {"max_steps": 1, "watch_prompts": 0}, model="world/base", out=folder, data=data)
    for name in ("checkpoint-1/optimiser.safetensors", "runs/events.out.host", "align.yaml", ".hidden"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"data: {folder}/secret.jsonl")
    (folder / "eval.json").write_text(json.dumps({"data": f"{folder}/held.jsonl"}))
    return folder


def test_a_run_has_its_card(made):
    text = (made / "README.md").read_text()
    assert front(text)["tags"] == ["pippin", "sft"]
    assert str(made.parent) not in text
    card.write_card(made, {"data": f"{made}/pairs.jsonl"})
    assert "| data | `pairs.jsonl`, digest " in (made / "README.md").read_text()


def test_what_is_pushed_is_what_others_load_without_this_machine_in_it(made, tmp_path):
    publish.staged(made, tmp_path)
    files = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "metrics.jsonl"} <= files
    assert not [f for f in files if f.startswith(("checkpoint", "runs", "align", "."))]
    for name in files:
        assert str(made.parent).encode() not in (tmp_path / name).read_bytes(), name
    assert json.loads((tmp_path / "eval.json").read_text()) == {"data": "held.jsonl"}
    assert str(made) in (made / "eval.json").read_text()  # the run's own folder is as it was


class Hub:
    """What of the hub's client is used, without a network."""

    def __init__(self, fails=None):
        self.fails, self.said = fails, []

    def create_repo(self, repo_id, **rest):
        if self.fails:
            raise self.fails
        self.said.append((repo_id, rest))

        class Url(str):
            repo_id = f"me/{self.said[0][0]}"

        return Url(f"https://hub/{Url.repo_id}")

    def upload_folder(self, *, folder_path, repo_id, commit_message):
        self.said.append((repo_id, sorted(f.name for f in folder_path.iterdir())))

    def whoami(self):
        if self.fails:
            raise self.fails
        return {"name": "me"}


def test_push_is_one_upload_into_a_repository_that_is_made(made, monkeypatch):
    hub = Hub()
    monkeypatch.setattr(publish, "_api", lambda: hub)
    assert publish.ready("mine") == "me"
    assert publish.push(made, "mine", private=True) == "https://hub/me/mine"
    assert hub.said[0] == ("mine", {"private": True, "exist_ok": True})
    assert hub.said[1][0] == "me/mine" and "model.safetensors" in hub.said[1][1]


def test_a_closed_door_is_one_line(made, monkeypatch, tmp_path):
    monkeypatch.setattr(publish, "_api", lambda: Hub(ConnectionError("no route\nto host")))
    for call in (lambda: publish.ready("org/mine"), lambda: publish.push(made, "org/mine")):
        with pytest.raises(InputError, match=r"hub_model_id org/mine.*no route.*HF_TOKEN"):
            call()
    with pytest.raises(InputError, match="not the name of a model"):
        publish.ready("a/b/c")
    with pytest.raises(InputError, match="no finished run"):
        publish.push(tmp_path, "mine")
