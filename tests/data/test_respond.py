"""Prompts into responses: order, follow-ups, draws, failures, and resuming from the store."""

from pippin.core.store import Store
from pippin.core.types import Message, Prompt, Sampling, user
from pippin.data.respond import own_sampling, respond
from pippin.lm.scripted import Scripted

PROMPTS = [Prompt(user(f"question {n}")) for n in range(5)]


def echo(request):
    return f"{len(request.messages)}: {request.messages[-1].content}"


def test_responses_come_prompt_by_prompt_and_draw_by_draw():
    told = respond(Scripted(echo), PROMPTS, n=2)
    assert [(p.id, r.sample) for p, r in told.rows] == [(p.id, k) for p in PROMPTS for k in (0, 1)]
    assert {r.text for p, r in told.rows if p is PROMPTS[3]} == {"1: question 3"}
    assert all(r.by == "scripted" and r.stop == "end" for _, r in told.rows)


def test_follow_ups_are_asked_after_the_answer_before_them():
    prompt = Prompt(user("one"), (Message("user", "two"), Message("user", "three")))
    ((_, response),) = respond(Scripted(echo), [prompt]).rows
    said = [(m.role, m.content) for m in response.messages]
    assert said == [
        ("assistant", "1: one"), ("user", "two"), ("assistant", "3: two"), ("user", "three"), ("assistant", "5: three"),
    ]  # fmt: skip
    assert response.text == "5: three"


def test_a_failure_is_a_value_and_the_others_go_on(tmp_path):
    down = {"question 2"}

    def sometimes(request):
        if request.messages[-1].content in down:
            raise ConnectionError("the server is down")
        return echo(request)

    with Store(tmp_path / "store.db") as store:
        first = respond(Scripted(sometimes), PROMPTS, store=store)
        assert len(first.rows) == 4
        assert [(p.id, k) for p, k, _ in first.failed] == [(PROMPTS[2].id, 0)]
        assert "the server is down" in first.failed[0][2]
        down.clear()
        model = Scripted(sometimes)
        second = respond(model, PROMPTS, store=store)
    assert (len(second.rows), second.failed) == (5, ())
    assert model.asked == 1  # the four answers were in the store


def test_progress_counts_every_response():
    seen = []
    respond(Scripted(echo), PROMPTS, n=2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10, 10)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_sampling_is_the_models_own_where_it_has_one():
    assert own_sampling(Scripted(echo), seed=4) == Sampling(seed=4)

    class Recipe(Scripted):
        def sampling(self, seed=0):
            return Sampling(0.0, 1.0, 7, seed)

    ((_, response),) = respond(Recipe(echo), PROMPTS[:1]).rows
    assert response.sampling == Sampling(0.0, 1.0, 7)
