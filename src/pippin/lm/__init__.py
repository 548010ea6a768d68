"""Anything that answers: chat templates, forward passes, sampling, local models, endpoints, recordings, the engine.

Nothing is imported here, so that ``import pippin.lm.protocols`` loads neither torch nor transformers.
"""
