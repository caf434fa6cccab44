"""`python -m bert_scratch COMMAND`: the same as `bert-scratch COMMAND`."""

import sys

_STOPPED_EXIT_CODE = 75
"""As in `cli`, which may not have been imported yet."""


def start(arguments: list[str]) -> int:
    """Import the command line and run it; Ctrl-C during the import ends like any later one."""
    try:
        from bert_scratch.cli import main

        return main(arguments)
    except KeyboardInterrupt:
        print("stopped before anything was begun", file=sys.stderr)
        return _STOPPED_EXIT_CODE


if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
