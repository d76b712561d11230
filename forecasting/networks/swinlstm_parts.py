"""Gates of a SwinLSTM cell: the paper's single one, and those of an LSTM that it replaces."""

from torch import Tensor, nn

GATES: dict[str, tuple[int, int, int]] = {
    "fused": (0, 0, 0),
    "separate": (0, 1, 2),
    "input+forget": (0, 0, 1),
    "forget+output": (0, 1, 1),
    "input+output": (0, 1, 0),
}
"""For each name, which gate serves as the input, the forget and the output gate: equal numbers share."""


class Gates(nn.Module):
    """Input, forget and output gate, some of them one and the same.

    A single gate is the sigmoid of the features (SwinLSTM, arXiv 2308.09891, section 3.2), without
    parameters; where there are several, each is the sigmoid of a linear map of its own.
    """

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.roles = GATES[kind]
        distinct = len(set(self.roles))
        self.projections = nn.ModuleList(
            nn.Identity() if distinct == 1 else nn.Linear(width, width) for _ in range(distinct)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns input, forget and output gate, each `(b, n, d)` in (0, 1)."""
        gates = [project(features).sigmoid() for project in self.projections]
        into, forget, out = self.roles
        return gates[into], gates[forget], gates[out]
