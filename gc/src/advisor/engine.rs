//! The model in ONNX Runtime, which is loaded from a path, run on buffers of our own.
//!
//! Called by the worker process, and by [`super::LocalModel`] where a model may run in this one. One thread, no arena, no memory pattern:
//! predictable memory is worth more than the last microsecond.

use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use ort::AsPointer;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{TensorElementType, TensorRef, TensorRefMut};
use parking_lot::Mutex;

use super::protocol::{FEATURES_MAX, ROWS_MAX, fault};

/// Why there is no engine: another model would help, or it would not.
#[derive(Debug)]
pub(crate) enum Trouble {
    Machine(String),
    Model(String),
}

impl From<String> for Trouble {
    fn from(line: String) -> Trouble {
        Trouble::Machine(line)
    }
}

/// A loaded model with its buffers.
pub(crate) struct Engine {
    session: Arc<Session>,
    features: usize,
    /// Output `[N]` instead of `[N, 1]`.
    flat: bool,
    x: Box<[f32]>,
    y: Box<[f32]>,
}

impl Engine {
    /// Loads library and model, and checks the shapes that the runtime sees.
    pub(crate) fn load(library: &Path, model: &[u8]) -> Result<Engine, Trouble> {
        let environment = environment(library).map_err(Trouble::Machine)?;
        let session =
            open_session(&environment, model).map_err(|e| Trouble::Model(format!("it does not load: {e}")))?;
        let (features, flat) = shapes(&session).map_err(Trouble::Model)?;
        Ok(Engine::of(Arc::new(session), features, flat))
    }

    fn of(session: Arc<Session>, features: usize, flat: bool) -> Engine {
        let (x, y) = (vec![0.0; ROWS_MAX * FEATURES_MAX].into(), vec![0.0; ROWS_MAX].into());
        Engine { session, features, flat, x, y }
    }

    /// The same model with buffers of its own, for another thread: runs of one session do not disturb each other.
    pub(crate) fn another(&self) -> Engine {
        Engine::of(Arc::clone(&self.session), self.features, self.flat)
    }

    /// Columns of the model's input.
    pub(crate) fn features(&self) -> usize {
        self.features
    }

    /// Where the next batch is to be copied, row-major, [`Engine::features`] wide.
    pub(crate) fn input(&mut self) -> &mut [f32] {
        &mut self.x
    }

    /// Runs the first `rows` rows of the input. The answer holds `rows` finite values, or a fault.
    pub(crate) fn run(&mut self, rows: usize) -> Result<&mut [f32], u32> {
        if rows == 0 || rows > ROWS_MAX {
            return Err(fault::BAD_BATCH);
        }
        // The runtime has been seen to answer OK without touching the output when memory was short.
        self.y[..rows].fill(f32::NAN);
        self.run_raw(rows).map_err(|_| fault::RUN_FAILED)?;
        let values = &mut self.y[..rows];
        if values.iter().all(|v| v.is_finite()) { Ok(values) } else { Err(fault::NOT_FINITE) }
    }

    fn run_raw(&mut self, rows: usize) -> ort::Result<()> {
        let x = TensorRef::from_array_view(([rows, self.features], &self.x[..rows * self.features]))?;
        let values = &mut self.y[..rows];
        let y = if self.flat {
            TensorRefMut::from_array_view_mut(([rows], values))?
        } else {
            TensorRefMut::from_array_view_mut(([rows, 1], values))?
        };
        let (input_names, output_names) = ([c"x".as_ptr()], [c"y".as_ptr()]);
        let inputs = [x.ptr()];
        let mut outputs = [y.ptr().cast_mut()];
        // SAFETY: names are static strings; one input and one output value, both alive until after
        // the call; the output value views `self.y`, which nobody else borrows.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                ptr::null(),
                input_names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                output_names.as_ptr(),
                output_names.len(),
                outputs.as_mut_ptr(),
            )
        };
        // SAFETY: the status is the one that the call just returned, and is consumed here.
        unsafe { ort::Error::result_from_status(status) }
    }
}

/// The runtime of this process, of which there is one for good: the first library that could be loaded.
fn environment(library: &Path) -> Result<Environment, String> {
    static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);
    let mut loaded = LOADED.lock();
    match &*loaded {
        Some((path, environment)) if path == library => Ok(environment.clone()),
        Some((path, _)) => Err(format!("ONNX Runtime: a process has one, and has loaded {}", path.display())),
        None => {
            let builder = ort::init_from(library).map_err(|e| format!("ONNX Runtime: {e}"))?;
            let environment = builder.with_name("gleanfs").with_telemetry(false).build();
            let environment = environment.map_err(|e| format!("ONNX Runtime: {e}"))?;
            *loaded = Some((library.to_owned(), environment.clone()));
            Ok(environment)
        }
    }
}

fn open_session(environment: &Environment, model: &[u8]) -> ort::Result<Session> {
    let cpu = ort::ep::CPU::default().with_arena_allocator(false).build();
    Session::builder(environment)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_memory_pattern(false)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_execution_providers([cpu])?
        .commit_from_memory(model)
}

/// Columns of `x` and whether `y` is flat.
fn shapes(session: &Session) -> Result<(usize, bool), String> {
    let ([x], [y]) = (session.inputs(), session.outputs()) else {
        return Err("it does not have one input and one output".into());
    };
    let float = |outlet: &ort::value::Outlet| outlet.dtype().tensor_type() == Some(TensorElementType::Float32);
    if x.name() != "x" || y.name() != "y" || !float(x) || !float(y) {
        return Err("its ports are not float \"x\" and float \"y\"".into());
    }
    let shape = |outlet: &ort::value::Outlet| outlet.dtype().tensor_shape().map(|s| s.to_vec());
    let features = match shape(x).as_deref() {
        Some([_, width]) if (1..=FEATURES_MAX as i64).contains(width) => *width as usize,
        other => return Err(format!("its input has shape {other:?}")),
    };
    match shape(y).as_deref() {
        Some([_]) => Ok((features, true)),
        Some([_, 1]) => Ok((features, false)),
        other => Err(format!("its output has shape {other:?}")),
    }
}

/// The version that a loaded library gives itself.
pub(crate) fn library_version(library: &Path) -> Option<String> {
    use std::ffi::{CStr, CString};
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(library.as_os_str().as_bytes()).ok()?;
    // SAFETY: RTLD_NOLOAD only finds what is loaded already and runs no constructor.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return None;
    }
    // SAFETY: the handle is valid; the symbol, if there, has the type that ONNX Runtime's header
    // gives it, and the version is a static string of the library, which stays loaded.
    unsafe {
        let symbol = libc::dlsym(handle, c"OrtGetApiBase".as_ptr());
        if symbol.is_null() {
            return None;
        }
        let base: extern "C" fn() -> *const ort::sys::OrtApiBase = std::mem::transmute(symbol);
        Some(CStr::from_ptr(((*base()).GetVersionString)()).to_string_lossy().into_owned())
    }
}
