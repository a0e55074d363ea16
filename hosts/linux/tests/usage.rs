//! Everything a user can get wrong: one line that says what is wrong, status 2, and nothing was started.

mod common;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use common::guests::{self, Reset};
use common::{Done, axvcpu, file, run};

#[track_caller]
fn refused(done: &Done, expected: &str) {
    assert_eq!(done.code(), 2, "{done:?}");
    assert_eq!(done.stdout, "");
    let line = done.stderr.strip_suffix('\n').unwrap();
    assert!(line.starts_with("axvcpu: ") && !line.contains(char::is_control), "{line:?}");
    assert!(line.contains(expected), "{line:?} does not say {expected:?}");
}

#[track_caller]
fn refuses(arguments: &[&str], expected: &str) {
    refused(&run(&mut axvcpu(arguments)), expected);
}

fn magic(bytes: &[u8], offset: usize) -> Vec<u8> {
    let mut file = vec![0; 4096];
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
    file
}

fn elf(machine: u16) -> Vec<u8> {
    let mut file = magic(b"\x7fELF\x02\x01\x01", 0);
    file[0x12..0x14].copy_from_slice(&machine.to_le_bytes());
    file
}

fn bzimage() -> Vec<u8> {
    let mut file = magic(b"HdrS", 0x202);
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file
}

fn good() -> String {
    file("good", &guests::hello(Reset::Shutdown, false))
}

#[test]
fn options() {
    let good = good();
    let k = good.as_str();
    for (arguments, expected) in [
        (&[][..], "give a command: axvcpu run --kernel FILE"),
        (&["no-such-command"], "unrecognized subcommand 'no-such-command'"),
        (&["run"], "--kernel <FILE>"),
        (&["run", "--kernel"], "a value is required for '--kernel <FILE>'"),
        (&["run", "--kernel", k, "--no-such-option"], "unexpected argument '--no-such-option'"),
        (&["run", "--kernel", k, "--memroy", "1G"], "a similar argument exists: '--memory'"),
        (&["run", "--kernel", k, "--cpus", "0"], "'--cpus <N>': give a number from 1 to 8"),
        (&["run", "--kernel", k, "--cpus", "9"], "'--cpus <N>': give a number from 1 to 8"),
        (&["run", "--kernel", k, "--cpus", "abc"], "'--cpus <N>': give a number from 1 to 8"),
        (&["run", "--kernel", k, "--memory", "0"], "a guest needs at least 4M"),
        (&["run", "--kernel", k, "--memory", "512"], "sizes without K, M or G are bytes"),
        (&["run", "--kernel", k, "--memory", "1T"], "such as 512M"),
        (&["run", "--kernel", k, "--memory", "300G"], "at most 256G"),
        (&["run", "--kernel", k, "--memory", "99999999999999999999G"], "at most 256G"),
        (&["run", "--kernel", k, "--memory", "5000001K"], "multiple of 4K"),
        (&["run", "--kernel", k, "--backend", "none-such"], "possible values: auto, soft, kvm"),
        (&["run", "--kernel", k, "--clock", "sundial"], "possible values: host, instructions"),
        (&["run", "--kernel", k, "--summary", "xml"], "possible values: text, json, none"),
        (&["run", "--kernel", k, "--quiet", "--summary", "json"], "cannot be used with"),
        (&["backends", "stray"], "unexpected argument 'stray'"),
    ] {
        refuses(arguments, expected);
    }
    refuses(&["run", "--kernel", k, "--append", &"x".repeat(1024)], "1024 bytes, but Linux reads");
    let mut command = axvcpu(&["run", "--kernel", k, "--append"]);
    refused(&run(command.arg(std::ffi::OsStr::from_bytes(b"\xff"))), "invalid UTF-8");
}

#[test]
fn files() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let socket = format!("{folder}/socket-{}", std::process::id());
    let _listener = UnixListener::bind(&socket).unwrap();
    let empty = file("empty", b"");
    let good = good();
    let beneath = format!("{good}/beneath");
    for (path, expected) in [
        ("/no/such/file", "'/no/such/file' does not exist"),
        ("/no/such/\x1b[2J\n/file", r"'/no/such/\u{1b}[2J\n/file' does not exist"),
        (beneath.as_str(), "cannot be read: Not a directory"),
        (folder, "is a directory; give a file"),
        ("/dev/zero", "is a device or socket; give a file"),
        (&socket, "is a device or socket; give a file"),
        ("/proc/self/mem", "cannot be read: Input/output error"),
        (&empty, "is empty"),
    ] {
        refuses(&["run", "--kernel", path], expected);
        refuses(&["run", "--kernel", &good, "--initrd", path], expected);
    }
    std::fs::remove_file(Path::new(&socket)).unwrap();
}

