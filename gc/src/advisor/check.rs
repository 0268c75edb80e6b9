//! Whether a file may become the model: what can be said before it is run.
//!
//! The second half of the check, a run on a probe set in a process of its own, is in [`super::probe`].
//! The allow-list of operators keeps out loops and anything whose cost or size does not follow from
//! the file's size; data outside the file and nested graphs are refused with them. Every refusal is
//! one line.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::model::{Dim, ELEM_FLOAT, Outline, Port};
use super::protocol::{FEATURES_MAX, ModelKind};

/// Largest model file.
pub const MODEL_BYTES_MAX: usize = 8 << 20;

/// Operator sets that ONNX Runtime 1.28 runs (7 is its oldest, LightGBM's converter declares 8) and that this check was written for.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=25;
const ML_OPSETS: std::ops::RangeInclusive<i64> = 1..=5;
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=13;

const OPERATORS: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gather",
    "Gemm",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "MatMul",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Softplus",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
];
const ML_OPERATORS: &[&str] =
    &["Imputer", "LinearRegressor", "Normalizer", "Scaler", "TreeEnsemble", "TreeEnsembleRegressor"];

/// What the caller knows and wants.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Names of all features that the caller computes, in the order of its rows; at most 64.
    pub known: Vec<String>,
    /// The schema that these features have; a model must declare the same.
    pub schema: String,
    /// The kind of model that is wanted; any if `None`.
    pub kind: Option<ModelKind>,
}

impl Rules {
    pub fn new(known: &[&str], schema: &str, kind: Option<ModelKind>) -> Rules {
        Rules { known: known.iter().map(|&name| name.to_owned()).collect(), schema: schema.to_owned(), kind }
    }
}

/// What is known of a model that passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelCard {
    pub kind: ModelKind,
    /// The features that it reads, in the order of its input's columns.
    pub features: Vec<String>,
    /// Position of each of them in [`Rules::known`].
    #[serde(skip)]
    pub columns: Vec<usize>,
    pub operators: Vec<String>,
    pub bytes: usize,
    pub sha256: String,
}

/// The kind that an ONNX file says it is, if it says so; nothing else of it is checked.
pub fn declared_kind(bytes: &[u8]) -> Option<ModelKind> {
    let bytes = bytes.get(..bytes.len().min(MODEL_BYTES_MAX))?;
    ModelKind::from_name(Outline::read(bytes).ok()?.metadata("gleanfs.kind")?)
}

/// Checks everything that can be checked without running the model.
pub fn check_file(bytes: &[u8], rules: &Rules) -> Result<ModelCard, String> {
    if rules.known.len() > FEATURES_MAX {
        return Err(format!("{} features are more than the {FEATURES_MAX} of a row", rules.known.len()));
    }
    if bytes.len() > MODEL_BYTES_MAX {
        return Err(format!("{} bytes; a model may have {MODEL_BYTES_MAX}", bytes.len()));
    }
    let outline = Outline::read(bytes).map_err(|e| e.to_string())?;
    check_versions(&outline)?;
    check_operators(&outline)?;
    let kind = check_kind(&outline, rules)?;
    let features = check_features(&outline, rules)?;
    check_input(&outline, features.len())?;
    check_output(&outline)?;
    let columns = features.iter().filter_map(|name| rules.known.iter().position(|k| k == name)).collect();
    let operators = outline.operators.into_iter().map(|(_, op)| op).collect();
    let sha256 = crate::runtime::hex(&Sha256::digest(bytes));
    Ok(ModelCard { kind, features, columns, operators, bytes: bytes.len(), sha256 })
}

fn check_versions(outline: &Outline) -> Result<(), String> {
    if !IR_VERSIONS.contains(&outline.ir_version) {
        return Err(format!("IR version {} is not one of {IR_VERSIONS:?}", outline.ir_version));
    }
    if outline.opsets.is_empty() {
        return Err("it declares no operator set".into());
    }
    for (domain, version) in &outline.opsets {
        let allowed = match domain.as_str() {
            "" | "ai.onnx" => OPSETS,
            "ai.onnx.ml" => ML_OPSETS,
            // Exporters declare sets that they do not use; using an operator of one is refused below.
            _ => continue,
        };
        if !allowed.contains(version) {
            return Err(format!("operator set {domain:?} version {version} is not one of {allowed:?}"));
        }
    }
    Ok(())
}

