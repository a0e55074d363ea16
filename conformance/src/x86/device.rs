//! A device that is served as the guest likes it, for instructions that may access it in several ways.

use axvcpu::AccessWidth;
use axvcpu_x86::asm::*;
use axvcpu_x86::reg::cr4;

use super::NamedCase;
use super::Subject;
use super::bench::{Bench, Exit, Hart};
use super::guest::*;
use super::mmio::WIDTHS;
use crate::report::{Verdict, ensure, ensure_eq};

pub(super) fn cases<S: Subject>() -> [NamedCase<S>; 5] {
    [
        ("mmio: rep movs to and from a device", repeated),
        ("mmio: SSE loads and stores", vectors),
        ("mmio: at every offset", unaligned),
        ("mmio: across two pages", straddling),
        ("mmio: half on memory", half_on_memory),
    ]
}

/// A device that remembers what is written to it.
struct Device {
    base: u64,
    bytes: alloc::vec::Vec<u8>,
}

impl Device {
    fn new(base: u64, length: usize) -> Self {
        let bytes = (0..length as u64).map(|index| pattern(index) as u8).collect();
        Self { base, bytes }
    }

    fn span(&mut self, address: u64, width: AccessWidth) -> Verdict<&mut [u8]> {
        let start = address.wrapping_sub(self.base) as usize;
        match self.bytes.get_mut(start..start.wrapping_add(width.bytes())) {
            Some(bytes) => Ok(bytes),
            None => {
                crate::fail!("an access of {width:?} at {address:#x}, which is none of the guest's")
            }
        }
    }

    /// Serves the guest until it reports a value.
    fn serve<S: Subject>(&mut self, hart: &Hart<S>) -> Verdict<u64> {
        loop {
            match hart.run()? {
                Exit::MmioRead { addr, width } => {
                    let mut value = [0; 8];
                    let bytes = self.span(addr.as_u64(), width)?;
                    for (to, from) in value.iter_mut().zip(bytes.iter()) {
                        *to = *from;
                    }
                    hart.vcpu.set_return_value(u64::from_le_bytes(value))?;
                }
                Exit::MmioWrite { addr, width, data } => {
                    let bytes = self.span(addr.as_u64(), width)?;
                    bytes.iter_mut().zip(data.to_le_bytes()).for_each(|(to, from)| *to = from);
                }
                exit => match hart.call(&exit)? {
                    Some((REPORT, [value, ..])) => return Ok(value),
                    _ => crate::fail!("expected a report, found {exit:x?}"),
                },
            }
        }
    }
}

fn repeated<S: Subject>(subject: &S) -> Verdict {
    const COUNT: u64 = 300;
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, DEVICE + 8);
        g.li(RDI, DATA + 8);
        g.li(RCX, COUNT);
        g.rep().movsd();
        g.report(RCX);
        g.std();
        g.li(RSI, DATA + 8 + 4 * COUNT);
        g.li(RDI, DEVICE + 0x800 + 4 * COUNT);
        g.li(RCX, COUNT);
        g.rep().movsd();
        g.cld();
        g.report(RDI);
        g.li(RAX, pattern(77));
        g.li(RDI, DEVICE);
        g.li(RCX, COUNT);
        g.rep().stosw();
        g.report(RDI);
    })?;
    let mut device = Device::new(DEVICE, 0x2000);
    let at = |offset: u64| pattern(offset) as u8;
    ensure_eq!(device.serve(bench.hart())?, 0, "RCX");
    for offset in (8..8 + 4 * COUNT).step_by(8) {
        let expected = u64::from_le_bytes(core::array::from_fn(|byte| at(offset + byte as u64)));
        ensure_eq!(bench.space.read(DATA + offset)?, expected, "at {offset:#x} in memory");
    }
    ensure_eq!(device.serve(bench.hart())?, DEVICE + 0x800, "RDI");
    for offset in 12..8 + 4 * COUNT {
        let found = device.bytes[0x800 - 8 + offset as usize];
        ensure_eq!(found, at(offset), "at {offset:#x} in the device");
    }
    ensure_eq!(device.serve(bench.hart())?, DEVICE + 2 * COUNT, "RDI");
    let word = (pattern(77) as u16).to_le_bytes();
    ensure!(
        device.bytes.chunks_exact(2).take(COUNT as usize).all(|found| found == word),
        "what stos left in the device"
    );
    bench.hart().end()
}

