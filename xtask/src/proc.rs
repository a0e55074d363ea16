//! Child processes: running them to the end, with their output kept, their
//! time limited and their processor time known.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// How often a child with a time limit is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Kernel clock ticks per second in `/proc/*/stat`: the user-space ABI fixes
/// `USER_HZ` at 100 on every architecture this tool runs on (proc(5)).
const USER_HZ: f64 = 100.0;

/// What a finished child left behind.
pub(crate) struct Finished {
    /// How it ended; after a timeout, the death by `SIGKILL`.
    pub(crate) status: ExitStatus,
    /// Standard output, invalid UTF-8 replaced.
    pub(crate) stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub(crate) stderr: String,
    /// Whether the time limit was reached and the child killed.
    pub(crate) timed_out: bool,
    /// Time from start to end.
    pub(crate) wall: Duration,
    /// Processor seconds spent in user mode, with a resolution of 10 ms.
    /// Exact only when no other child of this process ended meanwhile.
    pub(crate) user_seconds: f64,
}

impl Finished {
    /// The exit code in words, for messages.
    pub(crate) fn ended(&self) -> String {
        if self.timed_out {
            return format!("killed after {:.0} s", self.wall.as_secs_f64());
        }
        match self.status.code() {
            Some(code) => format!("exit code {code}"),
            None => format!("{}", self.status),
        }
    }
}

/// The command line as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let plain = !argument.is_empty()
            && argument.chars().all(|c| c.is_ascii_alphanumeric() || "-_=/.,:+@%".contains(c));
        // Writing to a `String` cannot fail.
        let _ = match plain {
            true => write!(text, " {argument}"),
            false => write!(text, " '{argument}'"),
        };
    }
    text
}

/// The last `count` lines of `text` that say something.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A command that gets `SIGTERM` when this process dies, however it dies, where
/// the machine has a tool for that (setpriv(1)).
pub(crate) fn dies_with_us(program: &Path) -> Command {
    match find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Starts `command` and turns "not found" into a message that names it.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            anyhow!("`{}` is not installed", command.get_program().to_string_lossy())
        }
        _ => anyhow!(error).context(format!("cannot start `{}`", line(command))),
    })
}

/// Runs `command` without input and returns its standard output; a failure
/// carries the end of its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let finished = run(command, &[], None)?;
    if !finished.status.success() {
        let said = match finished.stderr.trim().is_empty() {
            true => &finished.stdout,
            false => &finished.stderr,
        };
        bail!("`{}` failed ({}):\n{}", line(command), finished.ended(), tail(said, 12));
    }
    Ok(finished.stdout)
}

/// Runs `command` with `input` on its standard input, keeps both outputs, and
/// kills it when `limit` passes.
///
/// # Errors
///
/// Fails when the program cannot be started or its end cannot be observed; how
/// it ended is for the caller to judge.
pub(crate) fn run(
    command: &mut Command,
    input: &[u8],
    limit: Option<Duration>,
) -> Result<Finished> {
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let before = reaped_user_seconds()?;
    let start = Instant::now();
    let mut child = spawn(command)?;

    let stdout = collect(child.stdout.take(), None);
    let stderr = collect(child.stderr.take(), None);
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_vec();
        // A child that ends without reading its input closes the pipe; that is
        // its own affair and shows in its exit status.
        thread::spawn(move || drop(pipe.write_all(&input)));
    }

    let (status, timed_out) = wait(&mut child, start, limit)?;
    let wall = start.elapsed();
    let user_seconds = reaped_user_seconds()? - before;
    Ok(Finished {
        status,
        stdout: text_of(stdout)?,
        stderr: text_of(stderr)?,
        timed_out,
        wall,
        user_seconds,
    })
}

/// Runs `command` and types `input` once its standard output shows `cue`; its
/// input then stays open until it ends.
///
/// # Errors
///
/// As for [`run`]. A cue that never comes shows in the output and the timeout.
pub(crate) fn converse(
    command: &mut Command,
    cue: &str,
    input: &[u8],
    limit: Duration,
) -> Result<Finished> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = spawn(command)?;
    let mut stdin = child.stdin.take().context("a pipe to the child")?;
    let (seen, cued) = mpsc::channel();
    let stdout = collect(child.stdout.take(), Some((cue.to_owned(), seen)));
    let stderr = collect(child.stderr.take(), None);
    // Fails when the output ends or the time is up without the cue.
    if cued.recv_timeout(limit).is_ok() {
        // As in `run`: a child that is gone shows in its exit status.
        let _ = stdin.write_all(input).and_then(|()| stdin.flush());
    }
    let (status, timed_out) = wait(&mut child, start, Some(limit))?;
    drop(stdin);
    Ok(Finished {
        status,
        stdout: text_of(stdout)?,
        stderr: text_of(stderr)?,
        timed_out,
        wall: start.elapsed(),
        user_seconds: 0.0,
    })
}

