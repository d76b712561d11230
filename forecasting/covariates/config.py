"""Which covariates a forecast sees."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

MANY = 10_000
"""Windows to train on from which on all parts pay."""


@dataclass(frozen=True)
class CovariatesConfig:
    """What a network sees.

    What it sees of last week is in the expected flow already, where last week counts most; shown by
    itself it made forecasts of cities with few weeks worse, so it is to be switched on.

    Attributes:
        anomaly: its frames are differences from the expected flow, not the flow itself.
        expected: the expected flow of the step that is forecast, and how much it grows to it.
        last_week: how the same slot a week before differed from that, unless that was a holiday.
        yesterday: how the same slot of the day before differed from what was expected of it; of more
            days before where the horizon is longer than a day.
        hour: the time of day.
        holiday: whether the day, the one before and the one after are holidays, or worked weekends.
        weather: the newest known, where there is any.
        place: features of every cell that are learnt.
    """

    anomaly: bool = True
    expected: bool = True
    last_week: bool = True
    yesterday: bool = True
    hour: bool = True
    holiday: bool = True
    weather: bool = True
    place: bool = True

    @classmethod
    def without(cls, *names: str) -> Self:
        """Returns all but some parts.

        Raises:
            ValueError: there is no such part.
        """
        return cls().changed(without=names)

    @classmethod
    def for_windows(cls, windows: int) -> Self:
        """Returns the parts that pay with a number of windows to train on.

        Last week is in the expected flow already, in which it counts most, and the weather is the same
        for all cells: a city with few weeks would learn both by heart.
        """
        return cls(last_week=windows >= MANY, weather=windows >= MANY)

    def changed(self, *, without: Sequence[str] = (), also: Sequence[str] = ()) -> Self:
        """Returns these parts without some and with others.

        Raises:
            ValueError: there is no such part.
        """
        for name in (*without, *also):
            if name not in PARTS:
                raise ValueError(f"there is no covariate {name!r}; there is {', '.join(PARTS)}")
        return replace(self, **{**dict.fromkeys(without, False), **dict.fromkeys(also, True)})

    @property
    def maps(self) -> int:
        """Channels of the maps that a step sees, without those of its frame."""
        return 2 * sum((self.expected, self.last_week, self.yesterday, self.growth))

    @property
    def growth(self) -> bool:
        """Whether the last two channels of the maps tell by what part the expected flow grows."""
        return self.expected and self.anomaly

    @property
    def raw_flow(self) -> bool:
        """Whether nothing is seen but frames of the flow itself."""
        return not any(getattr(self, name) for name in PARTS)

    @property
    def needs_expected(self) -> bool:
        """Whether the expected flow is asked for."""
        return self.anomaly or self.maps > 0


PARTS = tuple(field.name for field in fields(CovariatesConfig))

RAW_FLOW = CovariatesConfig.without(*PARTS)
"""Frames of the flow itself and nothing else, as the papers' networks see them."""
