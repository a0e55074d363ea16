//! `axvcpu run`, from the first check to the exit status.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::args::{Run, Summary};
use crate::machine::{Cause, Keyboard, Machine};
use crate::report::{Failure, say};
use crate::summary::Report;
use crate::term::input::{Reader, Waker};
use crate::term::output::Stdout;
use crate::term::raw::RawMode;
use crate::term::signals;
use crate::{backends, end, files};

/// When the run is ended from outside, so long for the rest of the output.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers the exit status.
pub(crate) fn run(args: &Run) -> Result<u8, Failure> {
    let input = Waker::new().map_err(|error| Failure::host("console input", error))?;
    let machine = Arc::new(prepare(args, input.clone())?);
    // From here on the program has threads, and signals have an orderly effect.
    let target = Arc::clone(&machine);
    signals::handle(move |signal| target.end(Cause::Signal(signal)))
        .map_err(|error| Failure::host("signals", error))?;
    let wall = execute(args, &machine, input)?;

    let end = end::of(&machine);
    if machine.output.ends_within_a_line() && io::stdout().is_terminal() {
        let _ = io::stderr().write_all(b"\n"); // looks only
    }
    // The summary as text begins with how the run ended, failures included.
    let told = !args.quiet && args.summary == Summary::Text;
    if let Some(failure) = end.failure().filter(|_| !told) {
        say(failure);
    }
    if !args.quiet {
        Report { args, machine: &machine, end: &end, wall }.print();
    }
    Ok(end.status())
}

/// Checks everything the user gave, and builds the machine.
fn prepare(args: &Run, input: Waker) -> Result<Machine, Failure> {
    let (kernel, engine) = files::kernel(&args.kernel, args.backend, args.memory)?;
    backends::check(engine)?;
    let initrd = match &args.initrd {
        Some(path) => Some(files::initrd(path, args.memory)?),
        None => None,
    };
    Machine::new(engine, args, &kernel, initrd.as_deref(), input)
}

/// Runs the machine, with its console on standard input and output. Answers how long that took.
fn execute(args: &Run, machine: &Arc<Machine>, input: Waker) -> Result<Duration, Failure> {
    let terminal = io::stdin().is_terminal();
    let _raw_mode = if terminal {
        Some(RawMode::enter().map_err(|error| Failure::host("the terminal", error))?)
    } else {
        None
    };
    if terminal && !args.quiet {
        say("Ctrl-A x leaves, Ctrl-A h shows the keys");
    }
    let start = Instant::now();
    let target = Arc::clone(machine);
    let writer = machine
        .output
        .start(Stdout, move |error| target.end(Cause::output(&error)))
        .map_err(|error| Failure::host("console output", error))?;
    match Reader::start(input, terminal, Keyboard(Arc::clone(machine))) {
        Ok(reader) => {
            machine.execute();
            reader.finish();
        }
        Err(error) => machine.end(Cause::Failed(Failure::host("console input", error))),
    }
    let wall = start.elapsed();
    // Whoever reads the output may take his time, unless the run was ended from outside.
    writer.finish(machine.cause().map(|_| PATIENCE));
    Ok(wall)
}
