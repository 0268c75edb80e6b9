//! Progress bars on stderr; nothing at all where that is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps (or bytes) that is gone when dropped.
pub struct Bar(ProgressBar);

const PLAIN: &str = "{msg:<34!} {wide_bar} {percent:>3} %";
const BYTES: &str = "{msg:<34!} {wide_bar} {bytes:>10} of {total_bytes:<10}";
const LIVE: &str = "{prefix:<20!} {bar:24} {percent:>3} %  {wide_msg}";

impl Bar {
    /// Counts steps.
    pub fn steps(length: u64, message: &str) -> Self {
        Self::styled(length, PLAIN, |bar| bar.set_message(message.to_owned()))
    }

    /// Counts bytes.
    pub fn bytes(length: u64, message: &str) -> Self {
        Self::styled(length, BYTES, |bar| bar.set_message(message.to_owned()))
    }

    /// Counts steps and has room for numbers that change.
    pub fn live(length: u64, name: &str) -> Self {
        Self::styled(length, LIVE, |bar| bar.set_prefix(name.to_owned()))
    }

    fn styled(length: u64, template: &str, name: impl FnOnce(&ProgressBar)) -> Self {
        let style = ProgressStyle::with_template(template).expect("the templates above are well formed");
        let bar = ProgressBar::new(length).with_style(style.progress_chars("=> "));
        name(&bar);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    pub fn at(&self, position: u64) {
        self.0.set_position(position);
    }

    pub fn length(&self, length: u64) {
        self.0.set_length(length);
    }

    pub fn message(&self, message: String) {
        self.0.set_message(message);
    }

    /// Prints a line on stdout without tearing the bar.
    pub fn line(&self, line: &str) {
        self.0.suspend(|| println!("{line}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
