"""Pippin: instruction tuning, apples to apples."""

__version__ = "0.1.0"
