//! What an ONNX file says about itself, read without running it.
//!
//! Walks ModelProto (onnx.proto3, IR version 3 and later) far enough to know operators, inputs,
//! outputs, metadata and what could reach outside the file. A singular message that occurs twice is
//! refused: protobuf would merge the two, and then the runtime could see another model than we did.

use super::protobuf::{Field, Fields, WireError};

/// ONNX's number for 32-bit floats.
pub(crate) const ELEM_FLOAT: i64 = 1;

/// Outline of a model.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Outline {
    pub ir_version: i64,
    pub opsets: Vec<(String, i64)>,
    pub nodes: usize,
    /// `(domain, operator)` of every node.
    pub operators: Vec<(String, String)>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub initializers: Vec<String>,
    pub metadata: Vec<(String, String)>,
    /// Things in it that a plain feed-forward model does not have.
    pub extras: Vec<&'static str>,
}

/// An input or output of the graph.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Port {
    pub name: String,
    pub elem_type: Option<i64>,
    pub shape: Option<Vec<Dim>>,
}

/// One dimension: a number, or a name that stands for any number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dim {
    Fixed(i64),
    Free,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("not an ONNX model: {0}")]
    Wire(#[from] WireError),
    #[error("not an ONNX model: {0} occurs twice")]
    Twice(&'static str),
    #[error("not an ONNX model: it has no graph")]
    NoGraph,
    #[error("more than {NODES_MAX} operators")]
    TooManyNodes,
}

/// More operators than any model of ours needs.
pub(crate) const NODES_MAX: usize = 1024;

type Read<T> = Result<T, ReadError>;

/// Remembers a singular field, refusing a second one.
fn once<T>(slot: &mut Option<T>, value: T, what: &'static str) -> Read<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ReadError::Twice(what)),
    }
}

impl Outline {
    /// Reads the outline of a ModelProto.
    pub(crate) fn read(model: &[u8]) -> Read<Outline> {
        let mut outline = Outline::default();
        let (mut graph, mut ir) = (None, None);
        for field in Fields::of(model) {
            let field = field?;
            match field.number {
                1 => once(&mut ir, field.int()?, "ir_version")?,
                7 => once(&mut graph, field.bytes()?, "graph")?,
                8 => outline.opsets.push(opset(field.bytes()?)?),
                14 => outline.metadata.push(key_value(field.bytes()?)?),
                20 => outline.extras.push("training information"),
                25 => outline.extras.push("functions"),
                _ => {}
            }
        }
        outline.ir_version = ir.unwrap_or(0);
        outline.read_graph(graph.ok_or(ReadError::NoGraph)?)?;
        Ok(outline)
    }

    /// The value of a metadata key; the first one, as duplicates are refused by the check.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    fn read_graph(&mut self, graph: &[u8]) -> Read<()> {
        for field in Fields::of(graph) {
            let field = field?;
            match field.number {
                1 => self.read_node(field.bytes()?)?,
                5 => {
                    let name = self.read_tensor(field.bytes()?)?;
                    self.initializers.push(name);
                }
                11 => self.inputs.push(Port::read(field.bytes()?)?),
                12 => self.outputs.push(Port::read(field.bytes()?)?),
                15 => self.extras.push("sparse tensors"),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_node(&mut self, node: &[u8]) -> Read<()> {
        let (mut op, mut domain) = (None, None);
        for field in Fields::of(node) {
            let field = field?;
            match field.number {
                4 => once(&mut op, field.text()?.to_owned(), "op_type")?,
                7 => once(&mut domain, field.text()?.to_owned(), "domain")?,
                5 => self.read_attribute(field.bytes()?)?,
                _ => {}
            }
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(ReadError::TooManyNodes);
        }
        let pair = (domain.unwrap_or_default(), op.unwrap_or_default());
        if !self.operators.contains(&pair) {
            self.operators.push(pair);
        }
        Ok(())
    }

    fn read_attribute(&mut self, attribute: &[u8]) -> Read<()> {
        for field in Fields::of(attribute) {
            let field = field?;
            match field.number {
                5 | 10 => {
                    self.read_tensor(field.bytes()?)?;
                }
                6 | 11 => self.extras.push("subgraphs"),
                21 => self.extras.push("attribute references"),
                22 | 23 => self.extras.push("sparse tensors"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks for data outside the file; answers with the tensor's name.
    fn read_tensor(&mut self, tensor: &[u8]) -> Read<String> {
        let mut name = String::new();
        for field in Fields::of(tensor) {
            let field = field?;
            match field.number {
                8 => name = field.text()?.to_owned(),
                13 => self.extras.push("external data"),
                14 if field.int()? != 0 => self.extras.push("external data"),
                _ => {}
            }
        }
        Ok(name)
    }
}

impl Port {
    fn read(value_info: &[u8]) -> Read<Port> {
        let mut port = Port::default();
        let (mut name, mut kind) = (None, None);
        for field in Fields::of(value_info) {
            let field = field?;
            match field.number {
                1 => once(&mut name, field.text()?.to_owned(), "a name")?,
                2 => once(&mut kind, field.bytes()?, "a type")?,
                _ => {}
            }
        }
        port.name = name.unwrap_or_default();
        if let Some(tensor) = singular(kind.unwrap_or_default(), 1, "a tensor type")? {
            port.read_tensor_type(tensor)?;
        }
        Ok(port)
    }

    fn read_tensor_type(&mut self, tensor: &[u8]) -> Read<()> {
        let mut shape = None;
        for field in Fields::of(tensor) {
            let field = field?;
            match field.number {
                1 => once(&mut self.elem_type, field.int()?, "an element type")?,
                2 => once(&mut shape, field.bytes()?, "a shape")?,
                _ => {}
            }
        }
        if let Some(shape) = shape {
            let dims = Fields::of(shape).filter(|f| !matches!(f, Ok(Field { number, .. }) if *number != 1));
            self.shape = Some(dims.map(|field| dim(field?.bytes()?)).collect::<Read<Vec<Dim>>>()?);
        }
        Ok(())
    }
}

fn dim(dimension: &[u8]) -> Read<Dim> {
    let mut value = None;
    for field in Fields::of(dimension) {
        let field = field?;
        match field.number {
            1 => once(&mut value, Dim::Fixed(field.int()?), "a dimension")?,
            2 => once(&mut value, Dim::Free, "a dimension")?,
            _ => {}
        }
    }
    Ok(value.unwrap_or(Dim::Free))
}

/// The message in field `number`, if it is there once.
fn singular<'a>(message: &'a [u8], number: u32, what: &'static str) -> Read<Option<&'a [u8]>> {
    let mut found = None;
    for field in Fields::of(message) {
        let field = field?;
        if field.number == number {
            once(&mut found, field.bytes()?, what)?;
        }
    }
    Ok(found)
}

fn opset(message: &[u8]) -> Read<(String, i64)> {
    let (mut domain, mut version) = (String::new(), 0);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => domain = field.text()?.to_owned(),
            2 => version = field.int()?,
            _ => {}
        }
    }
    Ok((domain, version))
}

fn key_value(message: &[u8]) -> Read<(String, String)> {
    let (mut key, mut value) = (String::new(), String::new());
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => key = field.text()?.to_owned(),
            2 => value = field.text()?.to_owned(),
            _ => {}
        }
    }
    Ok((key, value))
}
