"""The study file as a JSON schema for editors: ``# yaml-language-server: $schema=study.schema.json`` at its head."""

from __future__ import annotations

from typing import Any, get_args

from pippin.compare import looks
from pippin.compare.spec import EVALUATION_KEYS, STAGE_KEYS
from pippin.compare.study import INNER, Study
from pippin.core import catalog
from pippin.core import schema as schemas
from pippin.core.run import Ledger
from pippin.stats.sequential import Spending

Json = dict[str, Any]
REFERENCE: Json = {"type": "string", "pattern": r"\$"}  # a stage's output or an axis' value in a setting's place
HELP = {
    "method": "a method of `pippin list methods`",
    "model": "what training starts from: a model, a path, or $STAGE",
    "data": "FILE, READER:FILE, a source of the world, or $STAGE",
    "prompts": "what a method or feedback draws from; prompts.train where not given",
    "reward": "a judge that scores, such as rm/$STAGE",
    "feedback": "what says in words what is wrong with a response",
    "template": "a file with a chat template in place of the model's own",
    "respond": "the model that answers: a name, a path, or $STAGE",
    "n": "answers a prompt",
    "judge": "who labels the answers; of an arm: who evaluates it, in place of the study's judge",
    "orders": "one order a pair, or both",
    "temperature": "of the answers",
    "max_tokens": "tokens of an answer at most",
    "use": "a model that is taken as it is: a name, a path, or $STAGE",
    "decoding": "the only way in which this arm answers: greedy, temperature T, or {temperature, top_p, n, max_tokens}",
    "prompts_test": "other test prompts for this arm: a confound unless an axis has it",
}


def study_schema() -> Json:
    """The schema of a study file: its keys, what stages and arms may say, and every setting of every method."""
    out = schemas.schema(Study, INNER)
    keys = out["properties"]
    arm = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/arm"}]}
    keys["stages"] |= {"type": "object", "additionalProperties": {"$ref": "#/$defs/stage"}}
    keys["axes"] |= {
        "type": "object",
        "minProperties": 1,
        "properties": {
            "method": {"anyOf": [{"type": "array", "items": {"enum": catalog.names("methods")}},
                                 {"type": "object", "additionalProperties": arm}]}
        },
        "additionalProperties": {"type": ["array", "object"]},
    }  # fmt: skip
    keys["settings"] |= {
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/method.{name}"} for name in catalog.names("methods")},
        "additionalProperties": {"type": "object"},
    }
    keys["tuning"] |= {"anyOf": [{"const": "published"}, {"$ref": "#/$defs/tuning"}]}
    keys["external"] |= {"type": "array", "items": {"$ref": "#/$defs/external"}}
    keys["extend"] |= {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/extend"}]}
    keys["design"] |= {"anyOf": [{"enum": ["full", "one_factor"]}, {"$ref": "#/$defs/fraction"}]}
    keys["looks"] |= {"$ref": "#/$defs/looks"}
    keys["match"] |= {
        "type": "object",
        "properties": {name: {"type": "number", "description": told} for name, (_, told) in Ledger.columns().items()},
        "additionalProperties": False,
    }
    return {"$schema": schemas.DRAFT, "title": "A study of Pippin", **out, "$defs": _definitions()}


def _definitions() -> Json:
    def told(*names: str) -> Json:
        return {name: {"description": HELP[name]} for name in names}

    trained = {"properties": told(*STAGE_KEYS["train"]), "required": ["method"]}  # settings stand beside these keys
    feedback = {"properties": told(*STAGE_KEYS["feedback"]), "required": ["respond", "judge"]}
    used = {"properties": told(*STAGE_KEYS["use"]), "required": ["use"]}
    evaluated = told(*EVALUATION_KEYS)
    closed = {"additionalProperties": False}
    out: Json = {
        "stage": {"type": "object", "anyOf": [trained, feedback | closed, used | closed]},
        "arm": {
            "type": "object",
            "anyOf": [
                {**trained, "properties": trained["properties"] | evaluated},
                {**used, **closed, "properties": used["properties"] | evaluated},
            ],
        },
        "tuning": {
            "type": "object",
            "properties": {
                "trials": {"type": "integer", "minimum": 1, "description": "how many points every arm is tried under"},
                "on": {"const": "dev", "description": "trials answer the development prompts"},
                "search": {
                    "type": "object",
                    "minProperties": 1,
                    "additionalProperties": {"type": "array", "minItems": 1},
                    "description": "setting -> values; without it the trials were made elsewhere",
                },
            },
            **closed,
        },
        "external": {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "a model folder, an adapter, a file of answers, a log"},
                "name": {"type": "string", "description": "the arm's name"},
            },
            "required": ["path", "name"],
        },
        "extend": {
            "type": "object",
            "properties": {
                "bundle": {"type": "string", "description": "a study's archive, made by pippin bundle"},
                "arms": {"type": "array", "items": {"type": "string"}, "description": "which of its arms; all if none"},
            },
            "required": ["bundle"],
            **closed,
        },
        "fraction": {
            "type": "object",
            "properties": {
                "fraction": {"type": "integer", "minimum": 2, "description": "points that are run"},
                "seed": {"type": "integer", "description": "which of the equally good fractions"},
            },
            "required": ["fraction"],
            **closed,
        },
        "looks": {
            "type": "object",
            "properties": {
                "over": {"enum": list(looks.OVER), "description": "what the looks go over"},
                "at": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "description": "how many at each look, the last all",
                },
                "spending": {"enum": list(get_args(Spending)), "description": "how early the error rate is spent"},
            },
            **closed,
        },
    }
    for name in catalog.names("methods"):
        out[f"method.{name}"] = {
            "type": "object",
            "properties": told(*STAGE_KEYS["train"], *EVALUATION_KEYS) | _settings(name),
            **closed,
        }
    return out


def _settings(name: str) -> Json:
    """A method's own settings and those of the loop, each also as a reference to an axis."""
    from pippin.align.method import Training

    method = catalog.load("methods", name)
    out: Json = {}
    for cls in (Training, method.config):
        for key, entry in schemas.schema(cls)["properties"].items():
            about = {k: entry.pop(k) for k in ("description", "default") if k in entry}
            default = {"default": method.defaults[key]} if key in method.defaults else {}
            out[key] = {"anyOf": [entry, REFERENCE], **about, **default}
    return out
