"""Fixtures every test may use: the development data, a quiet, small torch, and a fake GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import hypothesis
import pytest

if TYPE_CHECKING:
    import torch
    from torch import nn

# Before torch is imported anywhere: two xdist workers on two cores must not fight for threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def _torch_of_this_process() -> tuple[int, bool]:
    import torch

    return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()


@pytest.fixture(autouse=True)
def _each_test_finds_torch_as_the_process_began(_torch_of_this_process: tuple[int, bool]) -> None:
    """A run made within a test sets threads and algorithms for the whole process."""
    import torch

    num_threads, deterministic = _torch_of_this_process
    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared(repository: Path) -> Path:
    """The developers' folder of real corpora and weights; absent on a user's machine."""
    folder = repository.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the developers' shared data is not on this machine")
    return folder


@pytest.fixture
def fake_gpu() -> Callable[[nn.Module], AbstractContextManager[torch.device]]:
    """A GPU that computes shapes, dtypes and devices but no numbers, on any machine.

    Inside, with the model moved there, tensors of two devices that meet raise as on a real one,
    and so does the host when it asks for a number that is still being computed. Backward is
    beyond it: a gradient for each parameter stands for what it leaves behind.
    """
    import torch
    from torch import nn
    from torch._subclasses.fake_tensor import FakeTensorMode

    from bert_scratch.model import attention
    from bert_scratch.training.runtime import Runtime

    def move(model: nn.Module, device: torch.device) -> None:
        moved: dict[torch.Tensor, torch.Tensor] = {}  # tied ones stay tied
        for module in model.modules():
            for name, p in module._parameters.items():
                if p is not None and p not in moved:
                    moved[p] = nn.Parameter(torch.empty(p.shape, dtype=p.dtype, device=device))
                module._parameters[name] = None if p is None else moved[p]
            for name, buffer in module._buffers.items():
                assert buffer is not None
                module._buffers[name] = torch.empty_like(buffer, device=device)

    @contextmanager
    def autocast(runtime: Runtime) -> Iterator[None]:
        """Do what torch.autocast refuses to do without CUDA."""
        torch.set_autocast_dtype("cuda", runtime.dtype)
        torch.set_autocast_enabled("cuda", runtime.dtype != torch.float32)
        yield
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()

    @contextmanager
    def there(model: nn.Module) -> Iterator[torch.device]:
        device = torch.device("cuda")

        def backward(loss: torch.Tensor) -> None:
            assert (loss.shape, loss.dtype, loss.is_cuda) == ((), torch.float32, True)
            for p in model.parameters():
                p.grad = torch.empty_like(p)

        with FakeTensorMode(allow_non_fake_inputs=True), pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.autograd, "backward", backward)
            patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
            patch.setattr(torch.cuda, "Event", mock.MagicMock)
            patch.setattr(Runtime, "autocast", autocast)
            patch.setattr(attention, "_is_ampere_or_newer", lambda _: True)
            patch.setattr(torch._C, "_get_cudnn_sdp_enabled", lambda: False)  # asks for its version
            move(model, device)
            yield device

    return there
