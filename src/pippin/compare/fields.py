"""Every field of a manifest, in one list: why a difference matters, how to mend it, which keys of a study set it.

A field that is not in this list is still compared (whatever an arm made elsewhere states counts); it only has no
sentence of its own. A method's own fields, ``method.NAME.*``, are settings and stand in no list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

READS = ("demonstrations", "preferences", "prompts")
"""What a method may read; fields that end in one of these, in brackets, hold for methods that read it."""


@dataclass(frozen=True)
class Field:
    """One thing in which arms can differ.

    Args:
        name: as manifests have it; ``*`` stands for what differs from field to field.
        keys: keys of an arm that set it: an axis over one of them declares the field.
        within: the field is compared only between arms that agree in this one (rows have an order only where they are
            the same rows).
        phase: ``training`` where an arm that is not trained in the study has no such field.
        told: an arm made elsewhere can state it; what it leaves unsaid is listed as not declared.
    """

    name: str
    group: str
    why: str
    mend: str
    keys: tuple[str, ...] = ()
    within: str = ""
    phase: str = ""
    told: bool = True


def _data(reads: str, rows: str) -> list[Field]:
    kind = f"({reads})"
    return [
        Field(f"data {kind}", "data", "the arms were trained on different data",
              f"Give the arms the same {rows}, or make data an axis", ("data",), phase="training"),
        Field(f"data order {kind}", "data", "the same rows in another order, which acts like another seed for one side",
              "Give the arms the same file; the seeds shuffle it", ("data",), f"data {kind}", "training"),
    ]  # fmt: skip


FIELDS: tuple[Field, ...] = (
    Field("prompts.test", "prompts", "the arms answered different prompts",
          "Take prompts_test out of the arm's settings", ("prompts_test",)),
    Field("leaked prompts", "prompts", "prompts of one set stand in another: what was trained or chosen on is tested",
          "Take them out of the training and development sets", told=False),
    Field("prompts.dev", "prompts", "checkpoints and settings were chosen on different prompts",
          "Choose on one set of development prompts", phase="training"),
    Field("prompts.train", "prompts", "the arms drew from different training prompts",
          "Give the arms the same prompts, or make prompts an axis", ("prompts",), phase="training"),
    Field("prompts.train order", "prompts", "the arms drew the same training prompts in another order",
          "Give the arms the same file", ("prompts",), "prompts.train", "training"),
    Field("base", "start", "the arms do not start from the same base model",
          "Start every arm from one base, or make base an axis", ("base", "model", "use")),
    *(Field(f"start ({reads})", "start", "the arms start from different weights",
            "Give the arms the same model, or make model an axis", ("model", "base"), phase="training")
      for reads in READS),
    Field("tokenizer", "start", "the tokenizers differ, so lengths and probabilities are in different units",
          "Use the tokenizer of the base model throughout", ("base", "model", "use")),
    Field("template", "start", "the chat template differs, so the same prompt is different text",
          "Give every arm the same template", ("template", "base", "model", "use")),
    *_data("demonstrations", "demonstrations"),
    *_data("preferences", "preferences"),
    *_data("prompts", "rows"),
    Field("collapse", "data", "judgements became preferences by different rules (ties, missing ones)",
          "Use one rule for all arms", phase="training"),
    Field("reward", "data", "the arms were rewarded by different scorers",
          "Give the arms the same reward, or make reward an axis", ("reward",), phase="training"),
    Field("feedback", "data", "the arms were told in words what is wrong by different teachers",
          "Give the arms the same feedback, or make feedback an axis", ("feedback",), phase="training"),
    Field("truncation", "training", "the arms saw different parts of the same data",
          "Set the same max_length for all arms", ("max_length",), phase="training"),
    Field("masking", "training", "different tokens were trained on",
          "Set train_on_prompt and assistant_only_loss alike", ("train_on_prompt", "assistant_only_loss"),
          phase="training"),
    Field("packing", "training", "packed rows see each other, and padding counts differently",
          "Train without packing, as this project does", ("packing",), phase="training"),
    Field("precision", "training", "the arms were trained in different number formats", "Set bf16 alike for all arms",
          ("bf16",), phase="training"),
    Field("seeds", "training", "the arms were trained with different seeds, or with a different number of them",
          "Train every arm with every seed; where runs diverged, lower the learning rate", phase="training",
          told=False),
    Field("match: *", "training", "the arms did not get the same amount of what they are matched on",
          "Set the arm's steps, rounds or rows so that it spends that amount", told=False),
    Field("tuning", "training", "some arms had more tuning than others, or were tuned on the test prompts",
          "Give every arm the same trials, or state published for all", ("tuning",)),
    Field("decoding.temperature", "answers", "the arms answered at different temperatures",
          "Let the study say how all arms answer, or make decoding an axis", ("decoding",)),
    Field("decoding.top_p", "answers", "the arms' answers were drawn from differently cut distributions",
          "Let the study say how all arms answer, or make decoding an axis", ("decoding",)),
    Field("decoding.max_tokens", "answers", "answers were cut at different lengths",
          "Give all arms the same max_tokens", ("max_tokens", "decoding")),
    Field("decoding.n", "answers", "some arms answered each prompt more often", "Let all arms answer n times",
          ("decoding",)),
    Field("decoding.prefix", "answers", "some arms answer after a text that the others do not see",
          "Take the prefix out of the model's recipe (pippin.json), or give it to all", ("use",)),
    Field("decoding.banned", "answers", "some arms cannot use certain tokens",
          "Take the banned tokens out of the model's recipe (pippin.json)", ("use",)),
    Field("decoding.best_of", "answers", "some arms keep the best of several answers and the others keep the first",
          "Take n and reranker out of the model's recipe, or make best_of_n an arm", ("use",)),
    Field("post-processing", "answers", "answers were changed after they were drawn",
          "Judge what the models said, unchanged"),
    Field("precision of answers", "answers", "the arms answered in different number formats",
          "Answer in one number format"),
    Field("device of answers", "answers", "the arms answered on different kinds of machine, whose sums differ",
          "Answer on one kind of machine", told=False),
    Field("missing answers", "answers", "some arms have more answers without a verdict than chance gives",
          "Run the same command again to fill them in; see why the judge is silent", told=False),
    Field("judge", "judging", "the arms were judged by different judges", "Judge all arms by one judge", ("judge",)),
    Field("judge.config", "judging", "one name, two judges: its file, weights or settings changed in between",
          "Judge all arms again by the judge as it is now", ("judge",), "judge", told=False),
    Field("judge.served", "judging", "the server gave verdicts by two snapshots of one judge",
          "Name a dated snapshot of the model, and judge all arms again", ("judge",), "judge", told=False),
    Field("judge in training", "judging", "the judge that evaluates also labelled, rewarded or selected in training",
          "Evaluate by another judge, or by people", told=False),
    Field("judge's family", "judging", "the judge is of a candidate's family, and models favour their own",
          "Evaluate by a judge of another family, or by people", told=False),
    Field("library.* of answers", "software", "the arms answered under different versions",
          "Make the answers again under one version", told=False),
    Field("library.* of verdicts", "software", "the arms were judged under different versions",
          "Judge again under one version", told=False),
    Field("library.*", "software", "the arms were trained under different versions", "Train again under one version",
          phase="training", told=False),
)  # fmt: skip
LIBRARIES = ("pippin", "torch", "transformers", "tokenizers", "numpy", "peft", "platform")
"""What of a machine's software can change weights, answers or verdicts; the rest moves bytes."""


