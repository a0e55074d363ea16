//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::report::one_line;
use crate::size::{self, Size};

/// As many CPUs as a guest can have.
const MAX_CPUS: u8 = 8;

/// What `--help` says about the end of a run.
const EXIT_STATUS: &str = "\
Exit status of `axvcpu run`:
  0    the guest switched its machine off
  2    wrong usage: nothing was started
  3    the guest asked for a restart
  4    the guest crashed: it reported a failure, shut a CPU down, or all its CPUs stopped for good
  5    the host failed
  130  left with Ctrl-A x, or SIGINT; other signals: 128 and the signal's number
  141  nobody reads the guest's output any more";

/// Runs guests on AxVCpu's virtual CPUs.
#[derive(Debug, Parser)]
#[command(name = "axvcpu", version, about, after_help = EXIT_STATUS)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Boot a guest, with its console on standard input and output
    ///
    /// While the guest runs and standard input is a terminal, every key goes to the guest, except: Ctrl-A x
    /// leaves, Ctrl-A Ctrl-A sends Ctrl-A, Ctrl-A h shows the keys. Piped input goes to the guest as it is.
    Run(Run),
    /// Show which backends work here, and why others do not
    Backends,
}

/// The options of `axvcpu run`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Run {
    /// The kernel: a Linux Image or bzImage, an ELF file, or instructions to be put 2 MiB into RAM (on KVM: 64-bit
    /// code, to 1 MiB)
    #[arg(long, short, value_name = "FILE")]
    pub(crate) kernel: PathBuf,
    /// The initial RAM disk for a Linux kernel
    #[arg(long, short, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// The kernel's command line. Linux for x86 says nothing without console=ttyS0
    #[arg(
        long,
        short,
        value_name = "ARGS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub(crate) append: String,
    /// The guest's RAM, with K, M or G for the unit
    #[arg(long, short, value_name = "SIZE", default_value = "512M", value_parser = size::parse,
          allow_hyphen_values = true)]
    pub(crate) memory: Size,
    /// How many CPUs the guest has
    #[arg(long, short, value_name = "N", default_value = "1", value_parser = parse_cpus,
          allow_hyphen_values = true)]
    pub(crate) cpus: u8,
    /// What executes the guest
    #[arg(long, short, value_name = "NAME", value_enum, default_value_t = Backend::Auto)]
    pub(crate) backend: Backend,
    /// What the guest's time follows: the host's clock, or the instructions executed. The latter runs the
    /// CPUs in turn and makes a run repeatable as long as nothing is typed
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Clock::Host)]
    pub(crate) clock: Clock,
    /// How to report the run on standard error at its end
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Summary::Text)]
    pub(crate) summary: Summary,
    /// Say nothing but errors: no hint at the start, no summary at the end
    #[arg(long, short, visible_alias = "no-summary", conflicts_with = "summary")]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The best that works here with this kernel
    Auto,
    /// A RISC-V hart in software
    Soft,
    /// Linux's KVM, for x86-64 guests
    Kvm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Clock {
    /// The host's monotonic clock
    Host,
    /// One nanosecond an instruction
    Instructions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Summary {
    /// A table
    Text,
    /// One JSON object on one line
    Json,
    /// Nothing
    None,
}

fn parse_cpus(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(cpus @ 1..=MAX_CPUS) => Ok(cpus),
        _ => Err(format!("give a number from 1 to {MAX_CPUS}")),
    }
}

/// Puts an error of the command-line parser, several lines and a usage text, into one line.
pub(crate) fn describe(error: &clap::Error) -> String {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "give a command: axvcpu run --kernel FILE, axvcpu backends or axvcpu --help".into();
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim);
    let mut line = String::new();
    for part in lines.take_while(|part| !part.starts_with("Usage:")) {
        let part = part.strip_prefix("error: ").unwrap_or(part);
        if part.is_empty() || part.starts_with("For more information") {
            continue;
        }
        if !line.is_empty() {
            line.push_str(if part.starts_with("tip: ") { "; " } else { " " });
        }
        line.push_str(part.strip_prefix("tip: ").unwrap_or(part));
    }
    one_line(&format!("{line} ('axvcpu run --help' shows all options)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, String> {
        Arguments::try_parse_from([&["axvcpu"], arguments].concat())
            .map_err(|error| describe(&error))
    }

    fn run(arguments: &[&str]) -> Run {
        match parse(&[&["run"], arguments].concat()).unwrap().command {
            Command::Run(run) => run,
            Command::Backends => panic!(),
        }
    }

    #[test]
    fn the_parser_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let run = run(&["--kernel", "K"]);
        assert_eq!(run.kernel.to_str(), Some("K"));
        assert_eq!((run.initrd, run.append.as_str()), (None, ""));
        assert_eq!((run.memory, run.cpus), (Size(512 << 20), 1));
        assert_eq!((run.backend, run.clock), (Backend::Auto, Clock::Host));
        assert_eq!((run.summary, run.quiet), (Summary::Text, false));
    }

    #[test]
    fn everything_at_once() {
        let run = run(&[
            "--kernel",
            "K",
            "--initrd",
            "I",
            "--append",
            "-x quiet",
            "--memory",
            "1G",
            "--cpus",
            "8",
            "--backend",
            "soft",
            "--clock",
            "instructions",
            "--summary",
            "json",
        ]);
        assert_eq!(run.initrd.unwrap().to_str(), Some("I"));
        assert_eq!(run.append, "-x quiet");
        assert_eq!((run.memory, run.cpus), (Size(1 << 30), 8));
        assert_eq!((run.backend, run.clock), (Backend::Soft, Clock::Instructions));
        assert_eq!(run.summary, Summary::Json);
        assert!(self::run(&["-k", "K", "--no-summary"]).quiet);
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        for (arguments, expected) in [
            (&["run"][..], "required arguments were not provided: --kernel <FILE>"),
            (&[], "give a command: axvcpu run --kernel FILE"),
            (&["walk"], "unrecognized subcommand 'walk'"),
            (
                &["run", "-k", "K", "--memroy", "1G"],
                "'--memroy' found; a similar argument exists: '--memory'",
            ),
            (&["run", "-k", "K", "--memory", "1T"], "'1T' for '--memory <SIZE>': give a number"),
            (&["run", "-k", "K", "--memory", "-1M"], "'-1M' for '--memory <SIZE>': give a number"),
            (&["run", "-k", "K", "--memory", "1", "--memory", "2"], "'--memory <SIZE>'"),
            (&["run", "-k", "K", "--cpus", "0"], "'0' for '--cpus <N>': give a number from 1 to 8"),
            (&["run", "-k", "K", "--cpus", "9"], "from 1 to 8"),
            (&["run", "-k", "K", "--cpus", "abc"], "from 1 to 8"),
            (&["run", "-k", "K", "--cpus", "-1"], "from 1 to 8"),
            (&["run", "-k", "K", "--cpus", "\n\x1b[2J"], "from 1 to 8"),
            (&["run", "-k", "K", "--backend", "qemu"], "[possible values: auto, soft, kvm]"),
            (&["run", "-k", "K", "--clock"], "a value is required for '--clock <NAME>'"),
            (&["run", "-k", "K", "stray"], "unexpected argument 'stray'"),
        ] {
            let line = parse(arguments).unwrap_err();
            assert!(line.contains(expected), "{arguments:?}: {line}");
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(line.contains("--help"));
        }
    }
}
