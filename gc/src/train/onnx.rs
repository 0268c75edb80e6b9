//! Networks as ONNX models: opset 17, a chain of Gemm and Relu, any number of rows.
//!
//! Field numbers are those of `onnx.proto3` (ONNX 1.12, IR version 8). The contract of names, shapes and metadata is in
//! `models/README.md`.

use super::mlp::{Dense, Mlp, WIDTH_MAX};
use super::protobuf::{Field, Message, fields};
use crate::features::{KindSchema, SCHEMA, select};

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    Placement,
    Victim,
}

impl ModelKind {
    /// The value of `gleanfs.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placement => "placement",
            Self::Victim => "victim",
        }
    }
}

/// What a model says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    pub kind: ModelKind,
    /// Names of the features that it wants, in the order of its input's columns.
    pub features: Vec<String>,
    pub name: String,
}

impl ModelInfo {
    /// Which columns of a kind's rows its features are.
    pub(super) fn columns(&self, kind: &KindSchema) -> Result<Vec<usize>, ModelError> {
        select(kind, self.features.iter().map(String::as_str))
            .map_err(|_| ModelError::Unsupported("it wants a feature that there is not"))
    }
}

/// A model that is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("model: not an ONNX file")]
    NotOnnx,
    #[error("model: {0}")]
    Unsupported(&'static str),
}

/// Which row of a batch gets which answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOrder {
    Kept,
    /// The first row gets the last one's answer and so on: for control experiments.
    Reversed,
}

const FLOAT: u64 = 1;
const INT64: u64 = 7;
const IR_VERSION: u64 = 8;
const OPSET: u64 = 17;
const ML_OPSET: u64 = 3;

impl Mlp {
    /// The network as an ONNX model. The same network gives the same bytes.
    ///
    /// # Panics
    /// If there are not as many features as inputs.
    pub fn to_onnx(&self, info: &ModelInfo) -> Vec<u8> {
        assert_eq!(info.features.len(), self.inputs(), "one feature per input");
        encode(self, info, RowOrder::Kept)
    }

    /// Reads a model of the shape that [`Mlp::to_onnx`] writes.
    pub fn from_onnx(bytes: &[u8]) -> Result<(Self, ModelInfo), ModelError> {
        let model = fields(bytes).ok_or(ModelError::NotOnnx)?;
        let info = read_info(&model)?;
        let graph = model.iter().find_map(|f| message(f, 7)).ok_or(ModelError::NotOnnx)?;
        let mlp = read_graph(&fields(graph).ok_or(ModelError::NotOnnx)?)?;
        if mlp.inputs() != info.features.len() {
            return Err(ModelError::Unsupported("its input is not as wide as its list of features"));
        }
        Ok((mlp, info))
    }
}

pub(super) fn encode(mlp: &Mlp, info: &ModelInfo, rows: RowOrder) -> Vec<u8> {
    model(info, graph(mlp, info, rows), Operators::Standard)
}

/// Which operators a model uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operators {
    Standard,
    /// Those of `ai.onnx.ml` too.
    WithTrees,
}

/// A whole model around a graph.
pub(super) fn model(info: &ModelInfo, graph: Message, operators: Operators) -> Vec<u8> {
    let property = |key: &str, value: &str| Message::default().text(1, key).text(2, value);
    let opset = |domain: &str, version: u64| Message::default().text(1, domain).int(2, version);
    let mut model =
        Message::default().int(1, IR_VERSION).text(2, "gleanfs").message(7, graph).message(8, opset("", OPSET));
    if operators == Operators::WithTrees {
        model = model.message(8, opset("ai.onnx.ml", ML_OPSET));
    }
    model
        .message(14, property("gleanfs.kind", info.kind.as_str()))
        .message(14, property("gleanfs.features", &info.features.join(",")))
        .message(14, property("gleanfs.schema", &SCHEMA.to_string()))
        .message(14, property("gleanfs.name", &info.name))
        .0
}

