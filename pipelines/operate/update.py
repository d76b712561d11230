"""Update: all that is due for a city, as often as one likes.

Inbox -> archive -> forecast of the next steps -> scores of what is observed since -> rollback, drift. Every
part does what is not done yet, so that the next update completes one that died.
"""

from dataclasses import dataclass

import numpy as np

from data.city import City
from data.errors import FlowcastError, StoreError
from data.store.store import Store
from pipelines import log
from pipelines.forecast.live import forecast
from pipelines.ingest.files import Ingested
from pipelines.ingest.inbox import QUIET_SECONDS, ingest_pending
from pipelines.operate.drift import drift
from pipelines.operate.score import LOOKBACK, score
from pipelines.promotion.rollback import roll_back

MAX_FORECASTS = 48
"""Forecasts of an update."""


@dataclass(frozen=True)
class Updated:
    """What an update did.

    Attributes:
        files: that were ingested.
        refused: files that were rejected.
        slots: that are new or have other values.
        init_time: of the newest forecast, UTC; None where no slot is new.
        forecaster: that made it.
        scored: leads of forecasts.
        drifted: the drift that was found, "" for none.
        rolled_back: which version is champion again, and why; "" for no rollback.
        notes: for people.
        failed: why a forecast is missing, "" where none is.
    """

    files: int
    refused: int
    slots: int
    init_time: np.datetime64 | None
    forecaster: str
    scored: int
    drifted: str
    rolled_back: str
    notes: tuple[str, ...] = ()
    failed: str = ""


def update(
    store: Store,
    city: City,
    now: np.datetime64,
    *,
    horizon: int = 4,
    wall: float | None = None,
    quiet: float = QUIET_SECONDS,
) -> Updated:
    """Does for a city what is due.

    Args:
        store: of the city.
        city: that is forecast.
        now: UTC; slots that begin later are left.
        horizon: steps ahead.
        wall: seconds since 1970 by which files of the inbox are complete; None: those of `now`.
        quiet: seconds without a change after which a file is complete.

    Raises:
        StoreError: the store cannot be written; what was done before is kept.
    """
    moment = float(now.astype("datetime64[s]").astype(np.int64)) if wall is None else wall
    ingested, notes = _ingest(store, city, moment, quiet)
    span = store.flow.span(city, last=now)
    made, forecaster, failed = None, "", ""
    for slot in _due(store, city, span[1]) if span is not None else []:
        try:
            result = forecast(store, city, horizon, at=slot)
        except StoreError:
            raise
        except Exception as error:  # of one slot, which the next update forecasts
            if not isinstance(error, FlowcastError):
                log.fail(repr(error), traceback=True, city=city.name, slot=f"{slot}Z")
            failed = failed or f"no forecast of {slot}Z: {error or repr(error)}"
            continue
        made, forecaster = slot, str(result.attrs["forecaster"])
        notes += [note for note in str(result.attrs["notes"]).splitlines() if note]
    # The newest slot, not the clock, says what is recent: an archive may be replayed.
    scored = score(store, city, span[1]) if span is not None else 0
    back = roll_back(store, city, span[1], now) if scored and span is not None else ""
    found = drift(store, city, now) if made is not None else None
    return Updated(
        files=len(ingested),
        refused=sum(bool(one.refused) for one in ingested),
        slots=sum(one.added.added + one.added.replaced for one in ingested),
        init_time=made,
        forecaster=forecaster,
        scored=scored,
        drifted=found.message if found else "",
        rolled_back=back,
        notes=tuple(dict.fromkeys(notes)),
        failed=failed,
    )


def _ingest(
    store: Store, city: City, moment: float, quiet: float
) -> tuple[list[Ingested], list[str]]:
    """Returns the files that were ingested, and notes for people.

    A file that cannot be moved, or another process that ingests, is no reason not to forecast.
    """
    ingested: list[Ingested] = []
    notes = []
    try:
        ingested.extend(ingest_pending(store, city, moment, quiet))
    except StoreError:
        raise
    except FlowcastError as error:
        notes.append(str(error))
    return ingested, [*(f"rejected: {one.refused}" for one in ingested if one.refused), *notes]


def _due(store: Store, city: City, newest: np.datetime64) -> list[np.datetime64]:
    """Returns the slots to forecast, oldest first.

    Since the city's first forecast each slot is forecast, from what was known at its time: late, many at
    once, or after a failure, so that none is missing in the scores. Those of the last four weeks are, the
    newest `MAX_FORECASTS` now and the others in the next updates. Without a forecast, or where another
    version is champion since, it is the newest slot alone.
    """
    last = store.forecasts.newest(city)
    if last is None:
        return [newest]
    if len(missing := store.forecasts.missing(city, newest - LOOKBACK, newest)):
        return [*missing[-MAX_FORECASTS:]]
    version = store.promotions.champion(city)
    other = version is not None and last.attrs["model_version"] not in ("", version)
    return [newest] if other and last["init_time"].values[0] == newest else []
