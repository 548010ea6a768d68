"""Silence around our own calls of transformers: no progress bars, no advice on stderr. Restored afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, transformers reports errors only and draws no bars."""
    from transformers.utils import logging as notices

    level = notices.get_verbosity()
    bars = notices.is_progress_bar_enabled()
    notices.set_verbosity(logging.ERROR)
    notices.disable_progress_bar()
    try:
        yield
    finally:
        notices.set_verbosity(level)
        if bars:
            notices.enable_progress_bar()
