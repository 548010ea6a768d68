"""Rows out of the first sheet of an Excel workbook: the first row names the columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pippin.core.catalog import EXTRAS
from pippin.core.errors import InputError, MissingExtra
from pippin.data.rows import Row


def read_workbook(path: str | Path) -> Iterator[Row]:
    """The rows of a workbook, one at a time; formulas as their stored values.

    Raises:
        InputError: no such file, no workbook, or no header.
        MissingExtra: openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ModuleNotFoundError:
        raise MissingExtra("openpyxl", EXTRAS["openpyxl"], "reading a workbook (.xlsx)") from None
    from zipfile import BadZipFile

    path = Path(path)
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError, OSError) as error:
        raise InputError("not an Excel workbook", where=str(path), found=str(error)) from None
    try:
        cells = book.worksheets[0].iter_rows(values_only=True)
        header = next(cells, ())
        if all(name is None for name in header):
            raise InputError("a workbook without a header", where=str(path))
        for number, values in enumerate(cells, 2):
            named = zip(header, values, strict=False)
            yield Row(f"{path}:row {number}", {str(name): value for name, value in named if name is not None})
    finally:
        book.close()
