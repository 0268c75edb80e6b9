"""What the examples share: reading samples, leaving some out, judging, and writing a model that gleanfs takes.

Samples come from `gleanfs model samples`; the contract of a model is in README.md beside this file.
"""

import argparse
import csv
import gzip
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from scipy.stats import spearmanr

SCHEMA = "1"
# The last columns of a file; all before them are features.
BESIDE = ["label", "censored", "volume", "clock"]
# Victim features that a mount knows as the simulator does; README.md says what is the matter with the others.
VICTIM_READS = ["utilization", "age", "idle", "class"]
ROWS_TRIED = 1000


@dataclass
class Samples:
    """A table of samples, or some of its rows."""

    names: list
    x: np.ndarray
    y: np.ndarray
    volume: np.ndarray
    clock: np.ndarray

    @property
    def kind(self):
        return "victim" if "utilization" in self.names else "placement"

    def column(self, name):
        return self.x[:, self.names.index(name)]

    def rows(self, which):
        return Samples(self.names, self.x[which], self.y[which], self.volume[which], self.clock[which])

    def reading(self, names):
        """The same rows, of which a model reads these features alone."""
        return self.x[:, [self.names.index(name) for name in names]]


def read(path):
    """Reads what `gleanfs model samples` wrote."""
    opened = gzip.open(path, "rt", newline="") if str(path).endswith(".gz") else open(path, newline="")
    with opened as file:
        table = csv.reader(file)
        header = next(table)
        if header[-len(BESIDE) :] != BESIDE:
            sys.exit(f"{path}: not a table of samples: its last columns are not {', '.join(BESIDE)}")
        width, numbers, volumes = len(header) - len(BESIDE), [], []
        for row in table:
            volumes.append(row[width + 2])
            numbers.append(row[: width + 2] + row[width + 3 :])
    if not numbers:
        sys.exit(f"{path}: it has no rows")
    numbers = np.array(numbers, dtype=np.float64)
    x, y, clock = numbers[:, :width].astype(np.float32), numbers[:, width], numbers[:, width + 2]
    return Samples(header[:width], x, y, np.array(volumes), clock)


def split(samples, left_out, share):
    """What is fitted to; what came later on the same volumes, the last `share` of each one's rows; and all of the volumes left out."""
    names = list(dict.fromkeys(samples.volume))
    unknown = [name for name in left_out if name not in names]
    if unknown or len(left_out) == len(names):
        sys.exit(f"--leave-out {','.join(left_out)}: there are the volumes {', '.join(names)}, and one must be left to fit to")
    other = np.isin(samples.volume, left_out)
    late = np.zeros(len(samples.y), dtype=bool)
    for name in names:
        of_volume = samples.volume == name
        late |= of_volume & (samples.clock >= np.quantile(samples.clock[of_volume], 1 - share))
    return samples.rows(~other & ~late), samples.rows(~other & late), samples.rows(other)


def rule(samples):
    """The fixed rule's answer: for placement of the label's unit, for victims only in its order."""
    if samples.kind == "placement":
        return "rule_lifetime", samples.column("rule_lifetime")
    utilization = np.clip(samples.column("utilization"), 1e-3, 1 - 1e-3)
    return "cost-age (order)", np.log2((1 - utilization) / utilization) + samples.column("age") / 2


def judge(title, samples, answers):
    """Prints how far answers are from the labels, and how well they order the rows."""
    print(f"\n{title}: {len(samples.y)} rows\n{'':24}{'RMSE':>8}{'rank correlation':>20}")
    for name, answer in answers.items():
        rmse = f"{np.sqrt(np.mean((answer - samples.y) ** 2)):8.3f}" if "order" not in name else f"{'-':>8}"
        varies = len(samples.y) > 1 and np.ptp(answer) > 0
        print(f"{name:24}{rmse}" + (f"{spearmanr(answer, samples.y).statistic:20.3f}" if varies else f"{'-':>20}"))