fn vectors<S: Subject>(subject: &S) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        g.mov_from_cr(RAX, 4);
        g.or(RAX, cr4::OSFXSR as u32);
        g.mov_to_cr(4, RAX);
        g.li(RSI, DEVICE);
        g.movdqu_load(XMM1, mem(RSI) + 0x10);
        g.movdqu_store(mem(RSI) + 0x40, XMM1);
        g.mark(1);
    })?;
    let mut device = Device::new(DEVICE, 0x100);
    let before = device.bytes.clone();
    ensure_eq!(device.serve(bench.hart())?, 1, "the mark");
    ensure_eq!(device.bytes[0x40..0x50], before[0x10..0x20], "what was copied");
    ensure_eq!(device.bytes[0x50..], before[0x50..], "what is behind it");
    bench.hart().end()
}

/// Loads and stores of every width at these addresses, on a device that is there from `base` on.
fn everywhere<S: Subject>(subject: &S, base: u64, addresses: &[u64]) -> Verdict {
    let bench = Bench::boot(subject, |g| {
        for &address in addresses {
            for (_, width) in WIDTHS {
                g.li(RSI, address);
                g.li(R9, 0);
                g.mov(R9.of(width), mem(RSI));
                g.report(R9);
                g.li(R9, pattern(address));
                g.mov(mem(RSI), R9.of(width));
                g.mark(2);
            }
        }
    })?;
    let mut device = Device::new(base, 0x2000);
    for &address in addresses {
        for (access, _) in WIDTHS {
            let before = device.bytes.clone();
            let span = (address - base) as usize..(address - base) as usize + access.bytes();
            let found = device.serve(bench.hart())?;
            let expected = before[span.clone()]
                .iter()
                .rev()
                .fold(0, |value, &byte| value << 8 | u64::from(byte));
            ensure_eq!(found, expected, "{access:?} loaded from {address:#x}");
            ensure_eq!(device.serve(bench.hart())?, 2, "the mark");
            let mut after = before;
            after[span].copy_from_slice(&pattern(address).to_le_bytes()[..access.bytes()]);
            ensure!(device.bytes == after, "{access:?} stored at {address:#x}");
        }
    }
    bench.hart().end()
}

fn unaligned<S: Subject>(subject: &S) -> Verdict {
    let addresses: alloc::vec::Vec<u64> = (0..16).map(|offset| DEVICE + 0x100 + offset).collect();
    everywhere(subject, DEVICE, &addresses)
}

fn straddling<S: Subject>(subject: &S) -> Verdict {
    let addresses: alloc::vec::Vec<u64> = (0..8).map(|offset| DEVICE + 0xff8 + offset).collect();
    everywhere(subject, DEVICE, &addresses)
}

fn half_on_memory<S: Subject>(subject: &S) -> Verdict {
    // The last bytes of the data, and those behind them.
    const END: u64 = DATA + 0x1000 * DATA_PAGES;
    let bench = Bench::boot(subject, |g| {
        g.li(RSI, END - 4);
        g.mov(R9, mem(RSI));
        g.report(R9);
        g.li(R9, pattern(2));
        g.mov(mem(RSI), R9);
        g.mark(2);
    })?;
    bench.space.write(END - 8, pattern(1))?;
    let mut device = Device::new(END, 0x10);
    let high = u64::from_le_bytes(core::array::from_fn(|byte| match byte {
        0..4 => 0,
        byte => pattern(byte as u64 - 4) as u8,
    }));
    ensure_eq!(device.serve(bench.hart())?, pattern(1) >> 32 | high, "what was loaded");
    ensure_eq!(device.serve(bench.hart())?, 2, "the mark");
    let left = bench.space.read(END - 8)?;
    ensure_eq!(left, pattern(1) & 0xffff_ffff | pattern(2) << 32, "the half in memory");
    ensure_eq!(device.bytes[..4], (pattern(2) >> 32).to_le_bytes()[..4], "the half in the device");
    bench.hart().end()
}
