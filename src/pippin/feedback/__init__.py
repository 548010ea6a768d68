"""Responses into feedback, and judgements into preferences that a method can learn from."""
