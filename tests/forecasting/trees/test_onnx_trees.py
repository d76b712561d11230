"""Trees by ONNX Runtime: what scikit-learn says, at the limits of the splits too."""

import numpy as np
import pytest

from forecasting.trees.onnx_trees import OnnxTrees, write_trees

pytest.importorskip("sklearn")
from sklearn.ensemble import HistGradientBoostingRegressor

FAR = 1000


def grown(
    features: np.ndarray, target: np.ndarray, **settings: object
) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(early_stopping=False, **settings).fit(features, target)


def test_the_file_gives_what_the_trees_give() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3000, 5)).astype(np.float32)
    target = 30 + 9 * features[:, 0] * (features[:, 1] > 0.3) - np.abs(features[:, 4])
    model = grown(features, target, max_iter=60, max_leaf_nodes=31)
    other = rng.normal(size=(20_000, 5)).astype(np.float32) * 2
    found = OnnxTrees(write_trees(model)).predict(other)
    np.testing.assert_allclose(found, model.predict(other), rtol=1e-5, atol=1e-4)


def test_a_stump_by_hand() -> None:
    # Half of the rows lie at 1 with 2 vehicles, half at 3 with 8: one split between, rate 1.
    features = np.repeat(np.array([[1.0], [3.0]], dtype=np.float32), 50, axis=0)
    target = np.repeat([2.0, 8.0], 50)
    model = grown(features, target, max_iter=1, learning_rate=1.0)
    rows = np.array([[-FAR], [1.999], [2.001], [FAR]], dtype=np.float32)
    np.testing.assert_allclose(OnnxTrees(write_trees(model)).predict(rows), [2, 2, 8, 8], atol=1e-5)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_row_at_the_limit_of_a_split_goes_where_it_goes_in_the_trees(side: int) -> None:
    """Limits are float64 and lie midway between two float32 that follow each other."""
    low = np.float32(1 / 3)
    high = np.nextafter(low, np.float32(side * np.inf))
    features = np.repeat(np.array([[low], [high]], dtype=np.float32), 50, axis=0)
    model = grown(features, np.repeat([0.0, 1.0], 50), max_iter=1, learning_rate=1.0)
    np.testing.assert_allclose(
        OnnxTrees(write_trees(model)).predict(features), model.predict(features), atol=1e-6
    )


def test_what_is_missing_goes_where_it_goes_in_the_trees() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2000, 3)).astype(np.float32)
    features[rng.random(features.shape) < 0.2] = np.nan
    target = np.where(np.isnan(features[:, 0]), 7.0, features[:, 0]) + np.isnan(features[:, 2])
    model = grown(features, target, max_iter=40)
    found = OnnxTrees(write_trees(model)).predict(features)
    np.testing.assert_allclose(found, model.predict(features), rtol=1e-5, atol=1e-4)


def test_what_is_no_file_of_trees_is_refused() -> None:
    with pytest.raises(RuntimeError, match="cannot be opened"):
        OnnxTrees(b"no file")