fn graph(mlp: &Mlp, info: &ModelInfo, rows: RowOrder) -> Message {
    let mut graph = Message::default();
    let mut value = "x".to_owned();
    for n in 0..mlp.layers.len() {
        let last = n + 1 == mlp.layers.len();
        let sum = if last && rows == RowOrder::Kept { "y".to_owned() } else { format!("s{n}") };
        graph = graph.message(1, node("Gemm", &[&value, &format!("w{n}"), &format!("b{n}")], &sum));
        if !last {
            value = format!("h{n}");
            graph = graph.message(1, node("Relu", &[&sum], &value));
        } else if rows == RowOrder::Reversed {
            graph = graph.message(1, node("Slice", &[&sum, "starts", "ends", "axes", "steps"], "y"));
        }
    }
    graph = graph.text(2, &info.name);
    for (n, layer) in mlp.layers.iter().enumerate() {
        graph = graph
            .message(5, tensor(&format!("w{n}"), &[layer.inputs, layer.outputs], &layer.weights))
            .message(5, tensor(&format!("b{n}"), &[layer.outputs], &layer.bias));
    }
    if rows == RowOrder::Reversed {
        for (name, value) in [("starts", -1), ("ends", i64::MIN), ("axes", 0), ("steps", -1)] {
            graph = graph.message(5, scalar(name, value));
        }
    }
    graph.message(11, matrix("x", mlp.inputs())).message(12, matrix("y", 1))
}

pub(super) fn node(op: &str, inputs: &[&str], output: &str) -> Message {
    let node = inputs.iter().fold(Message::default(), |m, input| m.text(1, input));
    node.text(2, output).text(3, &format!("make_{output}")).text(4, op)
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = dims.iter().fold(Message::default(), |m, &d| m.int(1, d as u64));
    tensor.int(2, FLOAT).text(8, name).bytes(9, &raw)
}

/// A vector of one integer.
fn scalar(name: &str, value: i64) -> Message {
    Message::default().int(1, 1).int(2, INT64).text(8, name).bytes(9, &value.to_le_bytes())
}

/// A float matrix of any number of rows.
pub(super) fn matrix(name: &str, columns: usize) -> Message {
    let rows = Message::default().text(2, "rows");
    let columns = Message::default().int(1, columns as u64);
    let shape = Message::default().message(1, rows).message(1, columns);
    let kind = Message::default().int(1, FLOAT).message(2, shape);
    Message::default().text(1, name).message(2, Message::default().message(1, kind))
}

fn message<'a>(field: &(u32, Field<'a>), number: u32) -> Option<&'a [u8]> {
    match *field {
        (n, Field::Bytes(b)) if n == number => Some(b),
        _ => None,
    }
}

