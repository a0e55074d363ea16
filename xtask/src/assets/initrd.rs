//! Initial file systems: a `newc` cpio archive (cpio(5); the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`) with busybox
//! and a start script, the same bytes for the same content every time.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{store, write_whole};
use crate::arch::Arch;

/// Printed before anything else by the start script.
pub(crate) const BEGIN: &str = "AXVCPU-GUEST: begin";
/// Printed before powering off: everything before it worked.
pub(crate) const END: &str = "AXVCPU-GUEST: end";
/// Printed with the number of processors the guest's kernel runs on.
pub(crate) const CPUS: &str = "AXVCPU-GUEST: cpus";
/// Printed with the SHA-256 of the known file.
pub(crate) const SHA256: &str = "AXVCPU-GUEST: sha256";
/// Printed in front of the shell's prompt.
pub(crate) const SHELL: &str = "AXVCPU-GUEST: shell";
/// Printed before the output of a caller's script.
pub(crate) const SCRIPT_BEGIN: &str = "AXVCPU-GUEST: script begin";
/// Printed after the output of a caller's script.
pub(crate) const SCRIPT_END: &str = "AXVCPU-GUEST: script end";

/// The SHA-256 of [`known_file`].
pub(crate) const KNOWN_SHA256: &str =
    "6464de52d6f29fd5b36bd2d833b89f39f2432814531e25b26cf820ea3d2b2316";

/// Kernel parameters that choose what the start script does; without one it
/// shows the demonstration and powers off.
pub(crate) mod mode {
    /// A shell on the console; leaving it powers off.
    pub(crate) const SHELL: &str = "axvcpu.mode=shell";
    /// The demonstration, then a reset instead of power-off.
    pub(crate) const REBOOT: &str = "axvcpu.mode=reboot";
    /// A kernel panic, which the parameter `panic=-1` turns into a reset.
    pub(crate) const PANIC: &str = "axvcpu.mode=panic";
}

/// The tools that exist as commands of their own in the guest.
const APPLETS: [&str; 33] = [
    "awk",
    "cat",
    "cttyhack",
    "cut",
    "date",
    "dd",
    "dmesg",
    "echo",
    "free",
    "grep",
    "head",
    "kill",
    "ls",
    "mkdir",
    "mount",
    "nproc",
    "poweroff",
    "ps",
    "reboot",
    "rm",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stty",
    "tail",
    "tr",
    "uname",
    "uptime",
    "wc",
];

/// What the guest does first. The power button of last resort is the end of the
/// script: a start process that ends makes the kernel panic, which is seen.
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
export HOME=/ PATH=/bin TERM=linux
mode=demo
for word in $(cat /proc/cmdline); do
  case $word in axvcpu.mode=*) mode=${word#*=} ;; esac
done

echo '@BEGIN@'
uname -a
echo \"@CPUS@ $(grep -c '^processor' /proc/cpuinfo)\"
# Reads the clock without the kernel's help, which a hart can get wrong.
busybox time true 2>/dev/null || exit 1
uptime
sum=$(sha256sum /known)
echo \"@SHA256@ ${sum%% *}\"
case $mode in
shell)
  echo '@SHELL@'
  setsid cttyhack sh
  ;;
panic)
  echo c >/proc/sysrq-trigger
  ;;
esac
if [ -f /script ]; then
  echo '@SCRIPT_BEGIN@'
  sh /script 2>&1
  echo '@SCRIPT_END@'
fi
echo '@END@'
case $mode in
reboot) reboot -f ;;
*) poweroff -f ;;
esac
sleep 60
";

/// Bytes of the known file.
const KNOWN_LEN: usize = 256 * 1024;

