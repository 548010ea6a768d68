"""What a listing says of a method beside its summary: read off its slots, at its default settings. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pippin.align.method import Method

COLUMNS = ("score", "reference", "responses")


def facts(method: Method) -> dict[str, str]:
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