def field_of(name: str) -> Field | None:
    """The entry of a field of a manifest; None for a field that only an arm made elsewhere has."""
    return next((f for f in FIELDS if f.name == name or ("*" in f.name and fnmatchcase(name, f.name))), None)


def set_by(keys: Iterable[str]) -> set[str]:
    """The fields that these keys of an arm set; a key that sets none stands for the field of its own name.

    >>> sorted(set_by({"max_length", "packing"}))
    ['packing', 'truncation']
    """
    found: set[str] = set()
    for key in keys:
        found |= {f.name for f in FIELDS if key in f.keys} or {key}
    return found


def untold(reads: str) -> list[str]:
    """The fields that an arm made elsewhere by a method that reads ``reads`` (empty: not known) can state."""
    others = tuple(f"({kind})" for kind in READS if reads and kind != reads)
    skipped = {"prompts.train", "prompts.train order", "reward"} if reads and reads != "prompts" else set()
    trained = [f for f in FIELDS if f.told and (f.phase == "training" or f.name in ("base", "tuning"))]
    return [f.name for f in trained if not f.name.endswith(others) and f.name not in skipped and not f.within]


def page() -> str:
    """``docs/confounds.md``: every field that is compared, as Markdown. Made by ``python -m pippin.compare.fields``."""
    lines = [_HEAD]
    for group in dict.fromkeys(f.group for f in FIELDS):
        lines += [f"\n## {group.capitalize()}\n", "| field | why it matters | how to mend it |", "| --- | --- | --- |"]
        lines += [f"| `{f.name}` | {f.why} | {f.mend} |" for f in FIELDS if f.group == group]
    return "\n".join([*lines, ""])


_HEAD = """# Confounds: what else differs

The arms of a comparison may differ only in what the study declares: its axes, and what an arm of the `method` axis says
of itself. Each arm resolves to a flat manifest; its fields are compared between all arms that have them, within a seed
and a way of answering, and what differs beyond the declared is named at the top of the report, with the arms, why it
matters and how to mend it.

- What is compared is content, not names: two files with the same rows are the same data, two folders with the same
  weights are the same model.
- A difference that an axis makes through a stage is declared: with an axis `data` and a stage trained on `$data`, the
  models that come out of it differ because the study says so.
- A method owns its fields (`method.dpo.beta`, its learning rate, its control tokens and the recipe that goes with
  them). They may differ between arms and are listed as settings.
- An arm that is not trained in the study has no training fields. What an arm made elsewhere does not say is *not
  declared*: neither equal nor different, and listed.
- Rounding that depends on the number of threads is not compared: it acts like one more seed and favours no arm.
- The verifier of the embedded world (`gold`) is the truth, and may select on development prompts.

`*` stands for a column of the ledger or the name of a library."""

if __name__ == "__main__":
    print(page(), end="")
