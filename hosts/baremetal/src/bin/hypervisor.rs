//! The hypervisor: runs the guest that the machine's loader brought, with its console on the serial port.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use axvcpu::{AxMmHal, HostPhysAddr};
use axvcpu_baremetal::{
    Console, Hal, Host, Machine, Mem, print, println, read_input, status, time,
};
use axvcpu_riscv64::{Features, RiscvConfig, RiscvVCpu};
use axvcpu_vmm::riscv::{BuildError, RiscvVm, RiscvVmConfig};
use axvcpu_vmm::{End, RamBacking, Summary};

axvcpu_baremetal::main!(hypervisor);

type VCpu = RiscvVCpu<Hal>;

/// What the hypervisor's command line says.
#[derive(Debug, PartialEq, Eq)]
struct Options<'a> {
    cpus: usize,
    memory: u64,
    summary: Format,
    /// Whoever started the machine knows by it where the guest's output begins and ends; the guest does not know it.
    mark: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    None,
}

impl<'a> Options<'a> {
    fn parse(line: &'a str) -> Result<Self, String> {
        let mut options = Self { cpus: 1, memory: 512 << 20, summary: Format::Text, mark: "" };
        for word in line.split_ascii_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let wrong = || format!("'{word}' is no option of the hypervisor, or has no such value");
            match name {
                "cpus" => options.cpus = value.parse().map_err(|_| wrong())?,
                "memory" => options.memory = parse_size(value).ok_or_else(wrong)?,
                "summary" => {
                    options.summary = match value {
                        "text" => Format::Text,
                        "json" => Format::Json,
                        "none" => Format::None,
                        _ => return Err(wrong()),
                    }
                }
                "mark" => options.mark = value,
                _ => return Err(wrong()),
            }
        }
        Ok(options)
    }
}

/// A number of bytes, with K, M or G for the unit; whole pages.
fn parse_size(text: &str) -> Option<u64> {
    let unit = match text.bytes().last()? {
        b'K' | b'k' => 10,
        b'M' | b'm' => 20,
        b'G' | b'g' => 30,
        _ => 0,
    };
    let digits = if unit == 0 { text } else { &text[..text.len() - 1] };
    let size = digits.parse::<u64>().ok()?.checked_mul(1 << unit)?;
    (size != 0 && size % 4096 == 0).then_some(size)
}

/// What a guest may be told that its harts can do: what they can, if the backend switches the state it comes with.
fn guest_isa(host: &str, features: Features) -> String {
    const KNOWN: [&str; 14] = [
        "zicntr",
        "zicsr",
        "zifencei",
        "zihintpause",
        "zihintntl",
        "zimop",
        "zca",
        "zcb",
        "zcd",
        "zba",
        "zbb",
        "zbc",
        "zbs",
        "zicond",
    ];
    let mut parts = host.split('_');
    let first = parts.next().unwrap_or("");
    let single = first.strip_prefix("rv64").unwrap_or("");
    let mut isa = String::from("rv64");
    for letter in "imafdcv".chars() {
        let has_state = match letter {
            'f' | 'd' => features.fp,
            'v' => features.vlenb != 0,
            _ => true,
        };
        if single.contains(letter) && has_state {
            isa.push(letter);
        }
    }
    for part in parts.filter(|part| KNOWN.contains(part)) {
        isa = isa + "_" + part;
    }
    if features.sstc {
        isa += "_sstc";
    }
    isa
}

/// Guest RAM: frames in a row.
struct Ram {
    at: HostPhysAddr,
    size: u64,
}

impl Ram {
    fn new(size: u64) -> Option<Self> {
        Mem::alloc_ram((size / 4096) as usize).map(|at| Self { at, size })
    }
}

#[allow(unsafe_code)] // an unsafe trait
// SAFETY: frames that were taken for this, identity-mapped, and nobody else's until it is dropped.
unsafe impl RamBacking for Ram {
    fn host_phys(&self) -> HostPhysAddr {
        self.at
    }

    fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        #[allow(unsafe_code)] // gives frames back
        // SAFETY: taken in `new`; the machine drops it after its vCPUs and tables.
        unsafe {
            Mem::dealloc_contiguous(self.at, (self.size / 4096) as usize);
        }
    }
}

/// A line on the console between what the firmware says, the guest's output, and what the hypervisor says at the end.
fn separate(mark: &str) {
    println!("\u{1e}{mark}");
}

