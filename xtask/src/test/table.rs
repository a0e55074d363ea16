//! `cargo xtask conformance-table`: which backend passes which case of the contract, as a chapter of the documentation. It is
//! made of what the stages printed when they ran last, and says nothing of when and where that was: the same results make
//! the same chapter.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;

use super::{Report, hardware, suites};
use crate::arch::Bare;
use crate::assets::{store, workspace, write_whole};

/// What the command can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// Run the stages first whose results are shown
    #[arg(long)]
    run: bool,
}

/// The stages whose results are shown.
const STAGES: [&str; 4] = ["conformance", "riscv64", "aarch64", "kvm"];

const CHAPTER: &str = "docs/src/conformance.md";

const HEAD: &str = "# Backends and the contract

<!-- Made by `cargo xtask conformance-table`. Changes by hand are lost. -->

Every case of the conformance suite, and what became of it on every backend and in every configuration that
[the tests](testing.md) run. Where a column stands for several shapes of a backend a case is `ok` if it is in all of them;
a number leads to what was not run, where and why. A case without an entry is not one of that column's. Nothing here has
failed: the table cannot be made otherwise.

The first table is of the cases for any architecture, and has every backend. Those after it are of the cases that know an
architecture, and the last is of what is no vCPU's.

`cargo xtask conformance-table` makes this chapter of what the stages `conformance`, `riscv64`, `aarch64` and `kvm` printed
when they ran last; with `--run` it runs them first. \"Where this was made\" is
on the KVM of the machine that did: what it can do is its own, and without one there is no such column.
";

/// A table of its own: the cases of one suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suite {
    Any,
    Riscv,
    Arm,
    X86,
    PerCpu,
}

impl Suite {
    const ALL: [Self; 5] = [Self::Any, Self::Riscv, Self::Arm, Self::X86, Self::PerCpu];

    fn title(self) -> &'static str {
        match self {
            Self::Riscv => "RISC-V",
            Self::Arm => "AArch64",
            Self::X86 => "x86-64",
            Self::Any => "Any architecture",
            Self::PerCpu => "Physical CPUs",
        }
    }
}

/// What a stage printed.
struct Source {
    log: PathBuf,
    suite: Suite,
    /// The column; none if every subject has its own.
    column: Option<String>,
    /// Whether it may be missing: what a machine may lack.
    optional: bool,
}

