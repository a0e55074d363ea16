//! The software hart and the hardware on the same guest, exit by exit.

use alloc::format;
use alloc::string::{String, ToString};

use axvcpu::AxVCpuExitReason as Exit;
use axvcpu_baremetal::Hal;
use axvcpu_differential::program::Program;
use axvcpu_differential::result::differences;
use axvcpu_differential::supervisor::{self, Record};
use axvcpu_differential::{image, layout, paging};
use axvcpu_riscv64::{RiscvConfig, RiscvVCpu};
use axvcpu_soft::{Clock, SoftConfig, SoftVCpu, VirtualClock};

use crate::Mode;
use crate::side::{Ram, Side};

/// Ticks between the timer interrupts behind page tables: on hardware a handler takes several.
const INTERVAL: i32 = 200;

/// The call that ends the supervisor's cases.
const SYSTEM_RESET: u64 = 0x5352_5354;

/// Bits that a guest's `sie` has not, at which QEMU's `vsie` has those one below: it takes them for these when the
/// guest writes the register.
const SIE_ALIASES: u64 = 1 << 2 | 1 << 6 | 1 << 10;

/// What differs, and after how many programs that ended the same.
pub(crate) struct Difference {
    pub(crate) index: usize,
    pub(crate) text: String,
}

/// Memory for both, used again and again.
pub(crate) struct Pair {
    soft: Ram,
    hard: Ram,
    /// What the hardware's vCPUs are made with.
    pub(crate) config: RiscvConfig,
}

impl Pair {
    pub(crate) fn new(timebase: u64) -> Result<Self, String> {
        let config = RiscvConfig { timebase, ..RiscvConfig::new() };
        Ok(Self { soft: Ram::new()?, hard: Ram::new()?, config })
    }

    /// Runs `f` on both, with `image` at `offset` in a memory otherwise zero, about to start at `entry`.
    pub(crate) fn with<R>(
        &mut self,
        image: &[u8],
        offset: usize,
        prepare: impl Fn(&mut [u8]) -> Result<u64, String>,
        f: impl FnOnce(&mut Side<'_, SoftVCpu<Hal>>, &mut Side<'_, RiscvVCpu<Hal>>) -> Result<R, String>,
    ) -> Result<R, String> {
        let mut entry = 0;
        for ram in [&mut self.soft, &mut self.hard] {
            let bytes = ram.bytes();
            bytes.fill(0);
            let place = bytes.get_mut(offset..offset + image.len());
            place.ok_or("the image does not fit")?.copy_from_slice(image);
            entry = prepare(bytes)?;
        }
        let clock = Clock::Instructions(VirtualClock::new());
        let mut soft = Side::new(&mut self.soft, SoftConfig::new(clock), entry)?;
        let mut hard = Side::new(&mut self.hard, self.config, entry)?;
        f(&mut soft, &mut hard)
    }

    /// Runs `programs` on both. `None`: they end the same, in every register and every byte of memory.
    pub(crate) fn programs(
        &mut self,
        programs: &[Program],
        mode: Mode,
    ) -> Result<Option<Difference>, String> {
        let image = image::build(programs)?;
        let prepare = |memory: &mut [u8]| match mode {
            Mode::Paging => paging::prepare(memory, image.user_entry, INTERVAL),
            _ => Ok(image.supervisor_entry),
        };
        self.with(&image.bytes, 0, prepare, |soft, hard| {
            let mut index = 0;
            loop {
                let differs = |text| Ok(Some(Difference { index, text }));
                let exit = match (soft.run()?, hard.run()) {
                    (expected, Ok(found)) if expected == found => expected,
                    (expected, found) => {
                        return differs(format!(
                            "  exit: expected {expected:x?}, found {found:x?}\n"
                        ));
                    }
                };
                let (expected, found) = (soft.registers()?, hard.registers()?);
                if expected != found {
                    return differs(register_differences(&expected, &found));
                }
                match exit {
                    Exit::Hypercall {
                        nr: image::WRITE, args: [_, address, length, ..], ..
                    } => {
                        let expected = result(soft.bytes(), mode)?.to_vec();
                        let found = result(hard.bytes(), mode)?;
                        if expected != found {
                            return differs(differences(&expected, &found));
                        }
                        if (address, length) != (layout::RESULT, layout::RESULT_SIZE) {
                            return Err(format!(
                                "the driver writes {length} bytes at {address:#x}"
                            ));
                        }
                        soft.answer(length)?;
                        hard.answer(length)?;
                        index += 1;
                    }
                    Exit::Hypercall { nr: image::EXIT, .. } if index == programs.len() => {
                        let (expected, found) = (soft.bytes(), hard.bytes());
                        let wrong = expected.iter().zip(found.iter()).position(|(a, b)| a != b);
                        return match wrong {
                            None => Ok(None),
                            Some(at) => Ok(Some(Difference {
                                index: programs.len() - 1,
                                text: format!("  memory: at {:#x}\n", layout::BASE + at as u64),
                            })),
                        };
                    }
                    exit => return differs(format!("  both: unexpected exit {exit:x?}\n")),
                }
            }
        })
    }

    /// Carries out the supervisor's cases of `seed` on both.
    pub(crate) fn supervisor(&mut self, seed: u64) -> Result<Option<String>, String> {
        let prepared = supervisor::prepare(seed, !SIE_ALIASES)?;
        let entry = |_: &mut [u8]| Ok(supervisor::ENTRY);
        let offset = (supervisor::ENTRY - layout::BASE) as usize;
        self.with(&prepared.image, offset, entry, |soft, hard| {
            let expected = soft.run()?;
            if !matches!(expected, Exit::Hypercall { nr: SYSTEM_RESET, .. }) {
                return Err(format!("the software hart ends with {expected:x?}"));
            }
            let found = hard.run();
            let text = supervisor::compare(&prepared, soft.bytes(), hard.bytes(), is_choice)?;
            Ok(match (text, found) {
                (Some(text), Ok(found)) if found == expected => Some(text),
                (None, Ok(found)) if found == expected => None,
                (text, found) => Some(format!("{}  then: {found:x?}\n", text.unwrap_or_default())),
            })
        })
    }
}

/// Whether hardware may end a case this way when the software hart ends it that way.
fn is_choice(expected: &Record, found: &Record) -> bool {
    /// The timer's interrupt ended the case. How far it got until then is not the same twice.
    const TIMER: u64 = 1 << 63 | 5;
    // Either may be the one that calls floating-point state dirty which is not.
    found[0] == TIMER || supervisor::agree(found, expected)
}

/// Program output: what the driver hands out.
fn result(memory: &[u8], mode: Mode) -> Result<alloc::vec::Vec<u8>, String> {
    (layout::RESULT..layout::RESULT + layout::RESULT_SIZE)
        .map(|address| {
            let physical = match mode {
                Mode::Paging => paging::translate(address),
                _ => address,
            };
            memory.get((physical - layout::BASE) as usize).copied()
        })
        .collect::<Option<_>>()
        .ok_or_else(|| "the result is outside of memory".to_string())
}

pub(crate) fn register_differences(expected: &[u64; 32], found: &[u64; 32]) -> String {
    let pairs = expected.iter().zip(found).enumerate().filter(|(_, (a, b))| a != b);
    pairs
        .map(|(x, (expected, found))| format!("  x{x}: expected {expected:#x}, found {found:#x}\n"))
        .collect()
}
