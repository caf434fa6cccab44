"""`python -m bert_scratch COMMAND`: the same as `bert-scratch COMMAND`."""

import sys

from bert_scratch.cli import main

if __name__ == "__main__":
    sys.exit(main())
