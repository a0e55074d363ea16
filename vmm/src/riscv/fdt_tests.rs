//! The device tree, read back.

use super::*;
use crate::RamRange;
use crate::testing::tree::{cells, read};

fn machine(initrd: Option<RamRange>, seed: Option<u64>) -> Machine<'static> {
    Machine {
        cpus: 3,
        isa: "rv64gc_zicntr_zicboz_sstc",
        mmu_type: "riscv,sv48",
        timebase: 12_500_000,
        boot: Boot {
            ram: RamRange { base: 0x8000_0000, size: 0x1_2000_0000 },
            bootargs: "console=ttyS0",
            initrd,
            seed,
        },
    }
}

#[test]
fn what_linux_looks_for() {
    let initrd = Some(RamRange { base: 0x1_9000_0000, size: 0x1234 });
    let tree = read(&build(&machine(initrd, Some(1))).unwrap());
    let get = |path: &str| tree.get(path).unwrap_or_else(|| panic!("{path}")).clone();
    assert_eq!(get("/memory@80000000/reg"), cells(&[0, 0x8000_0000, 1, 0x2000_0000]));
    assert_eq!(get("/chosen/bootargs"), b"console=ttyS0\0");
    assert_eq!(get("/chosen/stdout-path"), b"/soc/serial@10000000\0");
    assert_eq!(get("/chosen/linux,initrd-start"), cells(&[1, 0x9000_0000]));
    assert_eq!(get("/chosen/linux,initrd-end"), cells(&[1, 0x9000_1234]));
    assert_eq!(get("/chosen/rng-seed").len(), 64);
    assert_eq!(get("/cpus/timebase-frequency"), cells(&[12_500_000]));
    for hart in 0..3u32 {
        let cpu = |name: &str| get(&format!("/cpus/cpu@{hart}/{name}"));
        assert_eq!(cpu("reg"), cells(&[hart]));
        assert_eq!(cpu("device_type"), b"cpu\0");
        assert_eq!(cpu("mmu-type"), b"riscv,sv48\0");
        assert_eq!(cpu("riscv,isa-base"), b"rv64i\0");
        assert_eq!(
            cpu("riscv,isa-extensions"),
            b"i\0m\0a\0f\0d\0zicsr\0zifencei\0c\0zicntr\0zicboz\0sstc\0"
        );
        assert_eq!(cpu("riscv,cboz-block-size"), cells(&[64]));
        assert_eq!(cpu("interrupt-controller/phandle"), cells(&[2 + hart]));
    }
    let none = u32::MAX;
    assert_eq!(
        get("/soc/interrupt-controller@c000000/interrupts-extended"),
        cells(&[2, none, 2, 9, 3, none, 3, 9, 4, none, 4, 9])
    );
    assert_eq!(get("/soc/interrupt-controller@c000000/riscv,ndev"), cells(&[31]));
    assert_eq!(get("/soc/serial@10000000/interrupts"), cells(&[10]));
    assert_eq!(
        get("/soc/serial@10000000/interrupt-parent"),
        get("/soc/interrupt-controller@c000000/phandle")
    );
}

#[test]
fn what_is_not_asked_for_is_not_there() {
    let tree = read(&build(&machine(None, None)).unwrap());
    for absent in ["linux,initrd-start", "linux,initrd-end", "rng-seed", "kaslr-seed"] {
        assert!(!tree.contains_key(&format!("/chosen/{absent}")));
    }
}

#[test]
fn seeds_repeat_and_the_size_does_not_change() {
    let build =
        |base, seed| super::build(&machine(Some(RamRange { base, size: 1 }), Some(seed))).unwrap();
    assert_eq!(build(0, 1), build(0, 1));
    assert_ne!(build(0, 1), build(0, 2));
    assert_eq!(build(0, 1).len(), build(u64::MAX / 2, u64::MAX).len());
}

#[test]
fn isa_strings() {
    assert_eq!(extensions("rv64imac"), ["i", "m", "a", "c"]);
    assert_eq!(extensions("rv64ima__zba_zba_i"), ["i", "m", "a", "zba"]);
    assert!(extensions("").is_empty());
}

#[test]
fn a_nul_in_the_command_line_is_refused() {
    let mut machine = machine(None, None);
    machine.boot.bootargs = "a\0b";
    assert_eq!(build(&machine), Err(Error::InvalidString));
}
