"""``python -m securegan``: the ``securegan`` command."""

from securegan.cli import main

if __name__ == "__main__":
    main()
