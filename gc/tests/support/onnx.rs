//! A writer of small ONNX models for tests: nodes, float tensors, and deliberately wrong parts.

/// A protobuf message under construction.
#[derive(Default, Clone)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn varint(mut self, field: u32, value: u64) -> Message {
        self.raw_varint(u64::from(field) << 3);
        self.raw_varint(value);
        self
    }

    pub fn bytes(mut self, field: u32, value: &[u8]) -> Message {
        self.raw_varint(u64::from(field) << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub fn text(self, field: u32, value: &str) -> Message {
        self.bytes(field, value.as_bytes())
    }

    pub fn message(self, field: u32, value: Message) -> Message {
        self.bytes(field, &value.0)
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A model: `x` float `[N, features]` -> `y` float `[N, 1]`.
#[derive(Clone)]
pub struct ModelWriter {
    pub opset: u64,
    pub kind: String,
    pub schema: String,
    pub features: Vec<String>,
    pub input_width: u64,
    pub input_name: String,
    pub nodes: Vec<Message>,
    pub initializers: Vec<Message>,
    pub model_extra: Message,
}

pub fn tensor(name: &str, dims: &[u64], values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let message = dims.iter().fold(Message::default(), |m, &d| m.varint(1, d));
    message.varint(2, 1).text(8, name).bytes(9, &raw)
}

pub fn node(op: &str, inputs: &[&str], output: &str) -> Message {
    let message = inputs.iter().fold(Message::default(), |m, input| m.text(1, input));
    message.text(2, output).text(4, op)
}

fn port(name: &str, width: u64) -> Message {
    let shape =
        Message::default().message(1, Message::default().text(2, "N")).message(1, Message::default().varint(1, width));
    let tensor_type = Message::default().varint(1, 1).message(2, shape);
    Message::default().text(1, name).message(2, Message::default().message(1, tensor_type))
}

impl ModelWriter {
    /// A graph without nodes over these features.
    pub fn new(features: &[&str]) -> ModelWriter {
        ModelWriter {
            opset: 17,
            kind: "placement".into(),
            schema: "1".into(),
            features: features.iter().map(|f| (*f).into()).collect(),
            input_width: features.len() as u64,
            input_name: "x".into(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            model_extra: Message::default(),
        }
    }

    /// y = x · weights + bias.
    pub fn linear(features: &[&str], weights: &[f32], bias: f32) -> ModelWriter {
        let mut model = ModelWriter::new(features);
        model.initializers = vec![tensor("w", &[weights.len() as u64, 1], weights), tensor("b", &[1], &[bias])];
        model.nodes = vec![node("Gemm", &["x", "w", "b"], "y")];
        model
    }

    /// y = relu(x · first) · second, with `hidden` units and row-major matrices.
    pub fn mlp(features: &[&str], hidden: usize, first: &[f32], second: &[f32]) -> ModelWriter {
        let mut model = ModelWriter::new(features);
        let width = features.len() as u64;
        model.initializers =
            vec![tensor("w1", &[width, hidden as u64], first), tensor("w2", &[hidden as u64, 1], second)];
        model.nodes =
            vec![node("MatMul", &["x", "w1"], "h"), node("Relu", &["h"], "r"), node("MatMul", &["r", "w2"], "y")];
        model
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut graph = self.nodes.iter().cloned().fold(Message::default(), |m, n| m.message(1, n));
        graph = graph.text(2, "test");
        graph = self.initializers.iter().cloned().fold(graph, |m, t| m.message(5, t));
        graph = graph.message(11, port(&self.input_name, self.input_width)).message(12, port("y", 1));
        let pair = |key: &str, value: &str| Message::default().text(1, key).text(2, value);
        let mut model = Message::default()
            .varint(1, 8)
            .message(7, graph)
            .message(8, Message::default().text(1, "").varint(2, self.opset))
            .message(14, pair("gleanfs.kind", &self.kind))
            .message(14, pair("gleanfs.schema", &self.schema))
            .message(14, pair("gleanfs.features", &self.features.join(",")));
        model.0.extend_from_slice(&self.model_extra.0);
        model.0
    }
}
