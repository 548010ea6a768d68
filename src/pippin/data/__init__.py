"""Instruction data: files and formats into prompts, responses and groups; prompts into responses."""
