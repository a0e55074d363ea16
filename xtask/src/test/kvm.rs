//! The stage of Linux KVM: the contract on this machine's, if it can be used, and all of it on one in a virtual machine,
//! where Debian boots on it. That one is complete and the same everywhere; this machine's may be neither.

use std::fs::OpenOptions;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{Report, firmware, suites};
use crate::arch::Arch;
use crate::assets::{guest, initrd, qemu};
use crate::l1::{self, Done, Part, TERMINAL};
use crate::progress::Step;
use crate::{demo, fixed, proc};

/// The device whose interface the backend uses.
const DEVICE: &str = "/dev/kvm";

/// The tests of the contract, and their name among the tests of that package.
const CONFORMANCE: (&str, &str) = ("axvcpu-conformance", "kvm");

/// Processors of the machine: some cases need a second one.
const CPUS: u32 = 2;

/// Seconds that are more than any part takes on a slow machine under load, the conformance suite and the others, and what
/// is more than all of them.
const SUITE: u64 = 600;
const PART: u64 = 240;
const LIMIT: Duration = Duration::from_secs(1800);

/// Memory of a guest that has some above the hole for devices below 4 GiB, and what its kernel finds at least, in KiB.
const LARGE: (&str, u64) = ("4G", 4_000_000);

/// Exit codes of `axvcpu run`.
mod code {
    pub(super) const POWER_OFF: i32 = 0;
    pub(super) const USAGE: i32 = 2;
    pub(super) const RESET: i32 = 3;
    pub(super) const CRASH: i32 = 4;
    pub(super) const HOST: i32 = 5;
    /// 128 and SIGPIPE.
    pub(super) const CLOSED: i32 = 141;
    /// 128 and SIGTERM.
    pub(super) const TERMINATED: i32 = 143;
}

/// What is run in the machine, and how it is judged.
struct Case {
    name: &'static str,
    script: String,
    check: fn(&Done) -> Result<()>,
}

pub(super) fn run(report: &mut Report, _quick: bool) -> Result<()> {
    // What one of them lacks is no reason to do without the other.
    if let Err(error) = on_this_machine(report) {
        report.check("kvm: the conformance suite on this machine", Err(error));
    }
    in_a_machine(report)
}

/// The contract on the KVM of this machine.
fn on_this_machine(report: &mut Report) -> Result<()> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(DEVICE) {
        let reason = format!("{DEVICE} of this machine cannot be used: {error}");
        report.skip("kvm: the conformance suite on this machine", &reason);
        return Ok(());
    }
    let (package, test) = CONFORMANCE;
    let arguments = ["--package", package, "--test", test, "--", "--nocapture", "--test-threads=1"];
    suites::cargo_test(report, "kvm", &arguments, None)
}

