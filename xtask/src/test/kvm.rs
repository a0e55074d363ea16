//! temporary
use super::Report;
use crate::l1;
use anyhow::Result;
use std::time::Duration;

pub(super) fn run(report: &mut Report, _quick: bool) -> Result<()> {
    let mut machine = l1::Machine::prepare()?;
    machine.add("bin/conformance", crate::fixed::test("axvcpu-conformance", "soft")?);
    let part = |script: &str, limit| l1::Part { script: script.into(), limit };
    let run = l1::run(
        &machine,
        "l1",
        2,
        &[
            part(
                "ls -l /dev/kvm; dmesg | grep -i -E 'kvm|svm'; lsmod; nproc; free -m; ls -l /dev/ttyS*; which su killall timeout; id",
                20,
            ),
            part("axvcpu backends; exit 5", 20),
            part("sleep 100", 3),
            part("su nobody -s /bin/sh -c 'id; cat /dev/kvm'", 20),
            part("exec conformance --nocapture --test-threads=1", 100),
        ],
        Duration::from_secs(200),
    )?;
    for d in &run.done {
        eprintln!("{d:?}");
    }
    eprintln!("boot {} {}", run.boot, run.ended);
    report.check("x", Ok(()));
    Ok(())
}
