"""Step: what is done for a city whenever there may be something new, as often as one likes.

Inbox -> archive -> forecast of the next steps -> scores of what has come due -> rollback, drift. Every
part looks for what is not done yet, so that a step that died is made good by the next one.
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
from pipelines.operate.score import BACK, score
from pipelines.promotion.rollback import roll_back

MAX_FORECASTS = 48
"""Slots that are forecast in a step."""


@dataclass(frozen=True)
class Updated:
    """What a step did.

    Attributes:
        files: that were taken in.
        refused: files that were refused.
        slots: that are new or have other values.
        init_time: of the newest forecast that was made, UTC; None where there was nothing new.
        forecaster: that made it.
        scored: leads of forecasts.
        drifted: what is unusual, "" where nothing is.
        rolled_back: that, and why, the champion gave way to the one before; "" where it did not.
        notes: for people.
        failed: why there is no forecast where there should be one, "" where all is well.
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
        store: with all that is known.
        city: that is forecast.
        now: UTC; slots that begin later are not looked at.
        horizon: steps ahead.
        wall: seconds since 1970 by which files of the inbox are whole; None: those of `now`.
        quiet: seconds without a change after which a file is whole.

    Raises:
        StoreError: the store cannot be written; what was done before is kept.
    """
    moment = float(now.astype("datetime64[s]").astype(np.int64)) if wall is None else wall
    taken, notes = _taken(store, city, moment, quiet)
    span = store.flow.span(city, last=now)
    made, forecaster, failed = None, "", ""
    for slot in _due(store, city, span[1]) if span is not None else []:
        try:
            result = forecast(store, city, horizon, at=slot)
        except StoreError:
            raise
        except Exception as error:  # of one slot; it is due again at the next step
            if not isinstance(error, FlowcastError):
                log.fail(repr(error), traceback=True, city=city.name, slot=f"{slot}Z")
            failed = failed or f"no forecast of {slot}Z: {error or repr(error)}"
            continue
        made, forecaster = slot, str(result.attrs["forecaster"])
        notes += [note for note in str(result.attrs["notes"]).splitlines() if note]
    # The newest slot, not the clock, says what is recent: an archive may be played back.
    scored = score(store, city, span[1]) if span is not None else 0
    back = roll_back(store, city, span[1], now) if scored and span is not None else ""
    found = drift(store, city, now) if made is not None else None
    return Updated(
        files=len(taken),
        refused=sum(bool(one.refused) for one in taken),
        slots=sum(one.added.added + one.added.replaced for one in taken),
        init_time=made,
        forecaster=forecaster,
        scored=scored,
        drifted=found.message if found else "",
        rolled_back=back,
        notes=tuple(dict.fromkeys(notes)),
        failed=failed,
    )


def _taken(
    store: Store, city: City, moment: float, quiet: float
) -> tuple[list[Ingested], list[str]]:
    """Returns what became of the files of the inbox, and what people must know of it.

    A file that cannot be put away, or another process that is at it, is no reason not to forecast.
    """
    taken: list[Ingested] = []
    notes = []
    try:
        taken.extend(ingest_pending(store, city, moment, quiet))
    except StoreError:
        raise
    except FlowcastError as error:
        notes.append(str(error))
    return taken, [*(f"refused: {one.refused}" for one in taken if one.refused), *notes]


def _due(store: Store, city: City, newest: np.datetime64) -> list[np.datetime64]:
    """Returns the slots that are to be forecast, oldest first.

    Every slot is, that has come since the city's first forecast: in order, late, many at once, or when
    a forecast of it failed, with what was known at its time, so that none lacks in the scores. Those of
    the last four weeks are, the newest `MAX_FORECASTS` in a step and the others in the next ones. Where
    there is no forecast yet, or another version serves now, it is the newest slot alone.
    """
    last = store.forecasts.newest(city)
    if last is None:
        return [newest]
    if len(lacking := store.forecasts.missing(city, newest - BACK, newest)):
        return [*lacking[-MAX_FORECASTS:]]
    version = store.promotions.champion(city)
    other = version is not None and last.attrs["model_version"] not in ("", version)
    return [newest] if other and last["init_time"].values[0] == newest else []
