"""Functions in a user's own file: ``FILE.py:function``. The file is run: it is the user's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pippin.core.errors import InputError, UnknownName
from pippin.core.run import file_digest


def load_function(spec: str, where: str = "") -> tuple[Callable[..., Any], Path]:
    """The function that ``FILE.py:function`` names, and its file.

    Args:
        where: the whole name that ``spec`` stands in, for messages.

    Raises:
        InputError: not of this form, or there is no such file.
        UnknownName: the file defines no such function.
    """
    file, colon, name = spec.rpartition(":")
    path = Path(file).expanduser()
    if not colon or path.suffix != ".py":
        raise InputError(
            "not a function of a file", found=where or spec, expected=f"{where.removesuffix(spec)}FILE.py:function"
        )
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    found = importlib.util.spec_from_file_location(f"pippin_user_{path.stem}_{file_digest(path)}", path)
    assert found is not None and found.loader is not None  # a .py file always has both
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if name not in functions:
        raise UnknownName("function", name, functions, where=str(path))
    return getattr(module, name), path
