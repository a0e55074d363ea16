//! The other opinion: QEMU's user-mode emulation.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, bail};
use axvcpu_differential::image::Image;
use axvcpu_differential::layout;

use crate::elf;

/// A batch takes a fraction of a second; something is wrong with one that takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to call QEMU.
#[derive(Clone)]
pub(crate) struct Qemu {
    program: String,
    arguments: Vec<String>,
}

impl Qemu {
    /// From a command line, split at spaces.
    pub(crate) fn new(command: &str) -> Self {
        let mut words = command.split_whitespace().map(str::to_owned);
        Self { program: words.next().unwrap_or_default(), arguments: words.collect() }
    }

    /// QEMU's version; the error says why it cannot be run.
    pub(crate) fn version(&self) -> anyhow::Result<String> {
        let output = Command::new(&self.program)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {:?}", self.program))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    /// What the programs in `image` write. Less than they should if QEMU ended early, which is no error here.
    pub(crate) fn run(&self, image: &Image) -> anyhow::Result<Vec<u8>> {
        let memory = layout::END - layout::BASE;
        let file = Temporary::new()?;
        let elf = elf::executable(layout::BASE, image.user_entry, &image.bytes, memory);
        fs::write(&file.0, elf).with_context(|| format!("cannot write {}", file.0.display()))?;
        let mut command = self.command();
        run(command.arg(&file.0))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }

    /// Runs `image` as the kernel of a machine, which this QEMU emulates, until it resets itself, and answers
    /// `size` bytes of the machine's memory.
    pub(crate) fn run_kernel(&self, image: &[u8], size: usize) -> anyhow::Result<Vec<u8>> {
        /// The hart, with what the software hart has: see `axvcpu_soft::ISA`.
        const CPU: &str = "rv64i,m=on,a=on,f=on,d=on,c=on,s=on,u=on,zicntr=on,zicsr=on,zifencei=on,\
            zba=on,zbb=on,zbs=on,sstc=on,svade=on,sv57=on,mmu=on,pmp=on";
        const MEMORY: &str = "128M";

        let (kernel, ram) = (Temporary::new()?, Temporary::new()?);
        fs::write(&kernel.0, image).context("cannot write the image")?;
        // Memory in a file is still there when the machine is not.
        let backend = format!(
            "memory-backend-file,id=ram,size={MEMORY},share=on,mem-path={}",
            ram.0.display()
        );
        let mut command = self.command();
        command.args([
            "-M",
            "virt,memory-backend=ram",
            "-m",
            MEMORY,
            "-object",
            &backend,
            "-cpu",
            CPU,
        ]);
        command.args(["-display", "none", "-serial", "none", "-monitor", "none", "-no-reboot"]);
        run(command.args(["-bios", "default", "-kernel"]).arg(&kernel.0))?;
        let mut memory = vec![0; size];
        let mut file = fs::File::open(&ram.0).context("cannot open the machine's memory")?;
        file.read_exact(&mut memory).context("cannot read the machine's memory")?;
        Ok(memory)
    }
}

/// Runs a command, and answers what it writes.
fn run(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let mut pipe = child.stdout.take().context("QEMU has no standard output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        let result = pipe.read_to_end(&mut output).map(|_| output);
        // Nobody listens any more if this took too long.
        let _ = sender.send(result);
    });
    let output = receiver.recv_timeout(PATIENCE);
    if output.is_err() {
        child.kill().context("cannot end QEMU")?;
    }
    child.wait().context("QEMU is lost")?;
    match output {
        Ok(output) => output.context("cannot read QEMU's output"),
        Err(_) => bail!("QEMU has not finished after {} s", PATIENCE.as_secs()),
    }
}

/// A file that goes when its time is over. Linux runs it as a whole, so it cannot be a pipe.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> anyhow::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("axvcpu-differential-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Executables have to be marked as such; the file is nobody else's.
        let mut options = fs::OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o700);
        options
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A destructor has nobody to report to, and the system clears the folder some day.
        let _ = fs::remove_file(&self.0);
    }
}
