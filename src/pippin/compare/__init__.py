"""Judged becomes compared: studies whose arms differ only in what they declare.

Reading order: :mod:`study` (the file), :mod:`inputs` (prompts and data by name), :mod:`plan` (arms and cells),
:mod:`work` (one cell), :mod:`pool` (many cells, several processes), :mod:`confounds`, :mod:`analyse` (cells into
results), :mod:`report`; :mod:`two` compares two things directly, :mod:`judges` evaluates the judges.
"""
