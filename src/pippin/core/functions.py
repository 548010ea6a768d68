"""Functions in a user's own file: ``FILE.py:function``. The file is run: it and its faults are the user's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pippin.core.errors import InputError, PippinError, UnknownName
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


def answers(function: Callable[..., Any], where: str, count: int, **arguments: Any) -> list[Any]:
    """What a user's function gives for ``count`` texts, one value each.

    Raises:
        InputError: it failed, or gave something else than a list of that length.
    """
    try:
        said = function(**arguments)
    except PippinError:
        raise
    except Exception as error:
        raise InputError("the function failed", where=where, found=f"{type(error).__name__}: {error}",
                         mend="PIPPIN_DEBUG=1 shows where") from error  # fmt: skip
    if isinstance(said, (str, bytes)) or not hasattr(said, "__len__"):
        raise InputError("the function gave no list", where=where, found=repr(said), expected=f"a list of {count}")
    if len(said) != count:
        raise InputError("the function gave a wrong number of values", where=where, found=len(said), expected=count)
    return list(said)
