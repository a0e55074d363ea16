//! Linux's KVM: how many instructions of this program lie between two exits, and what a boot of Debian is made of.
//!
//! What an exit takes in the kernel and in the processor is nobody's here to change. What it takes in user space is, and
//! it can be counted: exactly, and whatever the machine's KVM is like.

mod boots;
mod exits;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::Options;

/// Measures, prints the tables, and says whether the targets are met.
pub(super) fn measure(options: &Options) -> Result<ExitCode> {
    let exits = exits::measure();
    if let Ok(exits) = &exits {
        exits.show();
    }
    let boots = boots::measure();
    if let Ok(boots) = &boots {
        boots::show(boots);
    }
    // What one of them lacks is no reason to do without the other.
    for (what, error) in [("exits", exits.as_ref().err()), ("boots", boots.as_ref().err())] {
        if let Some(error) = error {
            eprintln!("SKIPPED {what}: {error:#}");
        }
    }
    if let Some(file) = &options.json {
        let exits = exits.as_ref().map_or_else(|_| "null".into(), exits::Exits::json);
        let boots: Vec<_> = boots.iter().flatten().map(boots::Boot::json).collect();
        let text = format!(
            "{{\n  \"exits\": {exits},\n  \"boots\": [\n    {}\n  ]\n}}\n",
            boots.join(",\n    ")
        );
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let met = exits.is_ok_and(|exits| exits.is_met()) && boots.is_ok();
    Ok(if options.strict && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
