"""What the ranks of a run share besides its steps: which one prints, and how a run has ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from bert_scratch.config import INPUT_ERROR_EXIT_CODE, STOPPED_EXIT_CODE, InputError
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.training.distributed import Ranks, joined_ranks, times_restarted
from bert_scratch.training.peers import PeerEnded
from bert_scratch.training.step import NonFinite

ENDED_FOR_GOOD = (INPUT_ERROR_EXIT_CODE, NonFinite.exit_code, STOPPED_EXIT_CODE)
"""Exit codes that restarting the ranks would not change."""


class EndedBefore(Exception):
    """The ranks were restarted although their run has ended; each exits as the run did."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def ranks_of_run() -> Iterator[Ranks]:
    """Yield the ranks that torchrun started, of which only the first one prints.

    Raises:
        InputError: if the environment is not torchrun's, or from inside the block, with the rank.
        PeerEnded: inside the block, when another rank has ended.
    """
    rank = 0
    try:
        with joined_ranks() as ranks:
            rank = ranks.rank
            if ranks.is_first:
                yield ranks
                return
            with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
                yield ranks
    except InputError as error:
        if rank == 0:
            raise
        raise InputError(f"rank {rank}: {error}") from error


@contextmanager
def ending_together(folder: PretrainRunFolder, ranks: Ranks) -> Iterator[None]:
    """Write `status.json` when another rank ends, and do not restart a run that has ended.

    A lost rank leaves the state `lost`, from which the next start resumes, be it torchrun's own
    (`--max-restarts`) or a later one. Any rank writes it, since the lost one may be the first.

    Raises:
        EndedBefore: if torchrun has restarted the ranks after a stop, or a failure that would
            recur.
        PeerEnded: from inside the block.
    """
    if times_restarted() and ranks.world_size > 1:
        state, code, message = folder.status()
        if state in ("stopped", "failed") and code in ENDED_FOR_GOOD:
            raise EndedBefore(f"rank {ranks.rank}: not started again: {message}", code)
    try:
        yield
    except PeerEnded as error:
        if error.was_lost:
            folder.write_end("lost", code=error.exit_code, message=str(error))
        elif ranks.is_first:
            state = "stopped" if error.exit_code == STOPPED_EXIT_CODE else "failed"
            folder.write_end(state, code=error.exit_code, message=str(error))
        raise
