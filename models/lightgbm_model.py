"""Gradient-boosted trees with LightGBM, for placement or for victims: `python lightgbm_model.py rows.csv.gz`."""

import lightgbm
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

import samples


def fit(x, y, seed):
    model = lightgbm.LGBMRegressor(
        n_estimators=100,
        learning_rate=0.1,
        num_leaves=31,
        min_child_samples=200,
        random_state=seed,
        deterministic=True,
        force_row_wise=True,
        n_jobs=1,
        verbose=-1,
    )
    return model.fit(x, y)


def to_onnx(model, features):
    return convert_lightgbm(model, initial_types=[("x", FloatTensorType([None, features]))], target_opset=15)


samples.run("lightgbm", fit, to_onnx)
