"""Pretrain a BERT: the same as `bert-scratch pretrain`.

uv run pretrain.py                                   # no data needed: Python's documentation
uv run pretrain.py --corpus my_texts/                # .txt, .jsonl, .gz; folders and globs
uv run pretrain.py --corpus my_texts/ --dry-run      # what would be trained, and what it costs
uv run pretrain.py --help                            # every flag
"""

import sys

from bert_scratch.__main__ import start

if __name__ == "__main__":
    sys.exit(start(["pretrain", *sys.argv[1:]]))
