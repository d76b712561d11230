"""Trees as an ONNX file: written from what scikit-learn grew, and run without it."""

from typing import Any

import numpy as np

from data.errors import FlowcastError
from forecasting.onnx_export.graph import Graph
from forecasting.profiling.memory import available_cores
from forecasting.rollout.onnx_rollout import session_of

TREES = "ai.onnx.ml:TreeEnsembleRegressor"
TOLERANCE = 1e-4
"""The largest difference from scikit-learn, as a share of the largest output, or of 1."""
TRIALS = 2000
"""Rows that both are compared on."""


class OnnxTrees:
    """The trees of a lead, run by ONNX Runtime.

    Args:
        model: as `write_trees` wrote it.
        threads: to use, by default one for each core that the process may use.

    Raises:
        RuntimeError: it is no ONNX file.
    """

    def __init__(self, model: bytes, threads: int | None = None) -> None:
        self._session = session_of(model, threads or available_cores())

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Returns the sum of all trees `(n,)` for rows `(n, f)`, float32."""
        rows = np.ascontiguousarray(features, dtype=np.float32)
        return np.asarray(self._session.run(None, {"rows": rows})[0])[:, 0]


def write_trees(model: Any) -> bytes:
    """Returns trees as an ONNX file, after running it beside them.

    Args:
        model: a fitted `HistGradientBoostingRegressor` without categorical features.

    Raises:
        FlowcastError: what the file gives is not what the trees give.
    """
    nodes = [tree.nodes for (tree,) in model._predictors]  # nothing public tells of them
    flat = np.concatenate(nodes)
    trees = np.repeat(np.arange(len(nodes)), [len(one) for one in nodes])
    places = np.concatenate([np.arange(len(one)) for one in nodes])
    leaf = flat["is_leaf"].astype(bool)
    limits = _not_above(flat["num_threshold"])
    graph = Graph()
    [output] = graph.add_many(
        1,
        TREES,
        "rows",
        n_targets=1,
        base_values=[float(np.ravel(model._baseline_prediction)[0])],
        nodes_treeids=trees.tolist(),
        nodes_nodeids=places.tolist(),
        nodes_featureids=np.where(leaf, 0, flat["feature_idx"]).tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_values=np.where(leaf, 0, limits).astype(np.float32).tolist(),
        nodes_truenodeids=np.where(leaf, 0, flat["left"]).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, flat["right"]).tolist(),
        nodes_missing_value_tracks_true=(~leaf * flat["missing_go_to_left"]).astype(int).tolist(),
        target_treeids=trees[leaf].tolist(),
        target_nodeids=places[leaf].tolist(),
        target_ids=[0] * int(leaf.sum()),
        target_weights=flat["value"][leaf].astype(np.float32).tolist(),
    )
    count = int(model.n_features_in_)
    written = graph.model({"rows": ("n", count)}, {"sum": (output, ("n", 1))})
    rows = _trials(flat[~leaf], limits[~leaf], count)
    expected = model.predict(rows)
    difference = np.abs(OnnxTrees(written, threads=1).predict(rows) - expected).max()
    if not difference <= TOLERANCE * max(1.0, np.abs(expected).max()):
        raise FlowcastError(f"the export of the trees differs by {difference:.1e} from the trees")
    return written


def _not_above(limits: np.ndarray) -> np.ndarray:
    """Returns the largest float32 that are not above float64 limits: no float32 lies between."""
    near = limits.astype(np.float32)
    return np.where(near > limits, np.nextafter(near, np.float32(-np.inf)), near)


def _trials(splits: np.ndarray, limits: np.ndarray, count: int) -> np.ndarray:
    """Returns rows `(n, count)` whose features lie at the limits of the trees, beyond, or nowhere."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((TRIALS, count), dtype=np.float32)
    for feature in range(count):
        own = limits[(splits["feature_idx"] == feature) & np.isfinite(limits)]
        if len(own):
            rows[:, feature] = rng.choice(own, TRIALS)
    rows[rng.random(rows.shape) < 0.3] *= np.float32(1.01)
    rows[rng.random(rows.shape) < 0.01] = np.nan
    return rows
