//! Which backends there are, and whether they work on this machine.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::args::Backend;
use crate::report::Failure;

const KVM: &str = "/dev/kvm";

/// Prints the table of `axvcpu backends`.
pub(crate) fn print() -> Result<(), Failure> {
    let rows = [
        ["BACKEND".into(), "GUESTS".into(), "WORKS".into(), "".into()],
        ["soft".into(), "riscv64".into(), "yes".into(), format!("ISA {}", axvcpu_soft::ISA)],
        [
            "kvm".into(),
            std::env::consts::ARCH.into(),
            "no".into(),
            format!("not built in yet; {}", kvm_device(Path::new(KVM))),
        ],
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

/// Whether the backend the user asked for can be had.
pub(crate) fn check(backend: Backend) -> Result<(), Failure> {
    match backend {
        Backend::Auto | Backend::Soft => Ok(()),
        Backend::Kvm => Err(Failure::Usage(format!(
            "the kvm backend is not built in yet ({}); use --backend soft",
            kvm_device(Path::new(KVM))
        ))),
    }
}

/// What stands in the way of using KVM, seen from here.
fn kvm_device(path: &Path) -> String {
    let path_shown = path.display();
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => format!("{path_shown} exists and may be opened"),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => format!("there is no {path_shown}"),
            io::ErrorKind::PermissionDenied => {
                format!("{path_shown} exists, but may not be opened (often: join the group kvm)")
            }
            _ => format!("{path_shown} cannot be opened: {error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_reported_as_it_is() {
        assert!(kvm_device(Path::new("/dev/null")).ends_with("/dev/null exists and may be opened"));
        assert_eq!(kvm_device(Path::new("/dev/null/kvm")), {
            let error = io::Error::from_raw_os_error(libc::ENOTDIR);
            format!("/dev/null/kvm cannot be opened: {error}")
        });
        assert_eq!(kvm_device(Path::new("/nowhere/kvm")), "there is no /nowhere/kvm");
    }
}
