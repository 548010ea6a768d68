"""Leaves: what other programs leave behind, one file a kind. Loaded by name through :mod:`pippin.core.catalog`."""