/// Everything in a virtual machine.
fn in_a_machine(report: &mut Report) -> Result<()> {
    const ALL: &str = "kvm: everything in a virtual machine";
    let fetched = fixed::can_build()
        .and_then(|()| guest::fetch(Arch::X86_64))
        .and_then(|guest| qemu::fetch(Arch::X86_64).map(|_| guest));
    let guest = match fetched {
        Ok(guest) => guest,
        Err(error) => {
            report.skip(ALL, &format!("{error:#}").replace('\n', " "));
            return Ok(());
        }
    };
    let mut machine = l1::Machine::prepare()?;
    let (package, test) = CONFORMANCE;
    let suite = fixed::test(package, test).map(|suite| machine.add("bin/conformance", suite));
    machine.add("initrd", initrd::build(&guest.busybox, Arch::X86_64, "demo", None)?);
    machine.add("kernel", guest.kernel);

    machine.make_room_for(4 << 30);

    let guests = firmware::guests(Arch::X86_64)?;
    for guest in &guests {
        machine.add(format!("firmware/{}", guest.name()), guest.file.clone());
    }
    let (ends, others): (Vec<_>, Vec<_>) = guests.iter().partition(|guest| guest.ends());
    let mut groups = vec![("calls that end the machine, each in its own way".to_owned(), ends)];
    for guest in others {
        groups
            .push((format!("calls of what there is for firmware: {}", guest.name()), vec![guest]));
    }

    let cases = cases();
    let part = |script: &str, limit| Part { script: script.into(), limit };
    let mut parts = vec![part("exec conformance --nocapture --test-threads=1", SUITE)];
    parts.extend(cases.iter().map(|case| part(&case.script, PART)));
    parts.extend(groups.iter().map(|(_, guests)| part(&firmware_script(guests), PART)));
    let step = Step::new("the machine with KVM");
    let mut run = l1::run(&machine, "kvm", CPUS, &parts, LIMIT)?;
    let whole = run.done.len();
    if whole < parts.len() && !run.timed_out {
        // Seen once, without a word from its kernel: no program in it should be able to do that, so it is probably QEMU.
        // What the parts would have shown is still wanted.
        eprintln!(
            "  the machine ended by itself in part {}; the rest runs in another: {}",
            whole + 1,
            run.ended
        );
        let rest = l1::run(&machine, "kvm-rest", CPUS, &parts[whole..], LIMIT)?;
        run.done.extend(rest.done);
        run.ended = rest.ended;
    }
    step.done(&format!("{} of {} parts, {:.1} s to boot", run.done.len(), parts.len(), run.boot));

    let mut results = run.done.iter();
    let not_run = || anyhow!("it did not come to its end; {}", run.ended);
    let ran = results.next().ok_or_else(not_run);
    match suite.and(ran).and_then(conformance) {
        Ok(found) => found.add_to(report, "kvm, in a virtual machine: "),
        Err(error) => report.check("kvm: the conformance suite in a virtual machine", Err(error)),
    }
    for case in &cases {
        let result = results.next().ok_or_else(not_run).and_then(|done| {
            unharmed(done)?;
            (case.check)(done).map_err(|error| anyhow!("{error:#}{}", said(done)))
        });
        report.check(&format!("kvm: {}", case.name), result);
    }
    for (name, guests) in &groups {
        let result = results.next().ok_or_else(not_run).and_then(|done| {
            unharmed(done)?;
            judge(guests, done).map_err(|error| anyhow!("{error:#}{}", said(done)))
        });
        report.check(&format!("kvm: {name}"), result);
    }
    let step = Step::new("`xtask run` in a virtual machine");
    let result = xtask_run();
    drop(step);
    report.check("kvm: `xtask run --in-vm` hands on the guest's output and status", result);
    Ok(())
}

