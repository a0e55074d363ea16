//! A machine in QEMU whose operating system has KVM: Debian on an emulated processor with virtualization, where
//! `axvcpu` runs guests of its own.
//!
//! KVM inside of it is complete, whatever the machine below has, and it is the same everywhere. It is slow: each
//! instruction of the guest's guest is emulated, and so is each of KVM's.
//!
//! The machine's first serial port has its kernel's messages, which go to a file. The second one is this program's: what
//! is run in the machine is a script, whose input and output that port is. A third one is a terminal for tests.

mod parts;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

pub(crate) use self::parts::{Done, Part, run};
use crate::arch::Arch;
use crate::assets::guest::{self, Guest};
use crate::assets::initrd::{self, Extra};
use crate::assets::qemu::{self, Qemu};
use crate::assets::store;
use crate::{fixed, proc};

/// The processor's: what guests of guests are made for.
const ARCH: Arch = Arch::X86_64;

/// The machine's processor: everything QEMU can emulate, with virtualization as AMD has it.
const CPU: &str = "max";

/// Bytes of memory: for a guest of the usual size, several times, and for the rest of the machine, whose files lie in
/// memory twice while they are unpacked.
const MEMORY: u64 = 3 << 30;
const OWN: u64 = 1 << 30;

/// The machine's kernel parameters. It is not what is tested, and attacks on it are none of its worries; its messages
/// would only take time. Without messages the reason of a panic is still there.
const APPEND: &str = "console=ttyS0 loglevel=4 panic=-1 mitigations=off";

/// The port that the script has, and the one that is a terminal.
pub(crate) const PORT: &str = "/dev/ttyS1";
pub(crate) const TERMINAL: &str = "/dev/ttyS2";

/// What the machine does first: `/script`, with KVM, and then it is done.
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
export HOME=/ PATH=/bin TERM=linux
busybox --install -s /bin
for module in /modules/*; do
  insmod $module || echo \"$module was not loaded\" >/dev/console
done
sh /script <@PORT@ >@PORT@ 2>&1
poweroff -f
sleep 60
";

/// What it takes to run the machine.
pub(crate) struct Machine {
    qemu: Qemu,
    guest: Guest,
    /// Programs and files in it, besides the script.
    files: Vec<(String, PathBuf)>,
    memory: u64,
    /// The processor, in QEMU's words.
    pub(crate) cpu: String,
}

impl Machine {
    /// Fetches and builds the machine and the program `axvcpu`.
    ///
    /// # Errors
    ///
    /// Fails when something cannot be had here; the message says what to do.
    pub(crate) fn prepare() -> Result<Self> {
        fixed::can_build()?;
        let (qemu, guest) = (qemu::fetch(ARCH)?, guest::fetch(ARCH)?);
        let axvcpu = fixed::program("axvcpu-cli", "axvcpu")?;
        let files = vec![("bin/axvcpu".into(), axvcpu)];
        Ok(Self { qemu, guest, files, memory: MEMORY, cpu: CPU.into() })
    }

    /// Puts `file` into the machine; what is in `bin` is a program.
    pub(crate) fn add(&mut self, path: impl Into<String>, file: PathBuf) {
        self.files.push((path.into(), file));
    }

    /// Puts a QEMU into the machine, in the folder `qemu`, if this program has fetched one. Answers how it is started.
    ///
    /// # Errors
    ///
    /// Fails when its files cannot be listed.
    pub(crate) fn add_qemu(&mut self) -> Result<Option<&'static str>> {
        let Some(files) = self.qemu.portable()? else { return Ok(None) };
        for (name, file) in files {
            let place = if name == "loader" { "bin/loader".into() } else { format!("qemu/{name}") };
            self.add(place, file);
        }
        Ok(Some("loader --library-path /qemu/lib /qemu/qemu -L /qemu/share"))
    }

    /// Gives the machine memory for a guest with so much, in bytes.
    pub(crate) fn make_room_for(&mut self, guest: u64) {
        self.memory = self.memory.max(guest.saturating_add(OWN));
    }

    /// QEMU's command line for the machine with this script and files for it, up to what is at the script's port.
    /// `name` keeps what belongs to one use of it apart from others.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be read or written.
    pub(crate) fn command(
        &self,
        name: &str,
        cpus: u32,
        script: &str,
        more: Vec<Extra>,
    ) -> Result<Command> {
        let mut extras = vec![
            Extra::text("script", script),
            // For `su`.
            Extra::text("etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
            Extra::text("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ];
        extras.extend(more);
        for (index, module) in self.guest.modules.iter().enumerate() {
            let file = module.file_name().unwrap_or_default().to_string_lossy();
            // In order.
            extras.push(Extra::copy(format!("modules/{index:02}-{file}"), module, false)?);
        }
        for (path, file) in &self.files {
            extras.push(Extra::copy(path, file, path.starts_with("bin/"))?);
        }
        let init = INIT.replace("@PORT@", PORT);
        let initrd = initrd(name);
        initrd::with_init(&self.guest.busybox, &initrd, &init, &extras)?;

        let mut command = proc::dies_with_us(&self.qemu.system);
        command.args(["-accel", "tcg", "-M", "q35", "-cpu", &self.cpu]);
        command.args(["-m", &format!("{}K", self.memory >> 10)]);
        // Without the devices that a machine has if nobody says otherwise.
        command.args(["-smp", &cpus.to_string(), "-nodefaults", "-display", "none"]);
        command.args(["-no-reboot", "-append", APPEND]);
        command.arg("-kernel").arg(&self.guest.kernel).arg("-initrd").arg(initrd);
        let messages = messages(name);
        let folder = messages.parent().context("a file needs a folder")?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let mut port = std::ffi::OsString::from("file:");
        port.push(messages);
        command.arg("-serial").arg(port);
        Ok(command)
    }
}

/// Where the machine's initial file system is.
pub(crate) fn initrd(name: &str) -> PathBuf {
    store().join(format!("initrd-l1-{name}.cpio"))
}

/// Where the machine's kernel's messages are.
pub(crate) fn messages(name: &str) -> PathBuf {
    store().join("logs").join(format!("{name}-kernel.log"))
}

/// The end of those messages, for an error.
fn last_messages(name: &str) -> String {
    let bytes = std::fs::read(messages(name)).unwrap_or_default();
    proc::tail(&String::from_utf8_lossy(&bytes).replace('\r', ""), 12)
}

/// `word` for a shell, whatever is in it.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
