"""Feedback in, policy out: one training loop, and every method as data that fills its slots.

Reading order: :mod:`method` (the slots), :mod:`sources` (prompts and data into groups), :mod:`shapes` (groups into
examples), :mod:`terms` (the losses, pure), :mod:`loop` (the only place with an optimiser), ``methods/`` (one file each,
readable beside its paper), :mod:`run` (the entry: names and files in, a saved policy out).
"""
