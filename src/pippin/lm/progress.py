"""How far a run is, as numbers and as a line of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        asked: calls made now; ``failed`` of them ended as errors, and together they cost ``spent`` US dollars.
        stored: requests answered from the store.
        shared: requests answered by an equal request of this run.
        unasked: requests left out because the budget was spent; nothing is stored of them.
    """

    tasks: int
    done: int = 0
    asked: int = 0
    stored: int = 0
    shared: int = 0
    failed: int = 0
    spent: float = 0.0
    unasked: int = 0


def progress_line(progress: Progress, seconds: float) -> str:
    """``412 of 838 done, 61/s, 7 s left, $0.12`` after so many seconds.

    The rate is that of calls made now; the time left supposes that the tasks to come take as long as those before,
    and is left out while there is nothing to go by.
    """
    parts = [f"{progress.done:,} of {progress.tasks:,} done"]
    if seconds > 0 and progress.asked:
        parts.append(f"{progress.asked / seconds:.3g}/s" if progress.asked < 10 * seconds else
                     f"{progress.asked / seconds:,.0f}/s")  # fmt: skip
    if seconds > 0 and 0 < progress.done < progress.tasks:
        parts.append(f"{duration(seconds * (progress.tasks - progress.done) / progress.done)} left")
    if progress.spent:
        parts.append(f"${progress.spent:.2f}" if progress.spent >= 0.01 else f"${progress.spent:.4f}")
    for count, what in ((progress.stored, "stored"), (progress.failed, "failed"), (progress.unasked, "not asked")):
        if count:
            parts.append(f"{count:,} {what}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """``7 s``, ``3 min``, ``2 h 10 min``."""
    whole = max(1, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