fn text(field: &(u32, Field<'_>), number: u32) -> Option<String> {
    message(field, number).and_then(|b| String::from_utf8(b.to_vec()).ok())
}

fn read_info(model: &[(u32, Field<'_>)]) -> Result<ModelInfo, ModelError> {
    let property = |key: &str| {
        model.iter().filter_map(|f| message(f, 14)).filter_map(fields).find_map(|entry| {
            let named = entry.iter().any(|f| text(f, 1).as_deref() == Some(key));
            if named { entry.iter().find_map(|f| text(f, 2)) } else { None }
        })
    };
    let kind = match property("gleanfs.kind").as_deref() {
        Some("placement") => ModelKind::Placement,
        Some("victim") => ModelKind::Victim,
        _ => return Err(ModelError::Unsupported("gleanfs.kind is neither placement nor victim")),
    };
    if property("gleanfs.schema") != Some(SCHEMA.to_string()) {
        return Err(ModelError::Unsupported("gleanfs.schema is not 1"));
    }
    let features = property("gleanfs.features").ok_or(ModelError::Unsupported("gleanfs.features is missing"))?;
    let features = features.split(',').map(|f| f.trim().to_owned()).collect();
    let name = property("gleanfs.name").ok_or(ModelError::Unsupported("gleanfs.name is missing"))?;
    Ok(ModelInfo { kind, features, name })
}

struct Tensor {
    name: String,
    dims: Vec<usize>,
    values: Vec<f32>,
}

fn read_tensor(bytes: &[u8]) -> Option<Tensor> {
    let all = fields(bytes)?;
    let dims = all.iter().filter_map(|f| match *f {
        (1, Field::Int(d)) => usize::try_from(d).ok(),
        _ => None,
    });
    let raw = all.iter().find_map(|f| message(f, 9))?;
    let values = raw.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    Some(Tensor { name: all.iter().find_map(|f| text(f, 8))?, dims: dims.collect(), values })
}

/// Follows the chain of Gemm and Relu from the first node to the last.
fn read_graph(graph: &[(u32, Field<'_>)]) -> Result<Mlp, ModelError> {
    let tensors: Vec<Tensor> = graph.iter().filter_map(|f| message(f, 5)).filter_map(read_tensor).collect();
    let tensor = |name: Option<String>| tensors.iter().find(|t| Some(&t.name) == name.as_ref());
    let odd = ModelError::Unsupported("not a chain of Gemm and Relu");
    let (mut layers, mut value, mut relu) = (Vec::<Dense>::new(), "x".to_owned(), true);
    for node in graph.iter().filter_map(|f| message(f, 1)) {
        let node = fields(node).ok_or(ModelError::NotOnnx)?;
        let inputs: Vec<String> = node.iter().filter_map(|f| text(f, 1)).collect();
        let op = node.iter().find_map(|f| text(f, 4)).unwrap_or_default();
        let plain = node.iter().all(|f| f.0 != 5) && inputs.first() == Some(&value);
        match op.as_str() {
            "Gemm" if plain && relu => {
                let (w, b) = (tensor(inputs.get(1).cloned()), tensor(inputs.get(2).cloned()));
                layers.push(dense(w, b, layers.last()).ok_or(odd.clone())?);
                relu = false;
            }
            "Relu" if plain && !relu => relu = true,
            _ => return Err(odd),
        }
        value = node.iter().find_map(|f| text(f, 2)).unwrap_or_default();
    }
    let whole = !relu && value == "y" && layers.last().is_some_and(|l| l.outputs == 1);
    if whole { Ok(Mlp { layers }) } else { Err(odd) }
}

/// A layer of its two tensors, if they fit each other and the layer before.
fn dense(weights: Option<&Tensor>, bias: Option<&Tensor>, before: Option<&Dense>) -> Option<Dense> {
    let (w, b) = (weights?, bias?);
    let &[inputs, outputs] = w.dims.as_slice() else { return None };
    let sizes = 1..=WIDTH_MAX;
    let fits = sizes.contains(&inputs)
        && sizes.contains(&outputs)
        && w.values.len() == inputs * outputs
        && b.values.len() == outputs
        && before.is_none_or(|l| l.outputs == inputs);
    fits.then(|| Dense { inputs, outputs, weights: w.values.clone(), bias: b.values.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Rng;

    fn info(features: &[&str]) -> ModelInfo {
        let features = features.iter().map(|f| (*f).to_owned()).collect();
        ModelInfo { kind: ModelKind::Victim, features, name: "test".to_owned() }
    }

    #[test]
    fn a_network_survives_a_round_trip() {
        let mlp = Mlp::random(&[2, 5, 3, 1], &mut Rng::new(1));
        let bytes = mlp.to_onnx(&info(&["utilization", "age"]));
        assert_eq!(Mlp::from_onnx(&bytes), Ok((mlp, info(&["utilization", "age"]))));
    }

    #[test]
    fn damage_is_refused_and_never_panics() {
        let mlp = Mlp::random(&[2, 3, 1], &mut Rng::new(2));
        let bytes = mlp.to_onnx(&info(&["utilization", "age"]));
        for cut in 0..bytes.len() {
            assert!(Mlp::from_onnx(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x55;
            let _ = Mlp::from_onnx(&bad);
        }
        let wide = encode(&mlp, &info(&["utilization"]), RowOrder::Kept);
        assert!(matches!(Mlp::from_onnx(&wide), Err(ModelError::Unsupported(_))));
    }
}
