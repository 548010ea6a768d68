"""What a listing says of a method beside its summary: read off its slots, at its default settings.

Two ways to the slots: :func:`pippin.core.catalog.load`, which runs the method's file and so loads torch, and
:func:`sketch`, which reads the few slots asked for off the file's text and runs nothing else of it, in milliseconds.
"""

from __future__ import annotations

import ast
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pippin.align.method import Method

COLUMNS = ("score", "reference", "responses")
_LOADED: Any = object()  # a slot that is filled; by what does not matter here


def facts(method: Method | Sketch) -> dict[str, str]:
    """Three answers, by the names in ``COLUMNS``.

    ``score``: ``sum``, ``mean`` or ``none``: the log-probability of a sequence that the loss is about. ``reference``:
    ``yes`` or ``no``: a frozen copy of the first policy is kept. ``responses``: ``offline``: those of the data;
    ``once``: drawn from the first policy; ``online``: drawn anew from the policy of each round; ``in use``: nothing is
    trained, responses are chosen when the policy answers.
    """
    config = method.config()
    if method.layout is None:
        responses = "in use"
    elif method.reads != "prompts":
        responses = "offline"
    else:
        responses = "online" if method.rounds(config) > 1 else "once"
    reference = "yes" if "reference" in method.parts(config) else "no"
    return {"score": method.score, "reference": reference, "responses": responses}


def sketch(path: str | Path) -> Sketch | None:
    """The slots of the method in this file as its text has them, or None where only running the file can tell: where
    ``METHOD`` is no plain call of ``Method``, or ``parts``, ``rounds`` or a default is more than an expression of
    literals and settings.
    """
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    made = next((n.value for n in tree.body if isinstance(n, ast.Assign) and _names(n) == ["METHOD"]), None)
    own = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Config"), None)
    if not isinstance(made, ast.Call) or not isinstance(made.func, ast.Name) or made.func.id != "Method" or not own:
        return None
    slots = {k.arg: k.value for k in made.keywords if k.arg}
    config = slots.get("config")
    if made.args or None in (k.arg for k in made.keywords) or not isinstance(config, ast.Name) or config.id != "Config":
        return None
    read = Sketch(slots, own)
    try:
        facts(read)
    except (AttributeError, KeyError, NameError, SyntaxError, TypeError, ValueError):
        return None
    return read


class Sketch:
    """Slots read off syntax trees. A slot that is not given has the default that ``Method`` has."""

    def __init__(self, slots: dict[str, ast.expr], own: ast.ClassDef) -> None:
        self._slots, self._own = slots, own

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        from pippin.align.method import Method

        return {name: f.default for name, f in Method.__dataclass_fields__.items()}

    def config(self) -> Any:
        made = SimpleNamespace()
        for n in self._own.body:
            if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and _default(n) is not _LOADED:
                setattr(made, n.target.id, _default(n))
        return made

    @property
    def reads(self) -> str:
        return ast.literal_eval(self._slots["reads"])

    @property
    def layout(self) -> Any:
        given = self._slots["layout"]
        return None if isinstance(given, ast.Constant) and given.value is None else _LOADED

    @property
    def score(self) -> str:
        return ast.literal_eval(self._slots["score"]) if "score" in self._slots else self._defaults["score"]

    @property
    def parts(self) -> Any:
        return self._function("parts")

    @property
    def rounds(self) -> Any:
        return self._function("rounds")

    def _function(self, name: str) -> Any:
        """A lambda of the file, with no name in sight but its own and ``frozenset``."""
        given = self._slots.get(name)
        if given is None:
            return self._defaults[name]
        if not isinstance(given, ast.Lambda):
            raise ValueError(name)
        return eval(compile(ast.Expression(given), name, "eval"), {"__builtins__": {"frozenset": frozenset}})


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def _default(field: ast.AnnAssign) -> Any:
    """The default of ``name: type = setting(default, help)`` where it is a literal."""
    value = field.value
    if isinstance(value, ast.Call):
        value = value.args[0] if value.args else None
    try:
        return ast.literal_eval(value) if value is not None else _LOADED
    except ValueError:
        return _LOADED
