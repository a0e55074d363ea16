//! What is shown while something takes time: a moving line on a terminal, one
//! plain line per step anywhere else.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One step that takes time. It ends with [`Step::done`]; dropped before that
/// (an error is on its way up), its line is removed.
pub(crate) struct Step {
    bar: ProgressBar,
    what: String,
    start: Instant,
}

impl Step {
    /// Shows that `what` has begun, for as long as the value lives.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = if stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.set_style(style("{spinner} {msg} [{elapsed}]"));
            bar.set_message(what.clone());
            bar
        } else {
            eprintln!("  {what} ...");
            ProgressBar::hidden()
        };
        Self { bar, what, start: Instant::now() }
    }

    /// Shows `done` of `total` bytes.
    pub(crate) fn bytes(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
            self.bar.set_style(style("{spinner} {msg} {bar:24} {bytes}/{total_bytes} [{elapsed}]"));
        }
        self.bar.set_position(done.min(total));
    }

    /// Adds what is going on just now; shown on terminals only.
    pub(crate) fn detail(&self, text: &str) {
        self.bar.set_message(format!("{}: {text}", self.what));
    }

    /// Ends the step with a line that stays.
    pub(crate) fn done(self, result: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        eprintln!("  {}: {result} ({seconds:.1} s)", self.what);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants above; a wrong one falls back to the default.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
