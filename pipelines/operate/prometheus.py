"""Metrics for Prometheus: a text file that node_exporter's textfile collector reads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from data.city import City
from data.files import atomic_write
from data.store.store import Store
from forecasting.metrics import rmse
from pipelines.operate.doctor import STATUS, check_health

DAY = np.timedelta64(1, "D")


def write_metrics(path: Path, store: Store, cities: Sequence[City], now: np.datetime64) -> None:
    """Writes the health checks, and the errors of the last day's forecasts, by lead.

    Raises:
        FlowcastError: the disk is full, or the folder may not be written.
    """
    registry = CollectorRegistry()
    status = Gauge(
        "flowcast_status", "0 ok, 1 warning, 2 failure", ["name", "city"], registry=registry
    )
    value = Gauge(
        "flowcast_value",
        "figure behind a status, in the unit of its label",
        ["name", "city", "unit"],
        registry=registry,
    )
    errors = Gauge(
        "flowcast_rmse_vehicles",
        "RMSE of the forecasts of the last day that are scored",
        ["city", "forecaster", "lead"],
        registry=registry,
    )
    time = Gauge(
        "flowcast_time_seconds", "when this file was written, seconds since 1970", registry=registry
    )
    for check in check_health(store, cities, now):
        status.labels(check.name, check.city).set(STATUS[check.status])
        if check.value is not None:
            value.labels(check.name, check.city, check.unit).set(check.value)
    for city in cities:
        scores = store.scores.sums(city, now - DAY, now)
        sums = scores.groupby(["forecaster", "lead"])[["squared", "count"]].sum().reset_index()
        for name, lead, squared, count in sums.itertuples(index=False):
            errors.labels(city.name, name, lead).set(rmse(squared, count))
    time.set(int(now.astype("datetime64[s]").astype(np.int64)))
    with atomic_write(path) as temporary:
        write_to_textfile(str(temporary), registry)
