"""A few plain records. Loads little, because other processes import it too."""

from pippin.core.types import Call, Choice, Key, Outcome


def call(subject: object, *, request: str = "r", text: str = "answer", error: str | None = None) -> Call:
    """A successful call, or a failed one."""
    stop = "error" if error else "end"
    return Call(Key(str(subject)), request, "m", "" if error else text, stop, error)


def choice(prompt_id: object, by: str = "judge", parser: str = "v1") -> Choice:
    """A judgement of one pair."""
    return Choice(str(prompt_id), "a", "b", Outcome.FIRST, by, parser=parser)
