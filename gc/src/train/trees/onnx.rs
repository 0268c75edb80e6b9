//! Trees as ONNX models: one TreeEnsembleRegressor of `ai.onnx.ml`, version 3 (onnx/docs/Operators-ml.md).

use super::super::onnx::{ModelInfo, ModelKind, Operators, matrix, model, node};
use super::super::protobuf::Message;
use super::{Split, Trees};
use crate::features::PLACEMENT;

/// Types of an AttributeProto.
const INT: u64 = 2;
const STRING: u64 = 3;
const FLOATS: u64 = 6;
const INTS: u64 = 7;
const STRINGS: u64 = 8;

impl Trees {
    /// The trees as an ONNX model of placement that reads only what some split asks for.
    pub fn to_onnx(&self, name: &str) -> Vec<u8> {
        let mut columns: Vec<u16> = self.splits().map(|split| split.feature).collect();
        columns.sort_unstable();
        columns.dedup();
        if columns.is_empty() {
            // A model reads something; what a constant reads does not matter.
            columns.push(0);
        }
        let features = columns.iter().map(|&f| PLACEMENT[usize::from(f)].name.to_owned()).collect();
        let info = ModelInfo { kind: ModelKind::Placement, features, name: name.to_owned() };
        let graph = Message::default()
            .message(1, self.ensemble(&columns))
            .text(2, name)
            .message(11, matrix("x", columns.len()))
            .message(12, matrix("y", 1));
        model(&info, graph, Operators::WithTrees)
    }

    fn splits(&self) -> impl Iterator<Item = &Split> {
        self.trees.iter().flatten().filter_map(|node| node.split.as_ref())
    }

    fn ensemble(&self, columns: &[u16]) -> Message {
        let mut nodes = Nodes::default();
        // Without a tree there is nothing that a runtime would take: one leaf that says nothing.
        let silent = [vec![super::Node { split: None, value: 0.0 }]];
        let trees = if self.trees.is_empty() { &silent[..] } else { &self.trees[..] };
        for (tree, its) in trees.iter().enumerate() {
            for (at, node) in its.iter().enumerate() {
                nodes.add(tree as i64, at as i64, node, columns);
            }
        }
        node("TreeEnsembleRegressor", &["x"], "y")
            .text(7, "ai.onnx.ml")
            .message(5, attribute("n_targets", INT).int(3, 1))
            .message(5, attribute("aggregate_function", STRING).text(4, "SUM"))
            .message(5, attribute("post_transform", STRING).text(4, "NONE"))
            .message(5, floats("base_values", &[self.base]))
            .message(5, ints("nodes_treeids", &nodes.trees))
            .message(5, ints("nodes_nodeids", &nodes.numbers))
            .message(5, ints("nodes_featureids", &nodes.features))
            .message(5, nodes.modes.iter().fold(attribute("nodes_modes", STRINGS), |m, mode| m.text(9, mode)))
            .message(5, floats("nodes_values", &nodes.thresholds))
            .message(5, ints("nodes_truenodeids", &nodes.first))
            .message(5, ints("nodes_falsenodeids", &nodes.second))
            .message(5, ints("target_treeids", &nodes.leaf_trees))
            .message(5, ints("target_nodeids", &nodes.leaf_numbers))
            .message(5, ints("target_ids", &vec![0; nodes.leaf_values.len()]))
            .message(5, floats("target_weights", &nodes.leaf_values))
    }
}

/// The attributes of the operator, one entry per node or per leaf.
#[derive(Default)]
struct Nodes {
    trees: Vec<i64>,
    numbers: Vec<i64>,
    features: Vec<i64>,
    modes: Vec<&'static str>,
    thresholds: Vec<f32>,
    first: Vec<i64>,
    second: Vec<i64>,
    leaf_trees: Vec<i64>,
    leaf_numbers: Vec<i64>,
    leaf_values: Vec<f32>,
}

impl Nodes {
    fn add(&mut self, tree: i64, number: i64, node: &super::Node, columns: &[u16]) {
        self.trees.push(tree);
        self.numbers.push(number);
        let inner = node.split.as_ref();
        let column = |feature| columns.binary_search(&feature).map_or(0, |at| at as i64);
        self.features.push(inner.map_or(0, |split| column(split.feature)));
        self.modes.push(if inner.is_some() { "BRANCH_LEQ" } else { "LEAF" });
        self.thresholds.push(inner.map_or(0.0, |split| split.threshold));
        self.first.push(inner.map_or(0, |split| split.children[0].into()));
        self.second.push(inner.map_or(0, |split| split.children[1].into()));
        if inner.is_none() {
            self.leaf_trees.push(tree);
            self.leaf_numbers.push(number);
            self.leaf_values.push(node.value);
        }
    }
}

fn attribute(name: &str, kind: u64) -> Message {
    Message::default().text(1, name).int(20, kind)
}

fn floats(name: &str, values: &[f32]) -> Message {
    let packed: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    attribute(name, FLOATS).bytes(7, &packed)
}

fn ints(name: &str, values: &[i64]) -> Message {
    let packed = values.iter().fold(Message::default(), |m, &v| m.plain(v as u64));
    attribute(name, INTS).message(8, packed)
}
