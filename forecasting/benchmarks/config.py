"""What the configurations of all datasets hold."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class DatasetConfig:
    """What every dataset's configuration holds.

    Attributes:
        history: frames that a network sees.
        horizon: frames that it forecasts.
        train: the most windows of an epoch.
        validation: the most windows to choose the epoch on.
        test: the most windows to test on.
    """

    history: int = 4
    horizon: int = 4
    train: int = 1_000_000
    validation: int = 2_000
    test: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("history", "horizon", "train", "validation", "test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is less than 1")

    @classmethod
    def quick(cls) -> Self:
        """Returns a size that two cores train on within minutes."""
        return cls(train=800, validation=100, test=200)

    @classmethod
    def paper(cls) -> Self:
        """Returns the published size."""
        return cls()
