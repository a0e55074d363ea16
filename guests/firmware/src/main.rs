//! Writes the guests as flat binaries, and says what is expected of them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use axvcpu_guest_firmware::{Arch, MEMORY, guests};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Writes guests that call their firmware with everything")]
struct Arguments {
    /// What they are made for: riscv64, aarch64 or x86_64
    arch: String,
    /// The folder for the flat binaries, which are named in a list on standard output: memory of their machine in bytes,
    /// its CPUs, its exit status, the file, and the last line that the guest prints, with tabs between them
    folder: PathBuf,
    /// Instead says which call the last line of this guest is about
    #[arg(long, num_args = 2, value_names = ["GUEST", "LINE"])]
    explain: Option<Vec<String>>,
}

fn main() -> Result<()> {
    let Arguments { arch, folder, explain } = Arguments::parse();
    let arch = Arch::named(&arch).context("give riscv64, aarch64 or x86_64")?;
    let guests = guests(arch).map_err(|error| anyhow!("{error}"))?;
    if let Some([name, line]) = explain.as_deref() {
        let guest = guests.iter().find(|guest| guest.name == *name);
        let Some(call) = guest.and_then(|guest| guest.call(line)) else {
            bail!("no call of {name} is in this line");
        };
        println!("{call}");
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    for guest in guests {
        let file = folder.join(&guest.name);
        fs::write(&file, &guest.image)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let (cpus, status, last) = (guest.cpus, guest.status, guest.last);
        println!("{MEMORY}\t{cpus}\t{status}\t{}\t{last}", file.display());
    }
    Ok(())
}