pub(crate) fn command(options: &Options) -> Result<ExitCode> {
    if options.run {
        let stages = STAGES.map(String::from).into();
        let code = super::command(&super::Options { quick: false, stages, list: false })?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    let mut printed = Vec::new();
    for source in sources() {
        match fs::read_to_string(&source.log) {
            Ok(text) => printed.push((source, text)),
            Err(_) if source.optional => {}
            Err(error) => {
                let stages = STAGES.join(" ");
                let log = source.log.display();
                bail!("{log}: {error}; `cargo xtask test {stages}` or `--run` makes it");
            }
        }
    }
    let any: BTreeSet<_> = printed.iter().flat_map(|(_, text)| any_architecture(text)).collect();
    let mut tables = Suite::ALL.map(Table::new);
    for (source, text) in &printed {
        add(&mut tables, source, &any, text).with_context(|| source.log.display().to_string())?;
    }
    let chapter = workspace().join(CHAPTER);
    write_whole(&chapter, render(&tables).as_bytes())?;
    println!("{}", chapter.strip_prefix(workspace()).unwrap_or(Path::new(CHAPTER)).display());
    Ok(ExitCode::SUCCESS)
}

fn sources() -> Vec<Source> {
    let mut sources = vec![Source {
        log: suites::cases_log("conformance"),
        suite: Suite::Riscv,
        column: None,
        optional: false,
    }];
    for arch in Bare::ALL {
        let suite = match arch {
            Bare::Riscv64 => Suite::Riscv,
            Bare::Aarch64 => Suite::Arm,
        };
        sources.extend(hardware::cpus(arch).iter().map(|cpu| Source {
            log: hardware::log("conformance", arch, cpu, ""),
            suite,
            column: Some(format!("{arch}, `{cpu}`")),
            optional: false,
        }));
    }
    let kvm = |log, column: &str, optional| Source {
        log,
        suite: Suite::X86,
        column: Some(column.into()),
        optional,
    };
    sources.push(kvm(store().join("logs/kvm.log"), "kvm, in a virtual machine", false));
    sources.push(kvm(suites::cases_log("kvm"), "kvm, where this was made", true));
    sources
}

/// A line that a report begins with: the subject's name.
fn subject(line: &str) -> Option<&str> {
    line.strip_suffix(':').filter(|_| !line.starts_with(' '))
}

/// The subject whose architecture no suite knows: its cases are those for any.
const TOY: &str = "toy";

/// The names of the cases for any architecture, if the text has the report that tells them.
fn any_architecture(text: &str) -> impl Iterator<Item = &str> {
    let mut here = false;
    text.lines().map(str::trim_end).filter_map(move |line| {
        if let Some(name) = subject(line) {
            here = name == TOY;
        }
        result_of_case(line).filter(|_| here).map(|(case, _)| case)
    })
}

/// Where the results of a subject belong: the table for cases that know its architecture, and the column.
fn place(source: &Source, subject: &str) -> (Suite, String) {
    let column = |name: &str| source.column.clone().unwrap_or_else(|| name.into());
    let per_cpu = [", a physical CPU", ", a thread"];
    if let Some(backend) = per_cpu.iter().find_map(|suffix| subject.strip_suffix(suffix)) {
        return (Suite::PerCpu, column(backend));
    }
    (source.suite, column(subject))
}

/// Adds what the reports in the text say. `any` are the cases for any architecture.
fn add(tables: &mut [Table], source: &Source, any: &BTreeSet<&str>, text: &str) -> Result<()> {
    let mut about = None;
    // The rows that were added last, in the table for any architecture and in the other.
    let mut after = [None; 2];
    let mut cases = 0;
    for line in text.lines().map(str::trim_end) {
        if suites::report_of_cases(line).is_some() {
            about = None;
        } else if let Some(name) = subject(line) {
            about = Some((name, place(source, name)));
            after = [None; 2];
        } else if let (Some((name, (suite, column))), Some((case, result))) =
            (&about, result_of_case(line))
        {
            let result = result.with_context(|| format!("{name}: {case}"))?;
            let (suite, after) = match any.contains(case) {
                true => (Suite::Any, &mut after[0]),
                false => (*suite, &mut after[1]),
            };
            let table = tables.iter_mut().find(|table| table.suite == suite);
            let table = table.context("a suite without a table")?;
            *after = Some(table.add(case, *after, column, name, result));
            cases += 1;
        }
    }
    ensure!(cases != 0, "there are no results in it");
    Ok(())
}

/// Whether the chapter has a row for every case that ran last. What it says of them takes all backends to be made; that it knows
/// them can be told with any.
pub(super) fn check(report: &mut Report, _quick: bool) -> Result<()> {
    let chapter = fs::read_to_string(workspace().join(CHAPTER)).context(CHAPTER)?;
    for source in sources() {
        let name = source.log.file_name().unwrap_or_default().to_string_lossy();
        let Ok(text) = fs::read_to_string(&source.log) else {
            report.skip(&name, "the stage that prints it has not run");
            continue;
        };
        let missing = without_row(&text, &chapter);
        let result = match missing.is_empty() {
            true => Ok(()),
            false => Err(anyhow!(
                "{CHAPTER} lacks `{}`; `cargo xtask conformance-table --run` makes it anew",
                missing.join("`, `")
            )),
        };
        report.check(&name, result);
    }
    Ok(())
}

fn without_row<'a>(printed: &'a str, chapter: &str) -> Vec<&'a str> {
    let rows: BTreeSet<_> = chapter
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .map(|(name, _)| name.replace("\\|", "|"))
        .collect();
    let mut cases: Vec<_> =
        printed.lines().filter_map(|line| Some(result_of_case(line.trim_end())?.0)).collect();
    cases.sort_unstable();
    cases.dedup();
    cases.retain(|case| !rows.contains(*case));
    cases
}

/// Reads a line about a case: its name, and the reason if it was skipped.
fn result_of_case(line: &str) -> Option<(&str, Result<Option<&str>>)> {
    let line = line.strip_prefix("  ")?;
    if let Some(name) = line.strip_suffix("  ok") {
        return Some((name.trim(), Ok(None)));
    }
    if let Some((name, reason)) = line.split_once("  skipped: ") {
        return Some((name.trim(), Ok(Some(reason))));
    }
    let (name, reason) = line.split_once("  FAILED: ")?;
    Some((name.trim(), Err(anyhow!("failed: {reason}"))))
}

