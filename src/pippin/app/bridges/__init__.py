"""Bridges to other evaluation programs, each used only where that program is installed."""
