//! How a command fails: one line for people and an exit status for scripts.

use std::fmt;

/// Result of a command.
pub type Result<T> = std::result::Result<T, Failure>;

/// One line (what was wrong, where, what to do) and the exit status that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    pub status: u8,
}

impl Failure {
    /// A failure with the common exit status 1. Line breaks in `message` are folded: it stays one line.
    pub fn new(message: impl fmt::Display) -> Self {
        Self::with_status(message, 1)
    }

    /// A failure with the exit status that the helper convention at hand asks for.
    pub fn with_status(message: impl fmt::Display, status: u8) -> Self {
        let message = message.to_string();
        let message = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        Self { message, status }
    }

    /// The same message with another exit status.
    pub fn status(self, status: u8) -> Self {
        Self { status, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        Self::new(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

/// Names the thing that an error is about.
pub trait About<T> {
    /// `Err` becomes "`what`: error".
    fn about(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> About<T> for std::result::Result<T, E> {
    fn about(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(format_args!("{what}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(Failure::new("first\n  second\n\n").message, "first; second");
    }

    #[test]
    fn about_names_the_thing_and_keeps_the_cause() {
        let failed: std::result::Result<(), &str> = Err("no such file");
        assert_eq!(failed.about("/dev/x").unwrap_err(), Failure::new("/dev/x: no such file"));
    }
}
