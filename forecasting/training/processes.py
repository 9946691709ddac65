"""Several processes that train one model, as `accelerate launch` or `torchrun` start them; one alone pays nothing.

Each takes its share of a step's windows, gradients are summed, and all make the same update, so their weights stay
equal without ever being sent.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from forecasting.errors import ConfigError, LostProcessError

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where launchers tell a process how many there are."""

BROKEN = ("by peer", "Broken pipe", "remote process exited")
"""How gloo and NCCL say that the other end of a line is gone."""


@contextlib.contextmanager
def exchanging() -> Iterator[None]:
    """LostProcessError where another process ends meanwhile."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in BROKEN):
            raise
        raise LostProcessError(
            "another process of this training has ended; see what it said, mend that and start all again"
        ) from error


@dataclass(frozen=True)
class Processes:
    """Which process this is, of how many; device: of the tensors they exchange."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, the same bits in each; one exchange for all of them."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([value.reshape(-1) for value in tensors])
        with exchanging():
            dist.all_reduce(flat)
        for value, part in zip(tensors, flat.split([value.numel() for value in tensors]), strict=True):
            value.copy_(part.view_as(value))

    def check_same(self, number: int, otherwise: str) -> None:
        """ConfigError with the text `otherwise`, in all processes, unless the number is the same in each."""
        if self.count > 1:
            both = torch.tensor([number, -number], device=self.device)
            with exchanging():
                dist.all_reduce(both, dist.ReduceOp.MAX)
            if int(both[0]) != -int(both[1]):
                raise ConfigError(otherwise)

    def told(self, word: bool) -> bool:
        """What process 0 says."""
        if self.count > 1:
            said = torch.tensor([int(word)], device=self.device)
            with exchanging():
                dist.broadcast(said, src=0)
            return bool(said)
        return word


ALONE = Processes()


def launched() -> int:
    """How many processes a launcher started with this one, by its environment."""
    return max((int(os.environ[name]) for name in SIZES if os.environ.get(name, "").isdigit()), default=1)


def joined() -> Processes:
    """The processes that this one has joined; itself alone where it has joined none."""
    if not dist.is_available() or not dist.is_initialized():
        return ALONE
    return Processes(dist.get_rank(), dist.get_world_size(), "cuda" if dist.get_backend() == "nccl" else "cpu")


def join(cpu: bool) -> Processes:
    """Meet the other processes that the launcher started: over gloo on the CPU, NCCL between GPUs."""
    from accelerate import PartialState

    PartialState(cpu=cpu)
    return joined()


def leave(together: bool) -> None:
    """Go on alone; together, so that none closes a line that another still listens to, unless one has failed."""
    if together:
        with exchanging():
            dist.barrier()
    dist.destroy_process_group()
