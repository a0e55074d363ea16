//! What is shown while something takes time: a moving line on a terminal, plain
//! lines anywhere else.

use std::io::{BufRead as _, BufReader, IsTerminal, Read, stderr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::proc::{self, Finished};

/// Where there is no moving line, a sign of life comes this often.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Whether nothing is shown.
static HIDDEN: AtomicBool = AtomicBool::new(false);

/// Shows nothing from now on.
pub(crate) fn hide() {
    HIDDEN.store(true, Ordering::Relaxed);
}

/// One line that stays.
fn line(text: &str) {
    if !HIDDEN.load(Ordering::Relaxed) {
        eprintln!("  {text}");
    }
}

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
        let bar = if stderr().is_terminal() && !HIDDEN.load(Ordering::Relaxed) {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.set_style(style("{spinner} {wide_msg} [{elapsed}]"));
            bar.set_message(what.clone());
            bar
        } else {
            line(&format!("{what} ..."));
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
        self.bar.set_message(format!("{}: {}", self.what, text.trim()));
    }

    /// Runs `command` to its end, keeps what it prints and shows its latest line.
    ///
    /// # Errors
    ///
    /// Fails when it cannot be started; how it ended is for the caller to judge.
    pub(crate) fn follow(&self, command: &mut Command) -> Result<Finished> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = proc::spawn(command)?;
        let (sender, lines) = channel();
        let stdout = forward(child.stdout.take(), false, sender.clone());
        let stderr = forward(child.stderr.take(), true, sender);
        let (stdout_text, stderr_text) = self.show(&lines);
        for reader in [stdout, stderr] {
            // It only reads and sends; should it panic, its lines end early.
            let _ = reader.join();
        }
        let status = child.wait().context("cannot wait for a child process")?;
        Ok(Finished {
            status,
            stdout: stdout_text,
            stderr: stderr_text,
            timed_out: false,
            wall: start.elapsed(),
            user_seconds: 0.0,
        })
    }

    fn show(&self, lines: &Receiver<(bool, String)>) -> (String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut latest = String::new();
        let mut alive = Instant::now();
        loop {
            match lines.recv_timeout(Duration::from_secs(1)) {
                Ok((is_error, line)) => {
                    let text = if is_error { &mut stderr } else { &mut stdout };
                    text.push_str(&line);
                    // JSON is for programs to read.
                    if !line.trim().is_empty() && !line.starts_with('{') {
                        self.detail(&line);
                        latest = line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return (stdout, stderr),
            }
            if self.bar.is_hidden() && alive.elapsed() >= HEARTBEAT {
                alive = Instant::now();
                let seconds = self.start.elapsed().as_secs();
                line(&format!("{} ... {seconds} s, at: {}", self.what, latest.trim()));
            }
        }
    }

    /// Ends the step with a line that stays.
    pub(crate) fn done(self, result: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        line(&format!("{}: {result} ({seconds:.1} s)", self.what));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Sends each line of `pipe`, with its end, until the pipe closes.
fn forward(
    pipe: Option<impl Read + Send + 'static>,
    is_error: bool,
    sender: Sender<(bool, String)>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let Some(pipe) = pipe else { return };
        let mut reader = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&bytes).into_owned();
            if sender.send((is_error, line)).is_err() {
                return;
            }
            bytes.clear();
        }
    })
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants above; a wrong one falls back to the default.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followed_output_is_complete_and_apart() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo a; echo b >&2; printf c; exit 3"]);
        let done = Step::new("test").follow(&mut command).unwrap();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("a\nc", "b\n"));
        assert_eq!(done.status.code(), Some(3));
    }
}
