"""One file per kind of judge. ``JUDGE(rest, options)`` makes one from what follows the kind in its name."""
