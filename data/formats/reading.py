"""What a reader of flow returns: the flow, and what was repaired in it."""

from dataclasses import dataclass, field

import numpy as np
import xarray as xr

REPAIRS = {
    "negative": "negative values set to 0",
    "not_finite": "slots with NaN, infinite or impossible values left out",
    "skipped_hour": "slots at local times that clocks skipped left out",
    "repeated_hour": "slots at local times that clocks showed twice told apart by their order",
    "unsorted": "slots that stood before an earlier one sorted",
    "duplicates_equal": "slots that stood more than once with the same values kept once",
    "duplicates_merged": "slots that stood more than once with different values merged",
    "empty_kept": "slots without a single vehicle kept",
    "empty_dropped": "slots without a single vehicle left out",
}


@dataclass(frozen=True)
class Reading:
    """What a file says of a city.

    Attributes:
        flow: the checked flow, at least one slot of it.
        series: "observed", or "expected" where the file says that it holds the expected flow.
        repairs: how often each of `REPAIRS` was needed, where it was.
        doubtful: second time of slots that clocks showed twice, by the first one, which they have in
            `flow`, where nothing in the file tells which of the two it is.
    """

    flow: xr.DataArray
    series: str
    repairs: dict[str, int]
    doubtful: dict[np.datetime64, np.datetime64] = field(default_factory=dict)
