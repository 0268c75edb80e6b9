//! Hostile input: what an attacker can hand to gleanfs, as plain functions of bytes.
//!
//! Each [`Target`] takes any bytes and must come back: no panic, no allocation beyond its bound, no endless loop. The same functions are driven
//! by libFuzzer (`xtests/fuzz`), by a driver without coverage (`--bin fuzz`) and by the replay of the corpora in `tests/corpora.rs`.
//! A whole image is attacked by a script of lies told to a small real one, with its checksums mended, so that what is
//! tried is what only a forger can make. The worker's lies are in the crate of the advisor, which plays them itself.

mod control;
pub mod corpus;
mod exercise;
mod guard;
mod image;
pub mod meter;
mod patch;
mod script;
mod seed;
mod structures;
mod traces;

/// What is attacked.
pub struct Target {
    pub name: &'static str,
    /// Longest input that means anything; for the drivers.
    pub input_bytes_max: usize,
    run: fn(&[u8]),
    /// Most memory that an input of so many bytes may take.
    memory_max: fn(usize) -> usize,
}

/// Every decoder: a multiple of what it is given, and what it takes for itself.
fn of_input(bytes: usize) -> usize {
    64 * bytes + (1 << 20)
}

/// A mount takes its buffers and tables whatever the image holds (`fs/DESIGN.md`, "Memory").
fn of_mount(_: usize) -> usize {
    96 << 20
}

/// A reader of a compressed file takes the window that the file's header asks for.
fn of_window(bytes: usize) -> usize {
    of_input(bytes) + (32 << 20)
}

/// A worker's memory is the shared region, whatever is written there.
fn of_region(_: usize) -> usize {
    16 << 20
}

const BLOCK: usize = 4096;

/// All targets.
pub const TARGETS: [Target; 12] = [
    Target { name: "slot", input_bytes_max: BLOCK, run: structures::slot, memory_max: of_input },
    Target { name: "chunk", input_bytes_max: 4 * BLOCK, run: structures::chunk, memory_max: of_input },
    Target { name: "edits", input_bytes_max: BLOCK, run: structures::edits, memory_max: of_input },
    Target { name: "node", input_bytes_max: BLOCK, run: structures::node, memory_max: of_input },
    Target { name: "page", input_bytes_max: BLOCK, run: structures::page, memory_max: of_input },
    Target { name: "values", input_bytes_max: BLOCK, run: structures::values, memory_max: of_input },
    Target { name: "image", input_bytes_max: 512, run: image::attack, memory_max: of_mount },
    Target { name: "model", input_bytes_max: 2 * BLOCK, run: structures::model, memory_max: of_input },
    Target { name: "worker", input_bytes_max: 512, run: structures::worker, memory_max: of_region },
    Target { name: "control", input_bytes_max: BLOCK, run: control::attack, memory_max: of_input },
    Target { name: "trace", input_bytes_max: BLOCK, run: traces::read, memory_max: of_window },
    Target { name: "telemetry", input_bytes_max: BLOCK, run: traces::telemetry, memory_max: of_region },
];

/// The target of that name.
pub fn by_name(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    /// Inputs that an honest program makes, to begin with.
    pub fn honest(&self) -> Vec<Vec<u8>> {
        seed::honest(self.name)
    }

    /// One that takes more than it may, to show that this is found.
    pub fn greedy() -> Self {
        let run = |_: &[u8]| drop(std::hint::black_box(vec![1u8; 4 << 20]));
        Self { name: "greedy", input_bytes_max: 1, run, memory_max: of_input }
    }

    /// Hands it `input`.
    ///
    /// # Panics
    /// If the input does any harm. Memory is counted only where the program's allocator is [`meter::Meter`], and for all of its threads together.
    pub fn attack(&self, input: &[u8]) {
        let peak = meter::peak_of(|| (self.run)(input));
        let most = (self.memory_max)(input.len());
        assert!(
            peak <= most,
            "{}: {} bytes of input took {peak} bytes of memory, {most} are allowed",
            self.name,
            input.len()
        );
    }
}
