"""Pins that a model folder of any content loads or is refused with `InputError`: damaged
config.json, damaged safetensors. Runs anywhere: `pytest tests/model/test_folder_fuzz.py`.
"""

from __future__ import annotations

import json
import random
import time
import warnings
from pathlib import Path

import pytest
import torch

from bert_scratch.config import BertConfig, InputError
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.weight_files import WEIGHTS

CONFIG = BertConfig(
    vocab_size=67,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=40,
    max_position_embeddings=19,
)

LONGEST_LOAD_S = 5.0
"""Of a processor: no content makes a load take long."""
AMOUNTS = [(0, 100), (1, 100), (2, 100), pytest.param(3, 10_000, marks=pytest.mark.slow)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    BertForPreTraining(CONFIG).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Cut, flip, repeat or overwrite some bytes."""
    damaged = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(damaged)) if damaged else 0
        kind = draw.randrange(5)
        if kind == 0:
            del damaged[at:]
        elif kind == 1 and damaged:
            damaged[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            damaged[at:at] = draw.randbytes(draw.randint(1, 9))
        elif kind == 3:
            del damaged[at : at + draw.randint(1, 9)]
        else:
            damaged[at : at + 1] = draw.choice([b"0", b"9", b"-", b'"', b"{", b"null", b"1e999"])
    return bytes(damaged)


def load_or_refuse(folder: Path) -> bool:
    """Load; an InputError is fine, and so is a model with all its weights; else the test fails."""
    start_s = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = BertForPreTraining.from_pretrained(folder)
    except InputError as error:
        assert str(folder) in str(error)
        return False
    finally:
        assert time.process_time() - start_s < LONGEST_LOAD_S
    assert not any(parameter.is_meta for parameter in model.parameters())
    return True


@pytest.mark.parametrize(("seed", "count"), AMOUNTS)
def test_mutated_config_loads_or_is_refused(folder: Path, seed: int, count: int) -> None:
    path, draw = folder / "config.json", random.Random(seed)
    original = path.read_bytes()
    values = [
        None,
        True,
        -1,
        0,
        1,
        10**30,
        1e400,
        float("nan"),
        0.5,
        "",
        "bert",
        [],
        [1],
        {},
        {"a": 1},
    ]
    outcomes = set()
    for _ in range(count):
        if draw.random() < 0.5:
            path.write_bytes(mutated(original, draw))
        else:
            changed = json.loads(original)
            changed[draw.choice(list(changed))] = draw.choice(values)
            path.write_text(json.dumps(changed))
        outcomes.add(load_or_refuse(folder))
    assert outcomes == {True, False}


@pytest.mark.parametrize(("seed", "count"), AMOUNTS)
def test_mutated_safetensors_loads_or_is_refused(folder: Path, seed: int, count: int) -> None:
    path, draw = folder / WEIGHTS, random.Random(seed)
    original = path.read_bytes()
    header = 8 + int.from_bytes(original[:8], "little")
    outcomes = set()
    for _ in range(count):
        if draw.random() < 0.7:
            path.write_bytes(mutated(original[:header], draw) + original[header:])
        else:
            path.write_bytes(mutated(original, draw))
        outcomes.add(load_or_refuse(folder))
    assert False in outcomes
