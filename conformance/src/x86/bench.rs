//! The bench with x86-64's guests on it.

use axvcpu::{AccessWidth, AxArchVCpu, AxMmHal, AxVCpu};
use axvcpu_stage2::Perms;
use axvcpu_x86::ept::Ept;
use axvcpu_x86::paging::{Size, Tables, entry};
use axvcpu_x86::reg::gpr;
use axvcpu_x86::start::GDT;

use super::Subject;
use super::guest::*;
pub(super) use crate::bench::Exit;
use crate::bench::{self, Call, Mm, SetupConfig};
use crate::memory::Space;
use crate::report::Verdict;

/// x86-64's guests. As [`generic::Subject::Guests`](crate::generic::Subject::Guests) they try the cases for any architecture
/// on a backend for this one.
pub struct X86;

/// A machine.
pub(super) type Bench<S> = bench::Bench<S, X86>;
/// A vCPU and what is expected of it.
pub(super) type Hart<S> = bench::Hart<S, X86>;

/// What the guest's handlers reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The vector.
    pub vector: u64,
    /// The error code, or 0.
    pub error: u64,
    /// RIP.
    pub rip: u64,
    /// CR2.
    pub cr2: u64,
    /// RFLAGS.
    pub flags: u64,
    /// CS.
    pub cs: u64,
}

/// The registers that hold a call's arguments.
const ARGUMENTS: [usize; 6] = [gpr::RBX, gpr::RCX, gpr::RDX, gpr::RSI, gpr::RDI, 8];

impl bench::Isa for X86 {
    type Format = Ept;
    type Guest = Guest;
    type Trap = Trap;

    const CODE: u64 = CODE;
    const CODE_PAGES: u64 = CODE_PAGES;
    const DATA: u64 = DATA;
    const DATA_PAGES: u64 = DATA_PAGES;
    const DEVICE: u64 = DEVICE;
    const ANNOUNCES: bool = true;
    const NUMBER: usize = gpr::RDI;
    const REPORT: u64 = REPORT;
    const TRAP: u64 = TRAP;
    const END: u64 = END;

    fn call<A: AxArchVCpu>(exit: &Exit, vcpu: &AxVCpu<A>) -> Verdict<Option<Call>> {
        const CALL: u16 = PORT as u16;
        let Exit::IoWrite { port: CALL, width: AccessWidth::Dword, data } = *exit else {
            return Ok(None);
        };
        let mut arguments = [0; 6];
        for (argument, register) in arguments.iter_mut().zip(ARGUMENTS) {
            *argument = vcpu.get_gpr(register)?;
        }
        Ok(Some((data, arguments)))
    }

    fn trap([vector, error, rip, cr2, flags, cs]: [u64; 6]) -> Trap {
        Trap { vector, error, rip, cr2, flags, cs }
    }
}

impl<S: Subject> bench::GuestsOf<S> for X86 {
    fn format(_: &S) -> Ept {
        Ept
    }

    fn furnish(space: &mut Space<Mm<S>, Ept>) -> Verdict {
        space.add(SYSTEM, SYSTEM_PAGES, Some(Perms::RW))?;
        space.add(HANDLERS, HANDLER_PAGES, Some(Perms::RWX))?;
        space.add(TABLES, TABLE_PAGES, Some(Perms::RW))?;
        write_system(space)
    }

    fn setup_config(subject: &S) -> SetupConfig<S> {
        subject.setup_for(START)
    }

    fn enforces_execute(subject: &S) -> bool {
        subject.enforces_execute()
    }
}

/// Writes what every guest needs, where there is memory for it.
pub(super) fn write_system<M: AxMmHal>(space: &Space<M, Ept>) -> Verdict {
    space.fill(HANDLERS, &handlers()?)?;
    for (start, table) in [(START_GDT, &GDT[..]), (GUEST_GDT, &DESCRIPTORS[..])] {
        for (address, &descriptor) in (start..).step_by(8).zip(table) {
            space.write(address, descriptor)?;
        }
    }
    for (start, base, limit) in
        [(GDTR, GUEST_GDT, 8 * DESCRIPTORS.len() as u16 - 1), (IDTR, IDT, 0xfff)]
    {
        space.fill(start, &limit.to_le_bytes())?;
        space.fill(start + 2, &base.to_le_bytes())?;
    }
    // The bitmap of ports is beyond the task state's end: there is none (SDM volume 1, 20.5.2).
    space.fill(TSS + 0x66, &0x68u16.to_le_bytes())?;
    for vector in 0..256 {
        let [low, high] = gate(HANDLERS + 16 * vector);
        space.write(IDT + 16 * vector, low)?;
        space.write(IDT + 16 * vector + 8, high)?;
    }
    let tables = Tables::identity(TABLES, 4, Size::Large, entry::WRITE | entry::USER)?;
    Ok(tables.write(|address, entry| space.write(address, entry))?)
}

impl<S: Subject> Hart<S> {
    /// Runs until the guest takes this exception or interrupt.
    #[track_caller]
    pub(super) fn trap_for(&self, vector: u64) -> Verdict<Trap> {
        let trap = self.trap()?;
        if trap.vector != vector {
            return Err(
                self.unexpected(&alloc::format!("expected vector {vector}, found {trap:x?}"))
            );
        }
        Ok(trap)
    }

    /// Has a guest whose handler has just reported go on somewhere else.
    pub(super) fn go_on_at(&self, rip: u64) -> Verdict {
        Ok(self.vcpu.set_gpr(gpr::RAX, rip)?)
    }

    /// Runs until this exit.
    #[track_caller]
    pub(super) fn exit(&self, expected: Exit) -> Verdict {
        match self.run()? {
            found if found == expected => Ok(()),
            found => {
                Err(self.unexpected(&alloc::format!("expected {expected:x?}, found {found:x?}")))
            }
        }
    }

    /// Runs until the guest reads from a port.
    #[track_caller]
    pub(super) fn io_read(&self, port: u16, width: AccessWidth) -> Verdict {
        self.exit(Exit::IoRead { port, width })
    }

    /// Runs until the guest writes this to a port.
    #[track_caller]
    pub(super) fn io_write(&self, port: u16, width: AccessWidth, data: u64) -> Verdict {
        self.exit(Exit::IoWrite { port, width, data })
    }
}
