"""Covariates of a version as arrays and as JSON, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from forecasting.covariates.climatology import Climatology
from forecasting.covariates.config import CovariatesConfig
from forecasting.covariates.covariates import Covariates
from forecasting.covariates.expected import Expected
from forecasting.registry.manifest import Manifest


def covariate_tensors(covariates: Covariates) -> dict[str, np.ndarray]:
    """Returns the arrays of a city's covariates by name, for the file of weights."""
    climatology = covariates.expected.climatology
    arrays = {
        "context.scale": covariates.scale,
        "context.usual": climatology.mean,
        "context.count": climatology.count,
    }
    return {name: np.ascontiguousarray(value) for name, value in arrays.items()}


def covariate_fields(covariates: Covariates) -> dict[str, Any]:
    """Returns a city's covariates without their arrays, for JSON."""
    return {
        "config": asdict(covariates.config),
        "shift": covariates.expected.shift,
        "typical": covariates.typical,
        "weather": covariates.weather,
        "horizon": covariates.horizon,
    }


def covariates_of(manifest: Manifest, tensors: Mapping[str, np.ndarray]) -> Covariates:
    """Returns the covariates of a version from its manifest and its arrays."""
    climatology = Climatology(
        tensors["context.usual"], tensors["context.count"], manifest.timezone, manifest.step
    )
    fields = manifest.context
    return Covariates(
        CovariatesConfig(**fields["config"]),
        Expected(climatology, int(fields["shift"])),
        tensors["context.scale"],
        float(fields["typical"]),
        tuple((str(name), float(mean), float(sd)) for name, mean, sd in fields["weather"]),
        int(fields.get("horizon", 1)),
    )