fn hypervisor(machine: &'static Machine) -> u8 {
    let refused = |message| {
        println!("axvcpu: {message}");
        status::USAGE
    };
    let options = match Options::parse(machine.bootargs()) {
        Ok(options) => options,
        Err(message) => return refused(message),
    };
    separate(options.mark);
    run(machine, &options).unwrap_or_else(|message| {
        separate(options.mark);
        refused(message)
    })
}

/// Runs the guest; what is wrong with it is told as a message.
fn run(machine: &'static Machine, options: &Options<'_>) -> Result<u8, String> {
    let guest = machine
        .guest()
        .ok_or("no guest: the loader brought no module of the kind multiboot,kernel")?;
    let features = axvcpu_riscv64::features::<Hal>()
        .ok_or("virtualization is off on CPU 0, which cannot be")?;
    let ram = Ram::new(options.memory).ok_or_else(|| {
        format!(
            "this machine has no {} MiB of memory in one piece for a guest",
            options.memory >> 20
        )
    })?;

    let config = RiscvVmConfig {
        cpus: options.cpus,
        isa: &guest_isa(machine.isa(), features),
        mmu_type: if machine.mmu_type().is_empty() { "riscv,sv39" } else { machine.mmu_type() },
        timebase: machine.timebase(),
        kernel: guest.kernel,
        initrd: guest.initrd,
        bootargs: guest.bootargs,
        seed: Some(machine.random()),
        ..RiscvVmConfig::default()
    };
    let start = time::now_ticks();
    let vcpu = RiscvConfig {
        time_offset: 0_u64.wrapping_sub(start),
        timebase: machine.timebase(),
        ..RiscvConfig::new()
    };
    let vm = RiscvVm::<VCpu>::new(&config, Box::new(ram), Arc::new(Console), |_| vcpu, |_| ())
        .map_err(|error| match error {
            BuildError::Kernel(error) => format!("kernel: {error}"),
            error => format!("{error}"),
        })?;
    let vm = Arc::new(vm);

    let typed = Arc::clone(&vm);
    read_input(Some(Box::new(move |bytes| typed.push_console_input(bytes))));
    let began = time::now_ns();
    let host = Host::new(machine);
    machine.on_all_cpus(&|cpu| {
        let own: Vec<usize> = (cpu..options.cpus).step_by(machine.cpus()).collect();
        if !own.is_empty() {
            vm.run_vcpus(&own, &host);
        }
    });
    let wall_ns = time::now_ns() - began;
    read_input(None);

    let end = End::new(vm.outcome(), None);
    let summary = Summary {
        end: &end,
        backend: "riscv64",
        memory: options.memory,
        wall_ns,
        process: None,
        instructions: None,
        stats: &vm.stats(),
        measured: false,
        repeatable: None,
    };
    separate(options.mark);
    match options.summary {
        Format::Text => print!("{}", summary.text()),
        Format::Json => print!("{}", summary.json()),
        Format::None => {}
    }
    Ok(end.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let options = Options::parse("cpus=4  memory=1G mark=5a summary=json").unwrap();
        let expected = Options { cpus: 4, memory: 1 << 30, summary: Format::Json, mark: "5a" };
        assert_eq!(options, expected);
        assert_eq!(Options::parse("").unwrap().memory, 512 << 20);
        for wrong in ["cpus", "cpus=x", "memory=", "memory=1T", "memory=1", "summary=xml", "x=1"] {
            let message = Options::parse(wrong).unwrap_err();
            assert!(message.contains(wrong), "{message}");
        }
    }

    #[test]
    fn a_guest_is_told_what_it_can_have() {
        let host = "rv64imafdcvh_zicbom_zicntr_zicsr_zba_sstc_svadu_smaia";
        let mut features = axvcpu_riscv64::features::<Hal>().unwrap_or_default();
        features.fp = true;
        assert_eq!(guest_isa(host, features), "rv64imafdc_zicntr_zicsr_zba");
        features.vlenb = 16;
        features.sstc = true;
        assert_eq!(guest_isa(host, features), "rv64imafdcv_zicntr_zicsr_zba_sstc");
        features.fp = false;
        assert_eq!(guest_isa("rv64imafdc", features), "rv64imac_sstc");
        assert_eq!(guest_isa("nonsense", features), "rv64_sstc");
    }
}