def run(tool, fit, to_onnx):
    """A whole script. `fit(x, y, seed)` gives something with `predict(x)`; `to_onnx(model, features)` an ONNX model of it with an input `x`."""
    parser = argparse.ArgumentParser(description=f"Fits a model of gleanfs with {tool}, judges it by what it was not fitted to, writes it as ONNX.")
    parser.add_argument("samples", help="table from `gleanfs model samples`, of either kind")
    parser.add_argument("--out", help="ONNX file to write [default: TOOL-KIND.onnx here]")
    parser.add_argument("--leave-out", metavar="VOLUMES", help="volumes to judge by alone, separated by commas [default: the last]")
    parser.add_argument("--late", type=float, default=0.25, help="share of each volume's rows, the last, to judge by alone [default: 0.25]")
    parser.add_argument("--features", help="features to read, separated by commas [default: all; of victims what a mount knows well]")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if not Path(given.samples).is_file():
        parser.error(f"{given.samples}: there is no such file")
    if given.out and not Path(given.out).parent.is_dir():
        parser.error(f"--out {given.out}: there is no such folder")
    if not 0 < given.late < 1:
        parser.error("--late: a share between 0 and 1")

    samples = read(given.samples)
    volumes = list(dict.fromkeys(samples.volume))
    left_out = given.leave_out.split(",") if given.leave_out else volumes[-1:] if len(volumes) > 1 else []
    fitted, late, other = split(samples, left_out, given.late)
    names = given.features.split(",") if given.features else VICTIM_READS if samples.kind == "victim" else samples.names
    unknown = [name for name in names if name not in samples.names]
    if unknown:
        sys.exit(f"--features: {given.samples} has no {', '.join(unknown)}")

    print(f"fitting a {samples.kind} model to {len(fitted.y)} rows, {len(names)} features")
    model = fit(fitted.reading(names), fitted.y, given.seed)
    dealt = np.random.default_rng(given.seed).permutation(fitted.y)
    shuffled = fit(fitted.reading(names), dealt, given.seed)
    for title, part in [("later on the same volumes", late), (f"volumes left out ({', '.join(left_out)})", other)]:
        if len(part.y):
            x = part.reading(names)
            by_rule, rule_answer = rule(part)
            constant = np.full(len(part.y), fitted.y.mean())
            judge(title, part, {tool: model.predict(x), by_rule: rule_answer, "constant": constant, "shuffled labels": shuffled.predict(x)})

    out = given.out or f"{tool}-{samples.kind}.onnx"
    write(to_onnx(model, len(names)), samples.kind, names, Path(out))
    check(out, model, late.reading(names)[:ROWS_TRIED])
    advise(out, samples.kind)


def write(model, kind, names, path):
    """Gives a model the names and the metadata that the contract asks for."""
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["y" if name == output else name for name in node.output]
        node.input[:] = ["y" if name == output else name for name in node.input]
    model.graph.output[0].name = "y"
    # Converters make up a new name each time; the same fit is to give the same bytes.
    model.graph.name = path.stem
    del model.metadata_props[:]
    properties = {"kind": kind, "features": ",".join(names), "schema": SCHEMA, "name": path.stem}
    onnx.helper.set_model_props(model, {f"gleanfs.{key}": value for key, value in properties.items()})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def check(path, model, x):
    """The file must answer as the model does that it was made of."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    y = session.run(["y"], {"x": np.ascontiguousarray(x)})[0]
    if y.shape != (len(x), 1):
        sys.exit(f"{path}: y has the shape {y.shape}")
    # A row that lies on a tree's threshold may fall on either side of it in single precision.
    off = np.abs(y[:, 0] - model.predict(x)) > 1e-3
    print(f"\n{path}: {Path(path).stat().st_size} bytes; of {len(x)} rows {off.sum()} are answered otherwise by ONNX Runtime")
    if off.mean() > 0.01:
        sys.exit(f"{path}: it is not the model that was fitted")


def advise(path, kind):
    option, policies = {
        "placement": ("--model", "cost-age-class/ewma,cost-age-class/learned,cost-age-class/shuffled-rows,cost-age-class/constant"),
        "victim": ("--victim-model", "cost-age/ewma,cost-age-class/ewma,learned/ewma"),
    }[kind]
    print(f"""
try it:
  gleanfs model check {path}
  gleanfs sim --load files,zipf:1 --seeds 2,3 {option} {path} --policy {policies}
  gleanfs model use MOUNT_POINT {path}""")
