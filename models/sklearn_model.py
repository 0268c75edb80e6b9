"""A small network with scikit-learn, for placement or for victims: `python sklearn_model.py rows.csv.gz`."""

from skl2onnx import to_onnx as convert
from skl2onnx.common.data_types import FloatTensorType
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import samples


def fit(x, y, seed):
    network = MLPRegressor(
        hidden_layer_sizes=(32, 16),
        batch_size=256,
        max_iter=30,
        early_stopping=True,
        n_iter_no_change=5,
        random_state=seed,
    )
    return make_pipeline(StandardScaler(), network).fit(x, y)


def to_onnx(model, features):
    return convert(model, initial_types=[("x", FloatTensorType([None, features]))], target_opset=17)


samples.run("sklearn", fit, to_onnx)
