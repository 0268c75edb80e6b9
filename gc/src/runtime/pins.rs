//! The one version of ONNX Runtime that this program was tested with, pinned by hash.
//!
//! 1.28.0 on purpose: the official Linux builds from 1.29.0 on contain telemetry, which starts a
//! thread and writes files below the user's cache folder as soon as an environment is created.

/// Version of the pinned library.
pub const VERSION: &str = "1.28.0";

/// One official Python wheel.
#[derive(Debug)]
pub(super) struct Pin {
    pub arch: &'static str,
    /// `--platform` tags under which `pip` finds the wheel.
    pub platforms: [&'static str; 2],
    pub sha256: &'static str,
    /// Size of the wheel, for the progress bar.
    pub bytes: u64,
}

const PINS: [Pin; 2] = [
    Pin {
        arch: "x86_64",
        platforms: ["manylinux_2_27_x86_64", "manylinux_2_28_x86_64"],
        sha256: "a166b78ee04f3a37fa1ef82034b6a3ce96d9684e582d4d30b296de83e9998bb5",
        bytes: 19_193_162,
    },
    Pin {
        arch: "aarch64",
        platforms: ["manylinux_2_27_aarch64", "manylinux_2_28_aarch64"],
        sha256: "8d66f9ceb29909c70839e4e4fb3435c7b490050d8f162bd5f3aba4ca01ee517f",
        bytes: 17_000_000,
    },
];

/// The wheel for the machine that this program was built for.
pub(super) fn for_this_machine() -> Option<&'static Pin> {
    PINS.iter().find(|pin| pin.arch == std::env::consts::ARCH)
}
