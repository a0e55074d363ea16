//! A script in parts: what each printed, and how it ended.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::{Machine, last_messages};
use crate::assets::initrd::Extra;
use crate::assets::{store, write_whole};
use crate::proc;

/// Something to run in the machine.
pub(crate) struct Part {
    /// A shell script. It has no input, and its two outputs are kept apart.
    pub(crate) script: String,
    /// It is ended after this many seconds.
    pub(crate) limit: u64,
}

/// What a part left behind.
#[derive(Debug, PartialEq)]
pub(crate) struct Done {
    /// As a shell has it: for what was ended by a signal, 128 and the signal's number.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// By the machine's clock, in seconds.
    pub(crate) seconds: f64,
    /// Whether it was ended at its limit.
    pub(crate) timed_out: bool,
}

/// What came of the parts.
pub(crate) struct Run {
    /// Seconds of the machine's clock that its boot took.
    pub(crate) boot: f64,
    /// The parts that ended, in order.
    pub(crate) done: Vec<Done>,
    /// How the machine ended, and its last words, for those that did not.
    pub(crate) ended: String,
    /// Whether it was ended at its limit.
    pub(crate) timed_out: bool,
}

/// What the lines between outputs begin with.
const MARK: &str = "\x1eAXVCPU-PART ";

/// Runs what is in the files `/parts/N`. Whoever is late is ended, with whatever it has started.
const SCRIPT: &str = r#"stty raw -echo
end() { killall -q -9 axvcpu conformance; }
mark() { printf '\n\036AXVCPU-PART %s\n' "$*"; }
part() {
  rm -f /tmp/late
  read -r from rest </proc/uptime
  sh /parts/$1 </dev/null >/tmp/out 2>/tmp/err &
  pid=$!
  (sleep $2; echo late >/tmp/late; kill -9 $pid; end) >/dev/null 2>&1 &
  watch=$!
  wait $pid
  code=$?
  kill $watch 2>/dev/null
  end
  killall -q sleep
  read -r to rest </proc/uptime
  late=no; [ -f /tmp/late ] && late=late
  mark out; cat /tmp/out
  mark err; cat /tmp/err
  mark code $code $from $to $late
}
read -r now rest </proc/uptime
mark begin $now
"#;

/// Runs `parts` in a machine with `cpus` processors, which has `limit` for all of it; `name` is what its files are
/// called by.
///
/// # Errors
///
/// Fails when the machine did not even start the first one.
pub(crate) fn run(
    machine: &Machine,
    name: &str,
    cpus: u32,
    parts: &[Part],
    limit: Duration,
) -> Result<Run> {
    let mut script = SCRIPT.to_owned();
    let mut files = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        // Writing to a `String` cannot fail.
        let _ = writeln!(script, "part {index} {}", part.limit);
        files.push(Extra::text(format!("parts/{index}"), part.script.as_bytes()));
    }
    let mut command = machine.command(name, cpus, &script, files)?;
    command.args(["-serial", "stdio", "-serial", "null", "-monitor", "none"]);
    let done = proc::run(&mut command, &[], Some(limit))?;
    let log = store().join("logs").join(format!("{name}.log"));
    write_whole(&log, done.stdout.as_bytes())?;
    let ended = format!(
        "the machine: {}, all of its output in {}:\n{}\n{}\nits kernel:\n{}",
        done.ended(),
        log.display(),
        proc::tail(&done.stdout, 8),
        proc::tail(&done.stderr, 4),
        last_messages(name)
    );
    let timed_out = done.timed_out;
    let (boot, done) = parse(&done.stdout).map_err(|error| anyhow!("{error:#}; {ended}"))?;
    ensure!(done.len() <= parts.len(), "the machine ran more than there is; {ended}");
    Ok(Run { boot, done, ended, timed_out })
}

/// Reads the boot's time and what came of each part that ended.
fn parse(text: &str) -> Result<(f64, Vec<Done>)> {
    let text = text.replace('\r', "");
    let mark = format!("\n{MARK}");
    let mut sections = text.split(mark.as_str()).skip(1);
    let begin = sections.next().and_then(|line| line.trim_end().strip_prefix("begin "));
    let boot = begin.context("the machine's script did not begin")?;
    let boot = boot.parse().context("the machine does not tell the time")?;
    let mut done = Vec::new();
    while let (Some(out), Some(err), Some(end)) =
        (sections.next(), sections.next(), sections.next())
    {
        let output = |section: &str, name: &str| {
            let output = section.strip_prefix(name).and_then(|rest| rest.strip_prefix('\n'));
            output.map(str::to_owned).with_context(|| format!("a part's `{name}` is missing"))
        };
        let words: Vec<_> = end.split_whitespace().collect();
        let ["code", code, from, to, late, ..] = words[..] else { break };
        let number = |text: &str| {
            text.parse::<f64>().with_context(|| format!("a part's end is not understood: {end}"))
        };
        done.push(Done {
            code: number(code)? as i32,
            stdout: output(out, "out")?,
            stderr: output(err, "err")?,
            seconds: number(to)? - number(from)?,
            timed_out: late == "late",
        });
    }
    Ok((boot, done))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "x\n\x1eAXVCPU-PART begin 4.50\n\n\x1eAXVCPU-PART out\na\r\nb\n\n\x1eAXVCPU-PART err\n\n\
                        \x1eAXVCPU-PART code 3 5.00 7.25 no\n\n\x1eAXVCPU-PART out\n\n\x1eAXVCPU-PART err\nw\n\
                        \x1eAXVCPU-PART code 137 8.00 9.00 late\n";

    #[test]
    fn parts_are_told_apart() {
        let (boot, done) = parse(TEXT).unwrap();
        assert_eq!((boot, done.len()), (4.5, 2));
        assert_eq!(
            (done[0].code, done[0].stdout.as_str(), done[0].stderr.as_str()),
            (3, "a\nb\n", "")
        );
        assert_eq!((done[0].seconds, done[0].timed_out), (2.25, false));
        assert_eq!((done[1].code, done[1].stderr.as_str(), done[1].timed_out), (137, "w", true));
    }

    #[test]
    fn a_part_that_did_not_end_is_not_there() {
        let cut = |end: &str| &TEXT[..TEXT.rfind(end).unwrap()];
        for end in ["code", "\x1eAXVCPU-PART err", "\x1eAXVCPU-PART out"] {
            assert_eq!(parse(cut(end)).unwrap().1.len(), 1, "{end:?}");
        }
        assert!(parse("").is_err());
        assert!(parse("\n\x1eAXVCPU-PART begin soon\n").is_err());
    }

    #[test]
    fn the_script_marks_what_is_looked_for() {
        assert!(SCRIPT.contains(&MARK.replace('\x1e', "\\036")));
    }
}
