"""Corpus, vocabulary, tokenizer and the shipped base model."""

import hashlib
import json
import subprocess
import sys

import pytest

from pippin.core.types import Sampling
from pippin.world import BASE, SFT, corpus, lexicon, people, tasks
from pippin.world.verifier import verify

pytest.importorskip("tokenizers")


def everything(n: int) -> list[str]:
    rng = tasks.stream(0, "test", "vocabulary")
    texts = [document.text for document in corpus.documents(n, seed=4)]
    for _ in range(n):
        task = tasks.draw(rng)
        texts += [tasks.render(task), people.expert(task, rng), people.crowd(task, rng)]
    return texts


def test_vocabulary_covers_all_text() -> None:
    known = set(corpus.vocabulary())
    assert len(known) == len(corpus.vocabulary())
    for text in everything(1500):
        assert known.issuperset(lexicon.tokens(text)), text


def test_documents_have_no_chat_and_nothing_held_out() -> None:
    chat = {word for phrase in lexicon.OPENERS + lexicon.CLOSERS for word in phrase.split() if word.isalpha()}
    documents = corpus.documents(2000, seed=1)
    assert documents[5:9] == corpus.documents(4, seed=1, start=5)
    for document in documents:
        words = set(document.text.split())
        assert not words & (chat - {"to"}) and not words & set(corpus.SPECIALS)
        assert all(tasks.split_of(task) == "train" for task in document.tasks)
        results = [text for text, result in document.pieces if result]
        assert all(verify(task, text).gold == 1 for task, text in zip(document.tasks, results, strict=True))


def test_only_pretraining_needs_torch() -> None:
    code = (
        "import sys; import pippin.world.people, pippin.world.corpus, pippin.world.pretrain;"
        "print(sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_tokenizer_agrees_with_the_lexicon() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    ids = {token: i for i, token in enumerate(corpus.vocabulary())}
    assert tokenizer.get_vocab() == ids
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 2)
    for text in everything(200):
        assert tokenizer(text)["input_ids"] == [ids[token] for token in lexicon.tokens(text)]
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_chat_template_round_trip() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    turns = [{"role": "user", "content": "copy : ant fox"}, {"role": "assistant", "content": "ant , fox"}]
    whole = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    prompt = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
    ids, mask = whole["input_ids"], whole["assistant_masks"]
    assert ids[: len(prompt)] == prompt and mask == [0] * len(prompt) + [1] * (len(ids) - len(prompt))
    assert tokenizer.convert_ids_to_tokens(prompt) == ["<user>", "copy", ":", "ant", "fox", "<asst>"]
    assert tokenizer.convert_ids_to_tokens(ids[len(prompt) :]) == ["ant", ",", "fox", "<eos>"]


def test_base_loads_and_matches_its_recipe() -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    record = json.loads((BASE / "recipe.json").read_text())
    assert hashlib.sha256((BASE / "model.safetensors").read_bytes()).hexdigest() == record["sha256"]
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    assert sum(p.numel() for p in model.parameters()) == record["parameters"]
    assert model.config.vocab_size == len(corpus.vocabulary()) and model.config.tie_word_embeddings
    assert (BASE / "model.safetensors").stat().st_size < 900_000


def test_base_completes_documents() -> None:
    """The skills are there, in the documents' own words: the next word is right nearly everywhere in their results."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    from pippin.world import pretrain

    torch.set_num_threads(1)
    figures = pretrain.measure(AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), 600)
    assert min(value for name, value in figures.items() if name != "loss") > 0.8


def test_pretraining_is_reproducible() -> None:
    torch = pytest.importorskip("torch")
    from pippin.world import pretrain

    recipe = pretrain.Recipe(steps=3, batch_size=4, warmup=1)
    one, two = (pretrain.train(recipe).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_packaged_sft_model_follows_instructions_that_the_base_does_not():
    from pippin.lm.hf import load_policy

    recipe = json.loads((SFT / "recipe.json").read_text())
    assert hashlib.sha256((SFT / "model.safetensors").read_bytes()).hexdigest() == recipe["sha256"]
    prompts = tasks.prompts("dev", 60, 3)
    gold = {}
    for name in ("world/base", "world/sft"):
        said = load_policy(name).respond(prompts, sampling=Sampling(temperature=0.0, max_tokens=32))
        gold[name] = sum(verify(p, r.text).gold for p, r in zip(prompts, said, strict=True)) / len(prompts)
    assert gold["world/base"] < 0.1 < 0.4 < gold["world/sft"]


@pytest.mark.slow
def test_the_base_can_be_made_again_from_its_recipe(tmp_path):
    """Ten minutes on one core. Not bit for bit: other processors round otherwise; what was learnt must be the same."""
    from pippin.world import pretrain

    pretrain.main(["--out", str(tmp_path / "base")])
    shipped, remade = (json.loads((folder / "recipe.json").read_text()) for folder in (BASE, tmp_path / "base"))
    assert remade["recipe"] == shipped["recipe"] and remade["parameters"] == shipped["parameters"]
    print("weights equal bit for bit:", remade["sha256"] == shipped["sha256"])
    for name, value in shipped["measured"].items():
        assert remade["measured"][name] == pytest.approx(value, abs=0.05), name
