"""One step of a training: forward over the rollout, backward, clipping, update, weight average.

It is the same on every device and asks nothing of it that a GPU would have to be waited for: losses
add up on the device, and so does the judgement whether they are finite.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from data.errors import FlowcastError
from forecasting.training.batches import Windows
from forecasting.training.cuda_graph import CudaGraphStep, _persistent_buffers
from forecasting.training.distributed import Group
from forecasting.training.hardware import PRECISIONS, Computing
from forecasting.training.losses import loss_of
from forecasting.training.state import TrainingState


class Step:
    """Makes steps that change a state.

    A loss or gradient that is not finite ends all change: its update and those of later steps are not
    made, so that the state stays what it was before, whenever that is noticed.

    Attributes:
        micro: the most windows that go through the network at once; the gradients of the parts of a
            batch add up to that of the whole.
        shared: `(2,)` what the processes told one another at the newest step: how many are to stop,
            and the first one's clock.
    """

    def __init__(
        self,
        state: TrainingState,
        computing: Computing,
        group: Group,
        windows: int,
        weight: Tensor | None = None,
    ) -> None:
        """Prepares the state's network and optimizer.

        Args:
            state: that is changed.
            computing: how.
            group: of processes that make each step together.
            windows: of an epoch.
            weight: that errors are multiplied by before the loss, as `(c, y, x)`; None for 1.
        """
        self.state, self.group = state, group
        whole = torch.arange(min(state.config.batch, windows))
        self._usual = self.micro = len(group.part(whole)[0])
        self.network = self.group.parallel(state.network)
        device = state.device
        self._precision = PRECISIONS[computing.precision]
        self._compiled = computing.compiled
        self._parameters = list(state.network.parameters())
        self._buffers = _persistent_buffers(state.network)
        self._rate = state.optimizer.param_groups[0]["lr"]
        self._loss = loss_of(state.config.loss, weight)
        self._bad = torch.zeros((), device=device)
        # A fused optimizer makes no update while this is 1.
        state.optimizer.found_inf = self._bad  # type: ignore[attr-defined]
        self._one = torch.ones((), device=device)
        self._weight = torch.zeros((), device=device)
        self._updates = _updates(state)
        self.shared = torch.zeros(2, dtype=torch.float64, device=device)
        # What recomputes sets the state of chance, and what talks to other processes waits for them:
        # neither can be captured as it is.
        alone = self.group.size == 1 and not computing.recompute
        captured = computing.compiled and device.type == "cuda" and alone
        state.optimizer.param_groups[0]["capturable"] = captured
        self._captured = CudaGraphStep(self._whole, self._forget) if captured else None

    def __call__(self, windows: Windows, share: float, rate: float) -> None:
        """Makes a step.

        Args:
            windows: this process's part of the batch, as a feed gives it.
            share: of the batch that the part is.
            rate: the learning rate.

        Raises:
            FlowcastError: a single window does not fit into the memory of the GPU.
        """
        self._rate.fill_(rate)
        self._updates += 1
        if decay := self.state.config.average:
            self._weight.fill_((1 - decay) / (1 - decay**self._updates))
        while not self._fits(windows, share):
            self._halve(len(windows[0]))

    def tell(self, stop: bool, seconds: float) -> None:
        """Sets what the other processes learn of this one at the next step."""
        if self.group.size == 1:
            return
        self.shared[0].fill_(float(stop))
        self.shared[1].fill_(seconds if self.group.first else 0.0)

    def _fits(self, windows: Windows, share: float) -> bool:
        """Makes the step, or returns False where the GPU lacks the memory for it."""
        try:
            if len(windows[0]) != self._usual:  # the last batch of an epoch may be smaller
                self._forget()
                with self.uncompiled():
                    self._whole(windows, share)
            elif self._captured is not None:
                self._captured(windows)
            else:
                self._forget()
                self._whole(windows, share)
        except torch.OutOfMemoryError:
            return False
        return True

    def _halve(self, windows: int) -> None:
        """Halves what goes through the network at once."""
        self._forget()
        if self._captured is not None:
            self._captured.drop()
        if self.state.device.type == "cuda":
            torch.cuda.empty_cache()
        most = min(self.micro, windows)
        if most == 1 or self.group.size > 1:
            raise FlowcastError(
                f"{most} windows at once do not fit into the memory of the {self.state.device.type}; "
                f"use --recompute, {'a smaller batch' if most > 1 else 'a smaller grid'} or a smaller network"
            )
        self.micro = -(-most // 2)

    def _forget(self) -> None:
        self.state.optimizer.zero_grad(set_to_none=True)

    def uncompiled(self) -> AbstractContextManager[None]:
        """Returns the context of what is not worth compiling for: another size, a validation."""
        return torch.compiler.set_stance("force_eager") if self._compiled else nullcontext()

    def _whole(self, windows: Windows, share: float = 1.0) -> None:
        """Makes the step where there are no gradients yet; all of it can be captured."""
        before = [buffer.clone() for buffer in self._buffers]
        loss = self._backward(windows, share)
        if self.group.size > 1:
            loss = self._share(loss)
        norm = nn.utils.clip_grad_norm_(self._parameters, self.state.config.clip)
        self._bad.copy_(torch.maximum(self._bad, (~torch.isfinite(loss + norm)).float()))
        self.state.optimizer.step()
        self._keep(loss, before)

    def _backward(self, windows: Windows, share: float) -> Tensor:
        """Returns this process's share of the loss, its gradients being added up."""
        loss = torch.zeros_like(self._one)
        pieces = list(zip(*(part.split(self.micro) for part in windows), strict=True))
        for number, piece in enumerate(pieces, start=1):
            weight = share * len(piece[0]) / len(windows[0])
            with self.group.quiet(self.network, last=number == len(pieces)):
                error = self._error(piece)
                # The processes' gradients are averaged, and their sum is meant.
                (error * (weight * self.group.size)).backward()
            loss += error.detach() * weight
        return loss

    def _error(self, windows: Windows) -> Tensor:
        """Returns the mean loss of all that the network puts out."""
        past, future, *shown = windows
        low = self._precision != torch.float32
        with torch.autocast(past.device.type, self._precision, enabled=low):
            outputs = self.network(past, future.shape[1], *shown)
        target = torch.cat([past, future], dim=1)[:, -outputs.shape[1] :]
        return self._loss(outputs.float(), target)

    def _share(self, loss: Tensor) -> Tensor:
        """Returns the loss of the whole batch, and lets all learn what each told."""
        told = self.group.sum(torch.cat([loss.double().view(1), self.shared]))
        self.shared.copy_(told[1:])
        return told[0].float()

    def _keep(self, loss: Tensor, before: list[Tensor]) -> None:
        """Adds the step to the sums and the averages, unless it was bad."""
        bad = self._bad > 0
        for buffer, old in zip(self._buffers, before, strict=True):
            buffer.copy_(torch.where(bad, old, buffer))
        self.state.sums += torch.stack([loss, self._one]).double().masked_fill(bad, 0.0)
        if self.state.average:
            way = torch._foreach_sub(
                [value.detach() for value in self._parameters], self.state.average
            )
            torch._foreach_mul_(way, self._weight * (1 - self._bad))
            torch._foreach_add_(self.state.average, way)


def _updates(state: TrainingState) -> int:
    """Returns how many updates the optimizer has made."""
    counts = [int(moments["step"]) for moments in state.optimizer.state.values()]
    return max(counts, default=0)