/// The content of `/known`: a fixed pseudo-random sequence (xorshift64), long
/// enough that the guest's hash of it exercises its arithmetic.
fn known_file() -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(KNOWN_LEN);
    while bytes.len() < KNOWN_LEN {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// Builds the initial file system around `busybox` and returns its path. With a
/// `script`, `/init` runs it and prints its output between [`SCRIPT_BEGIN`] and
/// [`SCRIPT_END`]; `name` keeps several such archives for `arch` apart.
pub(crate) fn build(
    busybox: &Path,
    arch: Arch,
    name: &str,
    script: Option<&str>,
) -> Result<PathBuf> {
    let file = store().join(format!("initrd-{arch}-{name}.cpio"));
    write_whole(&file, &archive(&read(busybox)?, script))?;
    Ok(file)
}

/// A file that an initial file system has besides busybox.
pub(crate) struct Extra {
    /// Where it is, without a slash in front.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    pub(crate) executable: bool,
}

impl Extra {
    /// A file made here.
    pub(crate) fn text(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into(), executable: false }
    }

    /// A copy of `file`, which is a program or something that nobody runs.
    pub(crate) fn copy(path: impl Into<String>, file: &Path, executable: bool) -> Result<Self> {
        Ok(Self { path: path.into(), content: read(file)?, executable })
    }
}

