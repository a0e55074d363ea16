//! The device tree, read back.

use super::*;
use crate::RamRange;
use crate::testing::tree::{cells, read};

fn machine(cpus: usize, initrd: Option<RamRange>) -> Machine<'static> {
    let ram = RamRange { base: 0x4000_0000, size: 0x1_2000_0000 };
    let boot = Boot { ram, bootargs: "console=ttyAMA0", initrd, seed: Some(1) };
    Machine { cpus, boot }
}

#[test]
fn what_linux_looks_for() {
    let initrd = Some(RamRange { base: 0x1_5000_0000, size: 0x1234 });
    let tree = read(&build(&machine(18, initrd)).unwrap());
    let get = |path: &str| tree.get(path).unwrap_or_else(|| panic!("{path}")).clone();
    assert_eq!(get("/memory@40000000/reg"), cells(&[0, 0x4000_0000, 1, 0x2000_0000]));
    assert_eq!(get("/chosen/bootargs"), b"console=ttyAMA0\0");
    assert_eq!(get("/chosen/stdout-path"), b"/serial@9000000\0");
    assert_eq!(get("/aliases/serial0"), b"/serial@9000000\0");
    assert_eq!(get("/chosen/linux,initrd-start"), cells(&[1, 0x5000_0000]));
    assert_eq!(get("/chosen/rng-seed").len(), 64);
    assert_eq!(get("/psci/compatible"), b"arm,psci-1.0\0arm,psci-0.2\0");
    assert_eq!(get("/psci/method"), b"hvc\0");
    for (node, affinity) in [("0", 0), ("1", 1), ("f", 15), ("100", 0x100), ("101", 0x101)] {
        let cpu = |name: &str| get(&format!("/cpus/cpu@{node}/{name}"));
        assert_eq!(cpu("reg"), cells(&[affinity]));
        assert_eq!(cpu("enable-method"), b"psci\0");
        assert_eq!(cpu("compatible"), b"arm,armv8\0");
    }
    assert_eq!(tree.keys().filter(|path| path.ends_with("/enable-method")).count(), 18);
    let timers = [1, 13, 8, 1, 14, 8, 1, 11, 8, 1, 10, 8];
    assert_eq!(get("/timer/interrupts"), cells(&timers));
    let gic = |name: &str| get(&format!("/interrupt-controller@8000000/{name}"));
    assert_eq!(gic("compatible"), b"arm,gic-v3\0");
    assert_eq!(gic("reg"), cells(&[0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 18 * 0x2_0000]));
    assert_eq!(gic("#interrupt-cells"), cells(&[3]));
    assert_eq!(gic("phandle"), get("/interrupt-parent"));
    let serial = |name: &str| get(&format!("/serial@9000000/{name}"));
    assert_eq!(serial("compatible"), b"arm,pl011\0arm,primecell\0");
    assert_eq!(serial("reg"), cells(&[0, 0x900_0000, 0, 0x1000]));
    assert_eq!(serial("interrupts"), cells(&[0, 1, 4]));
    assert_eq!(serial("clock-names"), b"uartclk\0apb_pclk\0");
    assert_eq!(serial("clocks"), [get("/apb-pclk/phandle"), get("/apb-pclk/phandle")].concat());
    assert_eq!(get("/apb-pclk/clock-frequency"), cells(&[24_000_000]));
}

#[test]
fn the_size_does_not_change() {
    let size = |base| build(&machine(64, Some(RamRange { base, size: 1 }))).unwrap().len();
    assert_eq!(size(0), size(u64::MAX / 2));
}

#[test]
fn a_nul_in_the_command_line_is_refused() {
    let mut machine = machine(1, None);
    machine.boot.bootargs = "a\0b";
    assert_eq!(build(&machine), Err(Error::InvalidString));
}
