"""``python -m pippin`` is ``pippin``."""

from pippin.app.cli import main

if __name__ == "__main__":
    main()