/// Writes an initial file system with `init` as its start script and files of the caller's into `file`.
pub(crate) fn with_init(busybox: &Path, file: &Path, init: &str, extras: &[Extra]) -> Result<()> {
    let mut cpio = base(&read(busybox)?, init);
    cpio.extras(extras);
    write_whole(file, &cpio.finish())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn archive(busybox: &[u8], script: Option<&str>) -> Vec<u8> {
    let init = [
        ("@BEGIN@", BEGIN),
        ("@END@", END),
        ("@CPUS@", CPUS),
        ("@SHA256@", SHA256),
        ("@SHELL@", SHELL),
        ("@SCRIPT_BEGIN@", SCRIPT_BEGIN),
        ("@SCRIPT_END@", SCRIPT_END),
    ]
    .iter()
    .fold(INIT.to_owned(), |text, (mark, value)| text.replace(mark, value));

    let mut cpio = base(busybox, &init);
    cpio.file("known", 0o644, &known_file());
    if let Some(script) = script {
        cpio.file("script", 0o755, script.as_bytes());
    }
    cpio.finish()
}

/// What every initial file system has: busybox, and `init` to start it.
fn base(busybox: &[u8], init: &str) -> Cpio {
    let mut cpio = Cpio::default();
    for folder in ["bin", "dev", "proc", "sys", "tmp"] {
        cpio.folder(folder);
    }
    cpio.file("bin/busybox", 0o755, busybox);
    for applet in APPLETS {
        cpio.symlink(&format!("bin/{applet}"), "busybox");
    }
    // The kernel opens it as the start process's console before /dev is mounted.
    cpio.character_device("dev/console", 5, 1);
    cpio.character_device("dev/null", 1, 3);
    cpio.file("init", 0o755, init.as_bytes());
    cpio
}

/// A `newc` archive being written. Inode numbers count up and every time stamp
/// is zero, so equal content gives equal bytes.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, 2, (0, 0), &[]);
    }

    fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.entry(name, 0o100_000 | permissions, 1, (0, 0), content);
    }

    /// Adds files, and the folders they are in, one deep, unless [`base`] has those.
    fn extras(&mut self, extras: &[Extra]) {
        let mut folders = vec!["bin"];
        for Extra { path, content, executable } in extras {
            for (end, _) in path.match_indices('/') {
                let folder = &path[..end];
                if !folders.contains(&folder) {
                    folders.push(folder);
                    self.folder(folder);
                }
            }
            self.file(path, if *executable { 0o755 } else { 0o644 }, content);
        }
    }

    fn symlink(&mut self, name: &str, target: &str) {
        self.entry(name, 0o120_777, 1, (0, 0), target.as_bytes());
    }

    fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, 0o020_600, 1, (major, minor), &[]);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, 1, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, links: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        // The format counts in 32 bits; the largest thing here is a busybox.
        assert!(u32::try_from(content.len()).is_ok(), "{name} is too large for the format");
        let fields = [
            self.entries, // inode
            mode,
            0, // user
            0, // group
            links,
            0, // time of last change
            content.len() as u32,
            0, // device the file is on
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0, // checksum, unused in this variant
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents each end on a multiple of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Reads an archive back: (name, mode, content) of each entry.
    fn entries(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let total = bytes.len();
        loop {
            let (header, rest) = bytes.split_at(110);
            assert_eq!(&header[..6], b"070701");
            let field = |n: usize| {
                let digits = std::str::from_utf8(&header[6 + n * 8..14 + n * 8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap() as usize
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = String::from_utf8(rest[..name_size - 1].to_vec()).unwrap();
            assert_eq!(rest[name_size - 1], 0);
            let position = |bytes: &[u8]| total - bytes.len();
            let skip = (position(rest) + name_size).next_multiple_of(4) - position(rest);
            let content = rest[skip..skip + size].to_vec();
            let after = &rest[skip..];
            let skip = (position(after) + size).next_multiple_of(4) - position(after);
            bytes = &after[skip..];
            if name == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push((name, mode as u32, content));
        }
    }

    #[test]
    fn an_archive_reads_back_as_it_was_written() {
        let entries = entries(&archive(b"program", Some("echo hello\n")));
        let find = |name: &str| entries.iter().find(|entry| entry.0 == name).unwrap();
        assert_eq!(find("bin/busybox"), &("bin/busybox".into(), 0o100_755, b"program".to_vec()));
        assert_eq!(find("bin/sh"), &("bin/sh".into(), 0o120_777, b"busybox".to_vec()));
        assert_eq!(find("dev/console").1, 0o020_600);
        assert_eq!(find("script").2, b"echo hello\n");
        let init = String::from_utf8(find("init").2.clone()).unwrap();
        assert!(init.contains(BEGIN) && init.contains(END) && !init.contains('@'), "{init}");
    }

    #[test]
    fn files_of_the_caller_s_have_their_folders() {
        let mut cpio = base(b"program", "#!/bin/sh\n");
        let program = Extra { path: "bin/x".into(), content: b"x".to_vec(), executable: true };
        cpio.extras(&[program, Extra::text("parts/0", "a"), Extra::text("parts/1", "b")]);
        let entries = entries(&cpio.finish());
        let find = |name: &str| entries.iter().filter(|entry| entry.0 == name).collect::<Vec<_>>();
        assert_eq!((find("bin").len(), find("parts").len()), (1, 1));
        assert_eq!(find("bin/x"), [&("bin/x".into(), 0o100_755, b"x".to_vec())]);
        assert_eq!(find("parts/1"), [&("parts/1".into(), 0o100_644, b"b".to_vec())]);
        assert_eq!(find("init")[0].2, b"#!/bin/sh\n");
        assert!(find("known").is_empty());
    }

    #[test]
    fn equal_content_gives_equal_bytes() {
        assert_eq!(archive(b"x", None), archive(b"x", None));
        assert_ne!(archive(b"x", None), archive(b"y", None));
    }

    #[test]
    fn every_tool_the_start_script_uses_is_there() {
        for tool in ["mount", "cat", "uname", "grep", "uptime", "sha256sum", "setsid", "cttyhack"] {
            assert!(APPLETS.contains(&tool), "{tool}");
        }
        assert!(APPLETS.windows(2).all(|pair| pair[0] < pair[1]), "sorted, none twice");
    }

    #[test]
    fn the_known_hash_is_the_known_file_s() {
        use std::io::Write as _;
        let mut command = Command::new("sha256sum");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = crate::proc::spawn(command).unwrap();
        child.stdin.take().unwrap().write_all(&known_file()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.split(' ').next(), Some(KNOWN_SHA256));
    }
}