/// Waits for `child`, and kills it when `limit` passes after `start`.
pub(crate) fn wait(
    child: &mut Child,
    start: Instant,
    limit: Option<Duration>,
) -> Result<(ExitStatus, bool)> {
    let Some(limit) = limit else {
        return Ok((child.wait().context("cannot wait for a child process")?, false));
    };
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child process")? {
            return Ok((status, false));
        }
        if start.elapsed() >= limit {
            // It may have ended since the check above; then this is no error.
            let _ = child.kill();
            return Ok((child.wait().context("cannot wait for a child process")?, true));
        }
        thread::sleep(POLL);
    }
}

/// Reads `pipe` to its end in the background, and reports once when what was
/// read so far contains the cue.
fn collect(
    pipe: Option<impl Read + Send + 'static>,
    mut cue: Option<(String, mpsc::Sender<()>)>,
) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        if let Some(mut pipe) = pipe {
            // What was read until an error is still worth showing.
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                bytes.extend_from_slice(&chunk[..count]);
                if let Some((wanted, seen)) = &cue {
                    if String::from_utf8_lossy(&bytes).contains(wanted.as_str()) {
                        // Nobody waits any more once the time is up.
                        let _ = seen.send(());
                        cue = None;
                    }
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn text_of(reader: thread::JoinHandle<String>) -> Result<String> {
    reader.join().map_err(|_| anyhow!("reading what a child printed failed"))
}

/// User-mode seconds of every child this process has waited for so far:
/// `cutime`, the 16th field of `/proc/self/stat` (proc(5)).
fn reaped_user_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // The second field is a program name in parentheses and may hold spaces;
    // the third follows the last parenthesis.
    let ticks = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(13))
        .and_then(|field| field.parse::<u64>().ok())
        .context("cannot understand /proc/self/stat")?;
    Ok(ticks as f64 / USER_HZ)
}

/// Where `name` is found on `PATH`.
pub(crate) fn find(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let name = Path::new(name.as_ref());
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_and_the_exit_code_are_kept() {
        let done = run(&mut shell("cat; echo err >&2; exit 7"), b"in\n", None).unwrap();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("in\n", "err\n"));
        assert_eq!(done.status.code(), Some(7));
        assert_eq!(done.ended(), "exit code 7");
    }

    #[test]
    fn a_child_that_does_not_end_is_killed() {
        let limit = Duration::from_millis(50);
        let done = run(Command::new("sleep").arg("60"), &[], Some(limit)).unwrap();
        assert!(done.timed_out && !done.status.success());
        assert!(done.wall < Duration::from_secs(30));
    }

    #[test]
    fn input_is_typed_at_the_cue() {
        let script = "echo ready; read line; echo \"got $line\"";
        let limit = Duration::from_secs(30);
        let done = converse(&mut shell(script), "ready", b"this\n", limit).unwrap();
        assert_eq!(done.stdout, "ready\ngot this\n");
        let done = converse(&mut shell("echo no"), "ready", b"this\n", limit).unwrap();
        assert_eq!((done.stdout.as_str(), done.timed_out), ("no\n", false));
    }

    #[test]
    fn a_failure_carries_what_the_child_said() {
        let error = output(&mut shell("echo why >&2; exit 1")).unwrap_err().to_string();
        assert!(error.contains("why") && error.contains("exit code 1"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("/no/such/program")).unwrap_err().to_string();
        assert_eq!(error, "`/no/such/program` is not installed");
    }

    #[test]
    fn the_tail_skips_empty_lines() {
        assert_eq!(tail("a\n\nb\nc\n\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }

    #[test]
    fn a_command_line_is_quoted_where_needed() {
        let mut command = Command::new("x");
        command.args(["-a", "b c", ""]);
        assert_eq!(line(&command), "x -a 'b c' ''");
    }
}