/// The same machine by way of this program's command for a single guest.
fn xtask_run() -> Result<()> {
    let own = std::env::current_exe().context("this program's own file")?;
    let mut command = Command::new(own);
    command.args(["run", "--backend", "kvm", "--in-vm", "--summary", "json", "--append"]);
    // One that must be quoted on its way.
    let parameter = "test=it's$HOME";
    let console = Arch::X86_64.console();
    command.arg(format!("{console} {parameter} {}", initrd::mode::REBOOT));
    let done = proc::run(&mut command, &[], Some(Duration::from_secs(PART)))?;
    let judge = || {
        ensure!(done.status.code() == Some(code::RESET), "{}", done.ended());
        demo::check(&done.stdout, 1)?;
        ensure!(done.stdout.contains(parameter), "the kernel's parameters are others");
        // The machine's own kernel speaks as well, but not there.
        ensure!(done.stdout.matches("Linux version").count() == 1, "another kernel's messages");
        let summary = done.stderr.lines().last().unwrap_or_default();
        ensure!(summary.contains(r#""end":"reset""#), "no summary");
        Ok(())
    };
    let said = || format!("{}\n{}", proc::tail(&done.stdout, 8), proc::tail(&done.stderr, 8));
    judge().map_err(|error| anyhow!("{error:#}\n{}", said()))
}

/// What the conformance suite found, if it ran to its end.
fn conformance(done: &Done) -> Result<suites::Found> {
    let judge = || {
        // A case that fails panics, which is how tests do it.
        ensure!(!done.timed_out, "it did not end within {SUITE} s");
        let found = suites::parse(&done.stdout)?;
        ensure!(found.passed > 0, "nothing passed, so nothing was checked");
        let expected = if found.failed == 0 { 0 } else { 101 };
        ensure!(
            done.code == expected,
            "{} failed, yet the exit code is {}",
            found.failed,
            done.code
        );
        Ok(found)
    };
    judge().map_err(|error| anyhow!("{error:#}{}", said(done)))
}

/// Debian in the machine, with these parameters for its kernel and options for `axvcpu run`.
fn debian(append: &str, options: &str) -> String {
    let console = Arch::X86_64.console();
    format!("axvcpu run --kernel /kernel --initrd /initrd --append '{console} {append}' {options}")
}

fn cases() -> Vec<Case> {
    let case = |name, script: String, check| Case { name, script, check };
    let exec = |append: &str, options: &str| format!("exec {}\n", debian(append, options));
    vec![
        case("it is listed as one that works", "exec axvcpu backends\n".into(), listed),
        case("Debian boots and powers off", exec("", "--summary json"), |done| powers_off(done, 1)),
        case("Debian boots with 4 processors", exec("quiet", "--cpus 4 --summary json"), |done| {
            powers_off(done, 4)
        }),
        case(
            "Debian boots with memory beyond 4 GiB",
            exec("", &format!("--memory {} --summary json", LARGE.0)),
            large,
        ),
        case(
            "a reset has a code of its own",
            exec(&format!("quiet {}", initrd::mode::REBOOT), ""),
            reboots,
        ),
        case(
            "a panic is told from a power-off",
            exec(&format!("quiet panic=-1 {}", initrd::mode::PANIC), ""),
            panics,
        ),
        case("a shell takes piped input", shell_script(), shell),
        case("a closed output ends the run", closed_script(), |done| code_is(done, code::CLOSED)),
        case("a missing device is named", missing_script(), refused),
        case("a device that may not be opened is named", forbidden_script(), refused),
        case(
            "SIGTERM ends the run, and leaves the terminal as it was",
            terminal_script(),
            terminal,
        ),
    ]
}

/// Runs guests, and tells of each its name, its status and its last line.
fn firmware_script(guests: &[&firmware::Guest]) -> String {
    let run = |guest: &&firmware::Guest| {
        let (name, memory, cpus) = (guest.name(), guest.memory, guest.cpus);
        format!(
            "axvcpu run --backend kvm --quiet --memory {memory} --cpus {cpus} --kernel /firmware/{name} >/tmp/console\n\
             echo {name} $? \"$(tail -n 1 /tmp/console)\"\n"
        )
    };
    guests.iter().map(run).collect()
}

fn judge(guests: &[&firmware::Guest], done: &Done) -> Result<()> {
    let mut lines = done.stdout.lines();
    guests.iter().try_for_each(|guest| {
        let line = lines.next().unwrap_or_default();
        let words = line.strip_prefix(&guest.name()).and_then(|rest| rest.trim().split_once(' '));
        let (status, last) = words.with_context(|| format!("nothing of {}", guest.name()))?;
        guest.judge(last, status.parse().ok())
    })
}

/// Memory on both sides of the hole.
fn large(done: &Done) -> Result<()> {
    powers_off(done, 1)?;
    // "Memory: AVAILABLEK/TOTALK available (...)"
    let line = done.stdout.lines().find_map(|line| line.split_once("] Memory: "));
    let total = line.and_then(|(_, rest)| rest.split_once('/')).and_then(|(_, rest)| {
        let (number, _) = rest.split_once('K')?;
        number.parse::<u64>().ok()
    });
    let total = total.context("the kernel does not tell its memory")?;
    ensure!(total >= LARGE.1, "the kernel found {total} KiB of memory");
    Ok(())
}

fn code_is(done: &Done, expected: i32) -> Result<()> {
    ensure!(done.code == expected, "exit code {} instead of {expected}", done.code);
    Ok(())
}

fn listed(done: &Done) -> Result<()> {
    code_is(done, 0)?;
    let line = done.stdout.lines().find(|line| line.starts_with("kvm "));
    let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
    ensure!(words.get(1..3) == Some(&[Arch::X86_64.name(), "yes"]), "KVM does not work");
    Ok(())
}

fn powers_off(done: &Done, cpus: u32) -> Result<()> {
    code_is(done, code::POWER_OFF)?;
    demo::check(&done.stdout, cpus)?;
    let summary = done.stderr.lines().last().unwrap_or_default();
    for wanted in [r#""end":"power-off""#, r#""backend":"kvm""#, &format!(r#""cpus":{cpus},"#)] {
        ensure!(summary.contains(wanted), "the summary does not say {wanted}");
    }
    Ok(())
}

fn reboots(done: &Done) -> Result<()> {
    ensure!(done.stdout.contains(initrd::END), "it did not get that far");
    code_is(done, code::RESET)
}

fn panics(done: &Done) -> Result<()> {
    ensure!(done.stdout.contains("Kernel panic"), "it did not panic");
    ensure!(!done.stdout.contains(initrd::END), "it went on after the panic");
    // The kernel resets after a panic; whether it says why is up to it.
    ensure!(matches!(done.code, code::RESET | code::CRASH), "exit code {}", done.code);
    Ok(())
}

/// Types once the shell is there. The sum is not in what is typed, so the terminal's echo cannot show it.
fn shell_script() -> String {
    let (run, cue) = (debian(&format!("quiet {}", initrd::mode::SHELL), ""), initrd::SHELL);
    format!(
        "mkfifo /tmp/in\n\
         {run} </tmp/in >/tmp/console &\n\
         pid=$!\n\
         exec 8>/tmp/in\n\
         while kill -0 $pid && ! grep -q '{cue}' /tmp/console; do sleep 0.5; done\n\
         printf 'echo sum=$((1234 + 4321))\\nexit\\n' >&8\n\
         wait $pid\n\
         code=$?\n\
         cat /tmp/console\n\
         exit $code\n"
    )
}

fn shell(done: &Done) -> Result<()> {
    ensure!(done.stdout.contains("sum=5555"), "no answer from the shell");
    code_is(done, code::POWER_OFF)
}

/// Nobody reads on after the first line.
fn closed_script() -> String {
    let run = debian("", "");
    format!("{{ {run}; echo $? >/tmp/code; }} | head -n 1\nexit $(cat /tmp/code)\n")
}

/// The device's number is KVM's for good (the kernel's Documentation/admin-guide/devices.txt).
fn missing_script() -> String {
    format!("rm {DEVICE}\n{}\ncode=$?\nmknod {DEVICE} c 10 232\nexit $code\n", debian("", ""))
}

fn forbidden_script() -> String {
    let run = debian("", "").replace('\'', "\"");
    format!("chmod 000 {DEVICE}\nsu nobody -s /bin/sh -c '{run}'\n")
}

/// It must be said in one line what is wrong.
fn refused(done: &Done) -> Result<()> {
    ensure!(matches!(done.code, code::USAGE | code::HOST), "exit code {}", done.code);
    let lines: Vec<_> = done.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    ensure!(matches!(lines[..], [line] if line.contains(DEVICE)), "no line that names {DEVICE}");
    ensure!(done.stdout.is_empty(), "a guest was started all the same");
    Ok(())
}

/// Runs a guest on a terminal of its own, ends it, and tells the terminal's settings before, meanwhile and after.
fn terminal_script() -> String {
    let run = debian(&format!("quiet {}", initrd::mode::SHELL), "");
    format!(
        "exec 9<>{TERMINAL}\n\
         settings() {{ stty -g <{TERMINAL}; }}\n\
         before=$(settings)\n\
         setsid -c {run} <{TERMINAL} >{TERMINAL} &\n\
         pid=$!\n\
         while kill -0 $pid && [ \"$(settings)\" = \"$before\" ]; do sleep 0.1; done\n\
         meanwhile=$(settings)\n\
         sleep 2\n\
         kill $pid\n\
         wait $pid\n\
         code=$?\n\
         echo $before\n\
         echo $meanwhile\n\
         settings\n\
         exit $code\n"
    )
}

fn terminal(done: &Done) -> Result<()> {
    code_is(done, code::TERMINATED)?;
    let settings: Vec<_> = done.stdout.lines().collect();
    let [before, meanwhile, after] = settings[..] else {
        bail!("the terminal has no settings");
    };
    ensure!(before.contains(':'), "`stty` does not work there: {before}");
    ensure!(before != meanwhile, "the terminal was not used");
    ensure!(before == after, "the settings changed\n  from {before}\n  to   {after}");
    Ok(())
}

/// The program itself must not be what dies.
fn unharmed(done: &Done) -> Result<()> {
    let panicked = done.stderr.contains("panicked at");
    ensure!(!panicked, "the program panicked{}", said(done));
    ensure!(!done.timed_out, "it did not end within {PART} s{}", said(done));
    Ok(())
}

/// The end of what a part printed, for an error.
fn said(done: &Done) -> String {
    let (console, words) = (proc::tail(&done.stdout, 12), proc::tail(&done.stderr, 8));
    format!("\n--- console\n{console}\n--- standard error\n{words}\n---")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(code: i32, stdout: &str, stderr: &str) -> Done {
        Done { code, stdout: stdout.into(), stderr: stderr.into(), seconds: 1.0, timed_out: false }
    }

    #[test]
    fn only_a_backend_that_works_is_listed_as_such() {
        let table = |works: &str| {
            format!("BACKEND GUESTS WORKS\nsoft riscv64 yes\nkvm  x86_64  {works}  x\n")
        };
        listed(&done(0, &table("yes"), "")).unwrap();
        assert!(listed(&done(0, &table("no"), "")).is_err());
        assert!(listed(&done(1, &table("yes"), "")).is_err());
        assert!(listed(&done(0, "soft riscv64 yes\n", "")).is_err());
    }

    #[test]
    fn a_refusal_is_one_line() {
        refused(&done(2, "", "axvcpu: there is no /dev/kvm\n")).unwrap();
        for (code, stdout, stderr) in
            [(0, "", "no /dev/kvm"), (2, "", "a\n/dev/kvm"), (5, "Linux", "/dev/kvm"), (2, "", "")]
        {
            assert!(refused(&done(code, stdout, stderr)).is_err());
        }
    }

    #[test]
    fn the_terminal_must_have_been_used_and_restored() {
        let judge = |code, stdout: &str| terminal(&done(code, stdout, ""));
        judge(143, "1:a\n2:b\n1:a\n").unwrap();
        for (code, stdout) in
            [(0, "1:a\n2:b\n1:a\n"), (143, "1:a\n1:a\n1:a\n"), (143, "1:a\n2:b\n2:b\n"), (143, "")]
        {
            assert!(judge(code, stdout).is_err(), "{stdout:?}");
        }
    }

    #[test]
    fn a_suite_that_died_has_no_result() {
        let text = "kvm:\n  a  ok\n1 passed, 0 failed\n";
        assert_eq!(conformance(&done(0, text, "")).unwrap().passed, 1);
        assert!(conformance(&done(137, text, "")).is_err());
        assert!(conformance(&done(0, "", "")).is_err());
        assert!(conformance(&done(101, text, "thread panicked at x")).is_err());
    }
}
