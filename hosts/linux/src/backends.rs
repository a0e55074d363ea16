//! Which backends there are, and whether they work on this machine.

use std::io::{self, Write};

use crate::board::Engine;
use crate::report::Failure;

/// What there is to say on processors that the backend is not for.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const NO_KVM: &str = "the kvm backend is for x86-64 machines";

/// Prints the table of `axvcpu backends`.
pub(crate) fn print() -> Result<(), Failure> {
    let (works, remark) = kvm();
    let rows = [
        ["BACKEND".into(), "GUESTS".into(), "WORKS".into(), "".into()],
        ["soft".into(), "riscv64".into(), "yes".into(), format!("ISA {}", axvcpu_soft::ISA)],
        ["kvm".into(), "x86_64".into(), works.into(), remark],
    ];
    let widths: [usize; 3] =
        std::array::from_fn(|column| rows.iter().map(|row: &[String; 4]| row[column].len()).max())
            .map(Option::unwrap_or_default);
    let mut table = String::new();
    for [name, guests, works, remark] in rows {
        let line = format!(
            "{name:0$}  {guests:1$}  {works:2$}  {remark}",
            widths[0], widths[1], widths[2]
        );
        table += line.trim_end();
        table.push('\n');
    }
    match io::stdout().write_all(table.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::host("standard output", error))
        }
        _ => Ok(()), // whoever closed the pipe has read what he wanted
    }
}

/// Whether KVM works here, and what else there is to say of it.
#[cfg(target_arch = "x86_64")]
fn kvm() -> (&'static str, String) {
    use axvcpu_kvm::Kvm;
    use axvcpu_kvm::bindings::{KVM_CAP_MAX_VCPUS, KVM_CAP_NR_VCPUS};
    match Kvm::open().and_then(|kvm| kvm.check_irqchip().map(|()| kvm)) {
        Ok(kvm) => {
            let (good, most) = (KVM_CAP_NR_VCPUS, KVM_CAP_MAX_VCPUS);
            let (good, most) = (kvm.capability(good), kvm.capability(most));
            ("yes", format!("{good} CPUs recommended, {most} at most"))
        }
        Err(error) => ("no", error.to_string()),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn kvm() -> (&'static str, String) {
    ("no", NO_KVM.into())
}

/// Whether what is to run the guest works here.
pub(crate) fn check(engine: Engine) -> Result<(), Failure> {
    match engine {
        Engine::Soft => Ok(()),
        #[cfg(target_arch = "x86_64")]
        Engine::Kvm => axvcpu_kvm::Kvm::open().map(drop).map_err(|error| no_kvm(&error)),
        #[cfg(not(target_arch = "x86_64"))]
        Engine::Kvm => Err(Failure::Usage(NO_KVM.into())),
    }
}

/// Why KVM does not run a guest.
#[cfg(target_arch = "x86_64")]
pub(crate) fn no_kvm(error: &axvcpu_kvm::KvmError) -> Failure {
    Failure::Usage(format!("the kvm backend, which x86 kernels need, does not work here: {error}"))
}