/// Cases, columns, and what became of the ones in the others.
struct Table {
    suite: Suite,
    columns: Vec<Column>,
    rows: Vec<String>,
    cells: Vec<Cell>,
}

struct Column {
    name: String,
    /// The subjects that it stands for.
    subjects: Vec<String>,
}

struct Cell {
    row: String,
    column: usize,
    passed: Vec<String>,
    /// Subjects, each with the reason.
    skipped: Vec<(String, String)>,
}

impl Table {
    fn new(suite: Suite) -> Self {
        Self { suite, columns: Vec::new(), rows: Vec::new(), cells: Vec::new() }
    }

    /// Adds a result, and answers which row the case is. A new one comes behind the row that came before it.
    fn add(
        &mut self,
        case: &str,
        after: Option<usize>,
        column: &str,
        subject: &str,
        skipped: Option<&str>,
    ) -> usize {
        let row = self.rows.iter().position(|row| row == case).unwrap_or_else(|| {
            let row = after.map_or(self.rows.len(), |after| after + 1);
            self.rows.insert(row, case.into());
            row
        });
        let known = self.columns.iter().position(|known| known.name == column);
        let column = known.unwrap_or_else(|| {
            self.columns.push(Column { name: column.into(), subjects: Vec::new() });
            self.columns.len() - 1
        });
        let subjects = &mut self.columns[column].subjects;
        if !subjects.iter().any(|known| known == subject) {
            subjects.push(subject.into());
        }
        let known = self.cells.iter().position(|cell| cell.row == case && cell.column == column);
        let cell = known.unwrap_or_else(|| {
            let (passed, skipped) = (Vec::new(), Vec::new());
            self.cells.push(Cell { row: case.into(), column, passed, skipped });
            self.cells.len() - 1
        });
        match skipped {
            None => self.cells[cell].passed.push(subject.into()),
            Some(reason) => self.cells[cell].skipped.push((subject.into(), reason.into())),
        }
        row
    }

    fn render(&self, text: &mut String, notes: &mut Vec<String>) {
        let _ = writeln!(text, "\n## {}\n", self.suite.title());
        let shaped: Vec<_> = self.columns.iter().filter(|it| it.subjects.len() > 1).collect();
        for column in &shaped {
            let _ = writeln!(text, "* {}: {}", column.name, column.subjects.join("; "));
        }
        if !shaped.is_empty() {
            text.push('\n');
        }
        let names: Vec<_> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let _ = writeln!(text, "| case | {} |", names.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(names.len()));
        for row in &self.rows {
            let _ = write!(text, "| {} |", row.replace('|', "\\|"));
            for column in 0..self.columns.len() {
                let cell = self.cells.iter().find(|cell| &cell.row == row && cell.column == column);
                let entry = cell.map_or(String::new(), |cell| cell.render(notes));
                let _ = write!(text, " {entry} |");
            }
            text.push('\n');
        }
        let _ = write!(text, "| *passed* |");
        for column in 0..self.columns.len() {
            let cells = self.cells.iter().filter(|cell| cell.column == column);
            let _ = write!(text, " {} |", cells.map(|cell| cell.passed.len()).sum::<usize>());
        }
        text.push('\n');
    }
}

impl Cell {
    /// The entry; what it has to say about reasons goes to the notes, once for all that say the same.
    fn render(&self, notes: &mut Vec<String>) -> String {
        let mut entry = String::from(if self.passed.is_empty() { "skipped" } else { "ok" });
        let mut reasons: Vec<&str> = Vec::new();
        for (_, reason) in &self.skipped {
            if !reasons.contains(&reason.as_str()) {
                reasons.push(reason);
            }
        }
        for reason in reasons {
            let those = self.skipped.iter().filter(|(_, other)| other == reason);
            let those: Vec<_> = those.map(|(subject, _)| subject.as_str()).collect();
            let note = if those.len() == self.passed.len() + self.skipped.len() {
                reason.to_owned()
            } else {
                format!("Not in {}: {reason}", those.join(" and "))
            };
            let number = notes.iter().position(|known| *known == note).unwrap_or_else(|| {
                notes.push(note);
                notes.len() - 1
            });
            let _ = write!(entry, "[^{}]", number + 1);
        }
        entry
    }
}