fn check_operators(outline: &Outline) -> Result<(), String> {
    if let Some(extra) = outline.extras.first() {
        return Err(format!("it contains {extra}, which is not allowed"));
    }
    if outline.nodes == 0 {
        return Err("its graph is empty".into());
    }
    for (domain, op) in &outline.operators {
        let list = match domain.as_str() {
            "" | "ai.onnx" => OPERATORS,
            "ai.onnx.ml" => ML_OPERATORS,
            _ => &[],
        };
        if !list.contains(&op.as_str()) {
            let domain = if domain.is_empty() { "ai.onnx" } else { domain };
            return Err(format!("operator {:?} is not allowed", format!("{domain}.{op}")));
        }
    }
    Ok(())
}

/// The one value of a metadata key.
fn declared<'a>(outline: &'a Outline, key: &str) -> Result<&'a str, String> {
    match outline.metadata.iter().filter(|(k, _)| k == key).count() {
        0 => Err(format!("metadata {key:?} is missing")),
        1 => Ok(outline.metadata(key).unwrap_or_default().trim()),
        _ => Err(format!("metadata {key:?} is there twice")),
    }
}

fn check_kind(outline: &Outline, rules: &Rules) -> Result<ModelKind, String> {
    let name = declared(outline, "gleanfs.kind")?;
    let kind = ModelKind::from_name(name)
        .ok_or_else(|| format!("metadata \"gleanfs.kind\" is {name:?}, not \"placement\" or \"victim\""))?;
    match rules.kind {
        Some(wanted) if wanted != kind => Err(format!("it is a {name} model; a {} model is wanted", wanted.name())),
        _ => Ok(kind),
    }
}

