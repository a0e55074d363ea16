//! The report on standard error at the end of a run.

use std::io::Write;
use std::time::Duration;

use axvcpu_vmm::End;
use axvcpu_vmm::summary::Summary;

use crate::args::{self, Run};
use crate::machine::Machine;
use crate::usage;

/// Everything there is to tell about a run.
pub(crate) struct Report<'a> {
    pub(crate) args: &'a Run,
    pub(crate) machine: &'a Machine,
    pub(crate) end: &'a End,
    pub(crate) wall: Duration,
}

impl Report<'_> {
    /// Prints it in the form the user wants.
    pub(crate) fn print(&self) {
        let form: fn(Summary<'_>) -> String = match self.args.summary {
            args::Summary::None => return,
            args::Summary::Text => |summary| summary.text().to_string(),
            args::Summary::Json => |summary| summary.json().to_string(),
        };
        let process = usage::now(); // before the report itself costs time
        let board = &self.machine.board;
        let instructions = board.instructions();
        let summary = Summary {
            end: self.end,
            backend: board.backend(),
            memory: self.args.memory.0,
            wall_ns: self.wall.as_nanos() as u64,
            process: Some(process),
            instructions: instructions.as_deref(),
            stats: &board.stats(),
            measured: true,
            repeatable: board.repeatable(),
        };
        let _ = std::io::stderr().write_all(form(summary).as_bytes()); // nobody is left to tell if this fails
    }
}