fn render(tables: &[Table]) -> String {
    let mut text = String::from(HEAD);
    let mut notes = Vec::new();
    for table in tables.iter().filter(|table| !table.rows.is_empty()) {
        table.render(&mut text, &mut notes);
    }
    for (number, note) in (1..).zip(&notes) {
        let _ = write!(text, "\n[^{number}]: {note}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(suite: Suite, column: Option<&str>) -> Source {
        Source { log: "log".into(), suite, column: column.map(Into::into), optional: false }
    }

    #[test]
    fn shapes_share_a_column_and_reasons_a_note() {
        let mut tables = Suite::ALL.map(Table::new);
        let text = "x\r\none:\r\n  a: b   ok\r\n  c  skipped: no c\r\n  e  ok\r\n2 passed, 0 failed, 1 skipped\r\n\
                    two:\r\n  a: b  skipped: no b\r\n  c  skipped: no c\r\n  d  ok\r\n  e  ok\r\n\
                    2 passed, 0 failed, 2 skipped\r\nall together:\r\n4 passed, 0 failed\r\n  f  ok\r\n";
        add(&mut tables, &source(Suite::Arm, Some("cpu")), &BTreeSet::new(), text).unwrap();
        let text = render(&tables);
        let tail = "\n## AArch64\n\n* cpu: one; two\n\n| case | cpu |\n|---|---|\n| a: b | ok[^1] |\n\
                    | c | skipped[^2] |\n| d | ok |\n| e | ok |\n| *passed* | 4 |\n\n\
                    [^1]: Not in two: no b\n\n[^2]: no c\n";
        assert_eq!(text.strip_prefix(HEAD), Some(tail));
    }

    #[test]
    fn subjects_have_columns_of_their_own_and_suites_tables() {
        let mut tables = Suite::ALL.map(Table::new);
        let text = "soft:\n  b  ok\n  a  ok\n2 passed, 0 failed\ntoy, a physical CPU:\n  d  ok\n1 passed, 0 failed\n\
                    toy:\n  b  ok\n  c  ok\n2 passed, 0 failed\n";
        let any: BTreeSet<_> = any_architecture(text).collect();
        assert_eq!(any, ["b", "c"].into());
        add(&mut tables, &source(Suite::Riscv, None), &any, text).unwrap();
        let bare = "soft, wide:\n  b  skipped: no b\n  a  ok\n1 passed, 0 failed, 1 skipped\n\
                    soft, odd:\n  b  ok\n1 passed, 0 failed\n";
        add(&mut tables, &source(Suite::Riscv, Some("bare")), &any, bare).unwrap();
        let text = render(&tables);
        let any = "## Any architecture\n\n* bare: soft, wide; soft, odd\n\n| case | soft | toy | bare |\n\
                   |---|---|---|---|\n| b | ok | ok | ok[^1] |\n| c |  | ok |  |\n| *passed* | 1 | 2 | 1 |\n";
        assert!(text.contains(any), "{text}");
        assert!(text.contains("[^1]: Not in soft, wide: no b\n"), "{text}");
        assert!(
            text.contains("| case | soft | bare |\n|---|---|---|\n| a | ok | ok |\n"),
            "{text}"
        );
        assert!(text.contains("## Physical CPUs\n\n| case | toy |\n"), "{text}");
    }

    #[test]
    fn cases_without_a_row_are_told() {
        let printed =
            "soft:\n  b: of one | two  ok\n  a  skipped: no a\n  c  FAILED: why\ntoy:\n  a  ok\n";
        let chapter = "| case | soft |\n|---|---|\n| b: of one \\| two | ok |\n| d | ok |\n";
        assert_eq!(without_row(printed, chapter), ["a", "c"]);
    }

    #[test]
    fn failures_and_nothing_make_no_table() {
        let (mut tables, any) = (Suite::ALL.map(Table::new), BTreeSet::new());
        let source = source(Suite::X86, Some("kvm"));
        assert!(
            add(&mut tables, &source, &any, "kvm:\n  a  FAILED: why\n0 passed, 1 failed\n")
                .is_err()
        );
        assert!(add(&mut tables, &source, &any, "kvm:\n0 passed, 0 failed\n").is_err());
        assert!(add(&mut tables, &source, &any, "nothing\n").is_err());
    }
}
