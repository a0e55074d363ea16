//! Counting the instructions of a whole machine, exactly.
//!
//! QEMU with `-icount` counts every instruction of every hart. Its virtual clock
//! is that count plus the time it skips while all harts wait, so the clock says
//! nothing here; the count itself is what `query-replay` answers (QEMU,
//! qapi/replay.json: "current number of executed instructions"), also outside of
//! record and replay. `-no-shutdown` keeps a machine that has switched itself
//! off at the instruction that did it, until it has been asked.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::summary::number;
use crate::proc;

/// One instruction is one nanosecond of the machine's clock, and waiting takes no time.
pub(super) const METHOD: &str = "shift=0,sleep=off";

/// What a machine that ran to its end left behind.
pub(super) struct Counted {
    /// Instructions executed by all harts since it was switched on.
    pub(super) instructions: u64,
    /// What came out of its serial port.
    pub(super) console: String,
}

/// Starts the machine of `command`, QEMU's command line up to the devices for
/// input and output, and counts until it switches itself off. `file` is where
/// the console's output goes on its way, and `seed` what the machine draws its
/// random numbers from, among them what a kernel decides its addresses by.
///
/// # Errors
///
/// Fails when it does not do so within `limit`.
pub(super) fn run(
    command: &mut Command,
    seed: u32,
    file: &Path,
    limit: Duration,
) -> Result<Counted> {
    let mut serial = std::ffi::OsString::from("file:");
    serial.push(file);
    command.args(["-icount", METHOD, "-seed", &seed.to_string()]);
    command.args(["-no-shutdown", "-monitor", "none", "-qmp", "stdio"]);
    command.arg("-serial").arg(serial);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let end = Instant::now() + limit;
    let mut child = proc::spawn(command)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let stderr = child.stderr.take().map(read);
    let counted = match (stdin, stdout) {
        (Some(stdin), Some(stdout)) => Monitor { stdin, lines: lines(stdout), end }.count(),
        _ => Err(anyhow!("no pipes to QEMU")),
    };
    if counted.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
    }
    child.wait().context("cannot wait for QEMU")?;
    let console = fs::read(file).unwrap_or_default();
    let console = String::from_utf8_lossy(&console).into_owned();
    match counted {
        Ok(instructions) => Ok(Counted { instructions, console }),
        Err(error) => {
            let words = stderr.and_then(|reader| reader.join().ok()).unwrap_or_default();
            let said = format!("{}\n{}", proc::tail(&console, 8), proc::tail(&words, 8));
            Err(error.context(format!("`{}`:\n{said}", proc::line(command))))
        }
    }
}

/// QEMU's monitor for programs (docs/interop/qmp-spec.rst).
struct Monitor<W> {
    stdin: W,
    lines: Receiver<String>,
    end: Instant,
}

impl<W: Write> Monitor<W> {
    /// Waits for the machine's end, and asks how many instructions it took.
    fn count(&mut self) -> Result<u64> {
        self.until("\"QMP\"")?;
        self.execute("qmp_capabilities")?;
        // After its end the machine stands still; a stop without an end has other reasons.
        let event = self.until("\"event\": \"S")?;
        if !event.contains("\"SHUTDOWN\"") || !event.contains("\"guest\": true") {
            bail!("the machine stopped before its end: {}", event.trim());
        }
        self.until("\"event\": \"STOP\"")?;
        let answer = self.execute("query-replay")?;
        let count = number(&answer, "icount").with_context(|| format!("no count in: {answer}"))?;
        self.execute("quit")?;
        Ok(count)
    }

    fn execute(&mut self, command: &str) -> Result<String> {
        writeln!(self.stdin, "{{\"execute\": \"{command}\"}}")
            .and_then(|()| self.stdin.flush())
            .context("QEMU's monitor takes no commands")?;
        self.until("\"return\"")
    }

    /// The next line with this in it.
    fn until(&mut self, what: &str) -> Result<String> {
        loop {
            let left = self.end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).map_err(|_| {
                anyhow!("QEMU's monitor did not say {what} before QEMU ended or its time was up")
            })?;
            if line.contains("\"error\"") {
                bail!("QEMU's monitor: {}", line.trim());
            }
            if line.contains(what) {
                return Ok(line);
            }
        }
    }
}

/// Lines as they come, until the pipe closes.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            match line.map(|line| sender.send(line)) {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
    });
    lines
}

fn read(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(lines: &[&str]) -> (Result<u64>, String) {
        let (sender, receiver) = channel();
        lines.iter().for_each(|line| sender.send(line.to_string()).unwrap());
        drop(sender);
        let end = Instant::now() + Duration::from_secs(30);
        let mut monitor = Monitor { stdin: Vec::new(), lines: receiver, end };
        let count = monitor.count();
        (count, String::from_utf8(monitor.stdin).unwrap())
    }

    #[test]
    fn the_count_is_asked_for_at_the_end() {
        let (count, said) = conversation(&[
            r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#,
            r#"{"return": {}}"#,
            r#"{"timestamp": {}, "event": "RTC_CHANGE"}"#,
            r#"{"timestamp": {}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "x"}}"#,
            r#"{"timestamp": {}, "event": "STOP"}"#,
            r#"{"return": {"icount": 1084554550, "mode": "none"}}"#,
            r#"{"return": {}}"#,
        ]);
        assert_eq!(count.unwrap(), 1_084_554_550);
        assert!(
            said.ends_with("{\"execute\": \"query-replay\"}\n{\"execute\": \"quit\"}\n"),
            "{said}"
        );
    }

    #[test]
    fn a_machine_that_does_not_end_has_no_count() {
        let greeting = [r#"{"QMP": {}}"#, r#"{"return": {}}"#];
        let stop = r#"{"event": "STOP"}"#;
        let killed = r#"{"event": "SHUTDOWN", "data": {"guest": false}}"#;
        for rest in [&[][..], &[stop], &[killed, stop], &[r#"{"error": {"class": "x"}}"#]] {
            assert!(conversation(&[&greeting[..], rest].concat()).0.is_err(), "{rest:?}");
        }
    }
}
