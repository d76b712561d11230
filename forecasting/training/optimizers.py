"""Muon: an optimizer whose steps have all singular values alike, beside AdamW for what is no matrix.

Source: Jordan et al.: Muon: An optimizer for hidden layers in neural networks, 2024
(https://kellerjordan.github.io/posts/muon), with the step size of Liu et al.: Muon is Scalable for LLM
Training, arXiv 2502.16982, so that rate and decay are those of AdamW. torch's own computes in bfloat16 and
makes its step also where something is not finite.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, which brings singular values to between 0.7 and 1.2."""
ITERATIONS = 5
MOMENTUM = 0.95
RMS = 0.2
"""Root mean square of a step of rate 1, as AdamW's steps have it in practice."""
NARROWEST = 32
"""Rows and columns of a matrix at least: narrower ones are tables of numbers, not maps of features."""


class Muon(torch.optim.AdamW):
    """AdamW, but for the matrices of a network, which Muon changes.

    The matrices have a parameter group of their own, the second. As of a fused AdamW no step is made
    while `found_inf` is 1.
    """

    found_inf: Tensor

    def __init__(self, network: nn.Module, rate: Tensor, decay: float) -> None:
        """Prepares to change all parameters of a network.

        Args:
            network: whose; parameters of two dims are its matrices.
            rate: the learning rate, which may be changed in place.
            decay: weight decay.
        """
        others: list[nn.Parameter] = []
        matrices: list[nn.Parameter] = []
        for value in network.parameters():
            is_matrix = value.dim() == 2 and min(value.shape) >= NARROWEST
            (matrices if is_matrix else others).append(value)
        super().__init__(others, lr=rate, weight_decay=decay, fused=True)
        if matrices:
            self.add_param_group({"params": matrices, "lr": rate})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Makes a step."""
        groups = self.param_groups
        self.param_groups = groups[:1]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups[1:]:
            self._turn(group)
        return loss

    def _turn(self, group: dict[str, Any]) -> None:
        """Changes the matrices of a group, those of one shape at once."""
        shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for value in group["params"]:
            if value.grad is not None:
                shapes.setdefault(tuple(value.shape), []).append(value)
        rate = self.param_groups[0]["lr"]
        bad = getattr(self, "found_inf", torch.zeros((), device=rate.device)) > 0
        for shape, values in shapes.items():
            gradients = torch.stack([value.grad for value in values])  # type: ignore[misc]
            before = torch.stack([self._momentum(value) for value in values])
            momentum = before.lerp(gradients, 1 - MOMENTUM)
            steps = orthogonal(gradients.lerp(momentum, MOMENTUM)) * (RMS * max(shape) ** 0.5)
            kept = torch.where(bad, before, momentum)
            for value, step, newest in zip(values, steps, kept, strict=True):
                changed = value * (1 - rate * group["weight_decay"]) - rate * step
                value.copy_(torch.where(bad, value, changed))
                self.state[value]["momentum"].copy_(newest)
                self.state[value]["step"] += torch.where(bad, 0.0, 1.0)

    def _momentum(self, value: Tensor) -> Tensor:
        state = self.state[value]
        if not state:
            state["step"] = torch.zeros((), device=value.device)  # all of AdamW's tell it
            state["momentum"] = torch.zeros_like(value)
        moment: Tensor = state["momentum"]
        return moment


def orthogonal(matrices: Tensor) -> Tensor:
    """Returns matrices `(n, r, c)` with the same singular vectors, and singular values of about 1.

    By Newton and Schulz's iteration: powers of the smaller Gram matrix, which need no decomposition.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    turned: Tensor = x.mT if tall else x
    return turned


OPTIMIZERS: dict[str, Callable[[nn.Module, Tensor, float], torch.optim.AdamW]] = {
    "adamw": lambda network, rate, decay: torch.optim.AdamW(
        network.parameters(), lr=rate, weight_decay=decay, fused=True
    ),
    "muon": Muon,
}
"""Each takes a network, its learning rate and its weight decay; networks of convolutions alone, which have no
matrices, learn by either alike."""
