"""The part of a corpus that a report reads: all of it, or an even share of a large one."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tqdm import tqdm

from bert_scratch.data.corpus import read_documents
from bert_scratch.pretraining import corpus_plan
from bert_scratch.pretraining.corpus_plan import Text

MAX_SAMPLED_BYTES = 100_000_000


def sampled_share(text: Text) -> float:
    """Return the share of a corpus that is read, 1 for all."""
    return min(1.0, MAX_SAMPLED_BYTES / max(1, text.num_bytes))


def sampled_documents(text: Text) -> Iterator[tuple[int, list[str]]]:
    """Read an even share of a corpus: the beginning of each slice, or every k-th small file.

    A slice is read only until the share of all slices so far has been read.

    Yields:
        (source index, the document's lines).
    """
    share = sampled_share(text)
    wanted, num_read = 0.0, 0
    with tqdm(
        total=round(share * text.num_bytes),
        unit="B",
        unit_scale=True,
        desc="counting",
        leave=False,
        disable=not sys.stderr.isatty(),
    ) as bar:
        for part in text.slices:
            wanted += share * corpus_plan.text_bytes(part)
            if share < 1 and num_read >= wanted:
                continue
            source = text.sources[part.source_index]
            for lines in read_documents(part, source, text.rules.encoding_errors):
                yield part.source_index, lines
                size = sum(len(line.encode()) + 1 for line in lines)
                num_read += size
                bar.update(size)
                if share < 1 and num_read >= wanted:
                    break