#[test]
fn kernels() {
    for (name, content, expected) in [
        ("arm64", magic(b"ARM\x64", 0x38), "arm64"),
        ("arm64-elf", elf(183), "ELF"),
        ("unknown-elf", elf(0xfade), "64222"),
        ("gzip", magic(b"\x1f\x8b\x08", 0), "compressed with gzip: decompress it first"),
        ("xz", magic(b"\xfd7zXZ\0", 0), "compressed with xz: decompress it first"),
        ("zstd", magic(b"\x28\xb5\x2f\xfd", 0), "compressed with zstd: decompress it first"),
        ("initrd", magic(b"070701", 0), "a cpio archive: it looks like an initrd"),
        ("zboot", magic(b"MZ\0\0zimg", 0), "EFI"),
        ("fit", magic(b"\xd0\x0d\xfe\xed", 0), "device tree"),
        ("cut-elf", b"\x7fELF\x02\x01".to_vec(), ""),
    ] {
        let path = file(name, &content);
        refuses(&["run", "--kernel", &path], expected);
        refuses(&["run", "--kernel", &path], &format!("kernel '{path}': "));
    }
    let bzimage = file("bzimage", &bzimage());
    let x86_elf = file("x86-elf", &elf(62));
    // What is in it is looked at where something could run it.
    let backends = run(&mut axvcpu(&["backends"])).stdout;
    let works = backends.lines().any(|line| line.starts_with("kvm") && line.contains(" yes "));
    let why = if works {
        "its boot protocol is older than 2.12"
    } else {
        "the kvm backend, which x86 kernels need"
    };
    refuses(&["run", "--kernel", &bzimage], why);
    let never = "a Linux bzImage for x86: the guest is RISC-V";
    refuses(&["run", "--backend", "soft", "--kernel", &bzimage], never);
    let never = "an ELF program for x86-64: the guest is RISC-V (riscv64)";
    refuses(&["run", "--backend", "soft", "--kernel", &x86_elf], never);
    let image = file("riscv-image", &magic(b"RSC\x05", 0x38));
    let never = "a Linux Image for RISC-V: the guest is x86-64";
    refuses(&["run", "--backend", "kvm", "--kernel", &image], never);
}

#[test]
fn what_does_not_fit_into_memory() {
    let good = good();
    let large = file("large", &vec![1; 9 << 20]);
    for (arguments, expected) in [
        (
            &["run", "--memory", "8M", "--kernel", &large][..],
            "(9437184 bytes) does not fit into 8M of memory",
        ),
        (&["run", "--memory", "8M", "--kernel", &good, "--initrd", &large], "does not fit into 8M"),
        // Fits by its size alone, but not behind everything else.
        (&["run", "--memory", "10M", "--kernel", &large], ""),
        (&["run", "--memory", "10M", "--kernel", &good, "--initrd", &large], ""),
    ] {
        refuses(arguments, expected);
        refuses(arguments, "raise --memory");
    }
    // A Linux header that asks for more than there is, and one that asks for everything.
    for size in [64 << 20, u64::MAX] {
        let mut kernel = magic(b"RSC\x05", 0x38);
        kernel[8..16].copy_from_slice(&0x20_0000u64.to_le_bytes());
        kernel[16..24].copy_from_slice(&size.to_le_bytes());
        refuses(&["run", "--memory", "32M", "--kernel", &file("huge", &kernel)], "");
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    for (arguments, expected) in [
        (&["--help"][..], "Exit status"),
        (&["run", "--help"], "Ctrl-A x"),
        (&["--version"], "axvcpu "),
        (&["help"], "backends"),
    ] {
        let done = run(&mut axvcpu(arguments));
        assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
        assert!(done.stdout.contains(expected), "{}", done.stdout);
    }
}

#[test]
fn backends_says_what_works() {
    let done = run(&mut axvcpu(&["backends"]));
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
    let row = |name: &str| done.stdout.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("soft").contains("yes") && row("soft").contains("rv64ima"));
    let device = Path::new("/dev/kvm").exists();
    assert_eq!(
        row("kvm").contains("there is no /dev/kvm"),
        !device && cfg!(target_arch = "x86_64")
    );
    let works = row("kvm").split_whitespace().nth(2).unwrap();
    assert_eq!(works == "yes", row("kvm").contains("CPUs recommended"), "{}", row("kvm"));
}
