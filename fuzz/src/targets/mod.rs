//! The targets.

mod controllers;
mod decode;
mod devices;
mod load;
mod machines;
mod soft;
mod tree;

/// Something that takes any bytes and panics if what it tests does wrong.
pub struct Target {
    /// Its name, which is also that of the folder with its corpus.
    pub name: &'static str,
    /// What it holds the code to.
    pub about: &'static str,
    /// Does it.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "soft",
        about: "the software hart: any code, registers, CSRs and tables; runs are repeatable",
        run: soft::run,
    },
    Target {
        name: "decode_riscv64",
        about: "loads and stores as RISC-V exits tell of them",
        run: decode::riscv64,
    },
    Target {
        name: "decode_aarch64",
        about: "loads and stores as AArch64 exits tell of them",
        run: decode::aarch64,
    },
    Target {
        name: "devices_riscv",
        about: "the registers of the 16550 and of the PLIC",
        run: devices::riscv,
    },
    Target {
        name: "devices_arm",
        about: "the registers of the PL011 and of the GICv3",
        run: devices::arm,
    },
    Target { name: "devices_x86", about: "a PC's I/O ports", run: devices::x86 },
    Target {
        name: "plic",
        about: "the PLIC and its lines, next to a model of it",
        run: controllers::plic,
    },
    Target {
        name: "gic",
        about: "the GICv3 and its lines: what CPU interfaces are told",
        run: controllers::gic,
    },
    Target { name: "sbi", about: "calls of the SBI, from two harts", run: devices::sbi },
    Target { name: "psci", about: "calls of PSCI and SGIs, from two CPUs", run: devices::psci },
    Target {
        name: "tree",
        about: "device trees and command lines of strings that nobody would write",
        run: tree::run,
    },
    Target { name: "load_riscv", about: "kernels for RISC-V: Image, ELF, flat", run: load::riscv },
    Target { name: "load_arm", about: "kernels for AArch64: Image, ELF, flat", run: load::arm },
    Target {
        name: "load_x86",
        about: "kernels for x86-64: bzImage, PVH, ELF, flat",
        run: load::x86,
    },
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
