//! The stage `fuzz`: each target for a few seconds, from its stored corpus.

use std::fs;

use anyhow::{Context, Result};

use super::{Report, work_folder};
use crate::fuzz::{Fuzzer, targets};

/// How long each target runs: all of them take less than a minute.
const SECONDS: u64 = 4;

pub(super) fn run(report: &mut Report, _quick: bool) -> Result<()> {
    let fuzzer = match Fuzzer::build(false) {
        Ok(fuzzer) => fuzzer,
        Err(error) => {
            let reason = format!("{error:#}; the stored inputs are tests in the stage `unit`");
            report.skip("fuzz targets with libFuzzer", &reason);
            return Ok(());
        }
    };
    for target in targets()? {
        // What other runs have found does not count: this one can be repeated elsewhere.
        let folder = work_folder("fuzz-short")?.join(&target);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let result = fuzzer.run(&target, SECONDS, &folder).map(|found| {
            eprintln!("        {target}: {}", found.text());
        });
        report.check(&target, result);
    }
    Ok(())
}
