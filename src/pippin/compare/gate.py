"""Gates: a stated condition on a comparison's figures, such as ``delta_low > 0 and missing == 0``.

The expression is parsed and walked; nothing is executed. It knows the figures' names, numbers and texts, comparisons,
``and``, ``or``, ``not``, ``+ - * /`` and parentheses.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pippin.core.errors import InputError, UnknownName

_COMPARE: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip
_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_UNARY: Mapping[type, Callable[[Any], Any]] = {ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos}
_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.BinOp, ast.UnaryOp, ast.Name, ast.Load, ast.Constant,
    *_COMPARE, *_ARITHMETIC, *_UNARY,
)  # fmt: skip


def check(expression: str, names: Collection[str]) -> ast.expr:
    """The parsed gate, before any work is done.

    Raises:
        UnknownName: it names a figure that there is not.
        InputError: it is no expression, or uses more than comparisons, logic and arithmetic.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError("the gate is not an expression", found=expression, expected="such as delta_low > 0") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in names:
            raise UnknownName("figure for a gate", node.id, names)
        simple = not isinstance(node, ast.Constant) or isinstance(node.value, (bool, int, float, str))
        if not isinstance(node, _ALLOWED) or not simple:
            raise InputError("a gate compares figures and nothing else", found=expression,
                             expected="names, numbers, < <= > >= == !=, and, or, not, + - * /")  # fmt: skip
    return tree.body


def holds(expression: str, figures: Mapping[str, Any]) -> bool:
    """Whether the gate holds for these figures.

    Raises:
        UnknownName, InputError: as :func:`check`, or a figure that it compares is not known here.
    """
    tree = check(expression, figures)
    try:
        return bool(_value(tree, figures))
    except (TypeError, ArithmeticError, RecursionError) as error:
        raise InputError("the gate cannot be evaluated on these figures", found=expression, mend=str(error)) from None


def _value(node: ast.expr, figures: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return figures[node.id]
        case ast.BoolOp(op=ast.And()):
            return all(_value(part, figures) for part in node.values)
        case ast.BoolOp():
            return any(_value(part, figures) for part in node.values)
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_value(node.operand, figures))
        case ast.BinOp():
            sides = (_value(node.left, figures), _value(node.right, figures))
            if not all(isinstance(side, (int, float)) for side in sides):  # a text times a number is a bomb
                raise TypeError("arithmetic needs numbers")
            return _ARITHMETIC[type(node.op)](*sides)
        case ast.Compare():
            values = [_value(part, figures) for part in (node.left, *node.comparators)]
            steps = zip(node.ops, values, values[1:], strict=False)
            return all(_COMPARE[type(op)](left, right) for op, left, right in steps)
    raise TypeError(f"{type(node).__name__} in a gate")