fn check_features(outline: &Outline, rules: &Rules) -> Result<Vec<String>, String> {
    let schema = declared(outline, "gleanfs.schema")?;
    if schema != rules.schema {
        return Err(format!("it was made for schema {schema:?}, this program has {:?}", rules.schema));
    }
    let names: Vec<&str> = declared(outline, "gleanfs.features")?.split(',').map(str::trim).collect();
    for (i, name) in names.iter().enumerate() {
        if !rules.known.iter().any(|known| known == name) {
            return Err(format!("unknown feature {name:?}"));
        }
        if names[..i].contains(name) {
            return Err(format!("feature {name:?} is there twice"));
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn check_input(outline: &Outline, features: usize) -> Result<(), String> {
    // Old exporters list the initializers among the inputs.
    let mut real = outline.inputs.iter().filter(|port| !outline.initializers.contains(&port.name));
    let (Some(x), None) = (real.next(), real.next()) else {
        return Err("it does not have exactly one input".into());
    };
    check_port(x, "x", "input")?;
    match x.shape.as_deref() {
        Some([Dim::Free, Dim::Fixed(width)]) if *width == features as i64 => Ok(()),
        Some([Dim::Free, Dim::Fixed(width)]) => {
            Err(format!("input \"x\" has {width} columns, but {features} features are declared"))
        }
        other => Err(format!("input \"x\" has shape {}, not [N, {features}]", shape_text(other))),
    }
}

fn check_output(outline: &Outline) -> Result<(), String> {
    let [y] = outline.outputs.as_slice() else {
        return Err(format!("it has {} outputs, not one", outline.outputs.len()));
    };
    check_port(y, "y", "output")?;
    match y.shape.as_deref() {
        Some([Dim::Free] | [Dim::Free, Dim::Fixed(1)]) => Ok(()),
        other => Err(format!("output \"y\" has shape {}, not [N, 1] or [N]", shape_text(other))),
    }
}

fn check_port(port: &Port, name: &str, what: &str) -> Result<(), String> {
    if port.name != name {
        return Err(format!("its {what} is called {:?}, not {name:?}", port.name));
    }
    if port.elem_type != Some(ELEM_FLOAT) {
        return Err(format!("{what} {name:?} is not of type float"));
    }
    Ok(())
}

fn shape_text(shape: Option<&[Dim]>) -> String {
    let Some(dims) = shape else { return "unknown".into() };
    let dims: Vec<String> = dims
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(n) => n.to_string(),
            Dim::Free => "N".into(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
#[path = "../../tests/support/onnx.rs"]
#[allow(dead_code)]
pub(crate) mod onnx;

#[cfg(test)]
mod tests {
    use super::onnx::{Message, ModelWriter, node};
    use super::*;
    use proptest::prelude::*;

    const KNOWN: [&str; 3] = ["age", "size", "heat"];

    fn rules() -> Rules {
        Rules::new(&KNOWN, "1", Some(ModelKind::Placement))
    }

    fn linear() -> ModelWriter {
        ModelWriter::linear(&["heat", "age"], &[1.0, 2.0], 0.5)
    }

    fn refused(change: impl FnOnce(&mut ModelWriter)) -> String {
        let mut model = linear();
        change(&mut model);
        let line = check_file(&model.bytes(), &rules()).unwrap_err();
        assert!(!line.contains('\n') && line.len() < 200, "{line}");
        line
    }

    #[test]
    fn a_good_model_passes_with_its_columns() {
        let card = check_file(&linear().bytes(), &rules()).unwrap();
        assert_eq!((card.kind, card.columns.as_slice()), (ModelKind::Placement, &[2, 0][..]));
        assert_eq!((card.operators.as_slice(), card.sha256.len()), (&["Gemm".to_owned()][..], 64));
        let mlp = ModelWriter::mlp(&["age"], 2, &[1.0, -1.0], &[1.0, 1.0]).bytes();
        assert!(check_file(&mlp, &rules()).is_ok());
    }

    #[test]
    fn each_defect_is_named() {
        let expectations: Vec<(&str, String)> = vec![
            ("operator set", refused(|m| m.opset = 99)),
            ("a placement model is wanted", refused(|m| m.kind = "victim".into())),
            ("gleanfs.kind", refused(|m| m.kind = "oracle".into())),
            ("schema", refused(|m| m.schema = "2".into())),
            ("unknown feature \"fame\"", refused(|m| m.features[0] = "fame".into())),
            ("twice", refused(|m| m.features[0] = "age".into())),
            ("columns", refused(|m| m.input_width = 7)),
            ("called \"input\"", refused(|m| m.input_name = "input".into())),
            ("ai.onnx.Loop", refused(|m| m.nodes.push(node("Loop", &["y"], "z")))),
            ("com.evil.Gemm", refused(|m| m.nodes.push(node("Gemm", &["y"], "z").text(7, "com.evil")))),
            ("empty", refused(|m| m.nodes.clear())),
            ("functions", refused(|m| m.model_extra = Message::default().bytes(25, b""))),
            ("graph occurs twice", refused(|m| m.model_extra = Message::default().bytes(7, b""))),
            (
                "twice",
                refused(|m| {
                    m.model_extra =
                        Message::default().message(14, Message::default().text(1, "gleanfs.kind").text(2, "victim"));
                }),
            ),
        ];
        for (part, line) in expectations {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
    }

    #[test]
    fn data_outside_and_nested_graphs_are_refused() {
        let external = Message::default().varint(1, 1).varint(2, 1).text(8, "w").varint(14, 1);
        assert!(refused(|m| m.initializers[0] = external).contains("external data"));
        let attribute = Message::default().text(1, "body").message(6, Message::default());
        assert!(refused(|m| m.nodes[0] = m.nodes[0].clone().message(5, attribute)).contains("subgraphs"));
    }

    #[test]
    fn what_is_no_model_is_refused() {
        for bytes in [&b""[..], b"hello, world", &[0u8; 100], &[0xff; 100]] {
            assert!(check_file(bytes, &rules()).unwrap_err().contains("not an ONNX model"));
        }
        assert!(check_file(&vec![0; MODEL_BYTES_MAX + 1], &rules()).unwrap_err().contains("a model may have"));
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
                                    cut in any::<prop::sample::Index>()) {
            let mut bytes = linear().bytes();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = check_file(&bytes, &rules());
            bytes.truncate(cut.index(bytes.len()));
            prop_assert!(check_file(&bytes, &rules()).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(check_file(&bytes, &rules()).is_err());
        }
    }
}
