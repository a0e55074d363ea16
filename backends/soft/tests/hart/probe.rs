//! A guest that executes pieces of code and reports how each of them ends.
//!
//! Its supervisor sits in the first page of memory. Between two pieces it waits in a call to the hypervisor,
//! where the test writes registers, memory and page tables. Then it fences as told, enters the piece at the
//! privilege asked for, and its trap handler reports the trap. A breakpoint is a good end.

use std::cell::Cell;

use axvcpu::{AxVCpuExitReason, Fence};
use axvcpu_riscv::asm::*;
use axvcpu_riscv::csr::sstatus;
use axvcpu_riscv::paging::{Mode, pte};

use crate::machine::{Machine, RAM};
use crate::tables::{ALL, Tables};

/// Pages for code to try, one behind the other.
pub const CODE: u64 = RAM + 0x2000;
pub const CODE_PAGES: u64 = 4;
/// Page tables from here on, to [`DATA`].
pub const TABLES: u64 = RAM + 0x10_0000;
/// Free memory: 2 MiB.
pub const DATA: u64 = RAM + 0x20_0000;
/// Where users see memory, from [`RAM`] on, if there is paging: the code pages and the data.
pub const USER: u64 = 0x4000_0000;

const STUBS: u64 = RAM + 0x1000;
const STUB: u64 = 16;
const REPORT: u64 = 99;

/// A memory access of one instruction, at the address in `a1`, of the value in `a3` or `fa3`, to `a5` or `fa5`.
pub struct Op {
    pub name: &'static str,
    pub kind: Kind,
    pub bytes: u64,
    emit: fn(&mut Asm),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Fetch,
    Load,
    Store,
    /// `lr`.
    Reserve,
    /// `sc` and the AMOs.
    Atomic,
}

impl Kind {
    /// The exception code of the page fault.
    pub fn page_fault(self) -> u64 {
        match self {
            Self::Fetch => 12,
            Self::Load | Self::Reserve => 13,
            Self::Store | Self::Atomic => 15,
        }
    }

    /// The exception code of the access fault.
    pub fn access_fault(self) -> u64 {
        match self {
            Self::Fetch => 1,
            Self::Load | Self::Reserve => 5,
            Self::Store | Self::Atomic => 7,
        }
    }
}

macro_rules! ops {
    ($($name:literal $kind:ident $bytes:literal |$a:ident| $emit:expr;)*) => {
        &[$(Op { name: $name, kind: Kind::$kind, bytes: $bytes, emit: |$a| { $emit; } }),*]
    };
}

pub static OPS: &[Op] = ops! {
    "fetch" Fetch 2 |a| a.jalr(ZERO, 0, A1);
    "lb" Load 1 |a| a.lb(A5, 0, A1);
    "lbu" Load 1 |a| a.lbu(A5, 0, A1);
    "lh" Load 2 |a| a.lh(A5, 0, A1);
    "lhu" Load 2 |a| a.lhu(A5, 0, A1);
    "lw" Load 4 |a| a.lw(A5, 0, A1);
    "lwu" Load 4 |a| a.lwu(A5, 0, A1);
    "ld" Load 8 |a| a.ld(A5, 0, A1);
    "c.lw" Load 4 |a| a.c_lw(A5, 0, A1);
    "c.ld" Load 8 |a| a.c_ld(A5, 0, A1);
    "flw" Load 4 |a| a.flw(FA5, 0, A1);
    "fld" Load 8 |a| a.fld(FA5, 0, A1);
    "c.fld" Load 8 |a| a.c_fld(FA5, 0, A1);
    "sb" Store 1 |a| a.sb(A3, 0, A1);
    "sh" Store 2 |a| a.sh(A3, 0, A1);
    "sw" Store 4 |a| a.sw(A3, 0, A1);
    "sd" Store 8 |a| a.sd(A3, 0, A1);
    "c.sw" Store 4 |a| a.c_sw(A3, 0, A1);
    "c.sd" Store 8 |a| a.c_sd(A3, 0, A1);
    "fsw" Store 4 |a| a.fsw(FA3, 0, A1);
    "fsd" Store 8 |a| a.fsd(FA3, 0, A1);
    "c.fsd" Store 8 |a| a.c_fsd(FA3, 0, A1);
    "lr.w" Reserve 4 |a| a.lr_w(A5, A1, Order::Relaxed);
    "lr.d" Reserve 8 |a| a.lr_d(A5, A1, Order::AcqRel);
    "sc.w" Atomic 4 |a| a.sc_w(A5, A3, A1, Order::Relaxed);
    "sc.d" Atomic 8 |a| a.sc_d(A5, A3, A1, Order::AcqRel);
    "amoswap.w" Atomic 4 |a| a.amoswap_w(A5, A3, A1, Order::Relaxed);
    "amoadd.w" Atomic 4 |a| a.amoadd_w(A5, A3, A1, Order::Acquire);
    "amoxor.w" Atomic 4 |a| a.amoxor_w(A5, A3, A1, Order::Relaxed);
    "amoand.w" Atomic 4 |a| a.amoand_w(A5, A3, A1, Order::Relaxed);
    "amoor.w" Atomic 4 |a| a.amoor_w(A5, A3, A1, Order::Relaxed);
    "amomin.w" Atomic 4 |a| a.amomin_w(A5, A3, A1, Order::Relaxed);
    "amomax.w" Atomic 4 |a| a.amomax_w(A5, A3, A1, Order::Relaxed);
    "amominu.w" Atomic 4 |a| a.amominu_w(A5, A3, A1, Order::Relaxed);
    "amomaxu.w" Atomic 4 |a| a.amomaxu_w(A5, A3, A1, Order::Relaxed);
    "amoswap.d" Atomic 8 |a| a.amoswap_d(A5, A3, A1, Order::Release);
    "amoadd.d" Atomic 8 |a| a.amoadd_d(A5, A3, A1, Order::Relaxed);
    "amoxor.d" Atomic 8 |a| a.amoxor_d(A5, A3, A1, Order::Relaxed);
    "amoand.d" Atomic 8 |a| a.amoand_d(A5, A3, A1, Order::Relaxed);
    "amoor.d" Atomic 8 |a| a.amoor_d(A5, A3, A1, Order::Relaxed);
    "amomin.d" Atomic 8 |a| a.amomin_d(A5, A3, A1, Order::Relaxed);
    "amomax.d" Atomic 8 |a| a.amomax_d(A5, A3, A1, Order::Relaxed);
    "amominu.d" Atomic 8 |a| a.amominu_d(A5, A3, A1, Order::Relaxed);
    "amomaxu.d" Atomic 8 |a| a.amomaxu_d(A5, A3, A1, Order::Relaxed);
};

/// A trap as the guest's handler saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    pub cause: u64,
    pub value: u64,
    pub pc: u64,
    /// `sstatus` in the handler.
    pub status: u64,
}

/// How to execute a piece.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    pub user: bool,
    /// The bits of `sstatus` to set (SUM, MXR, SPIE for interrupts); SPP is up to `user`, and FS is set.
    pub status: u64,
    /// What the supervisor fences before: the constants of this type.
    pub fence: u64,
    /// No floating point.
    pub fp_off: bool,
}

impl How {
    /// `sfence.vma`.
    pub const ALL: u64 = 1;
    /// `sfence.vma a1`.
    pub const ADDRESS: u64 = 2;
    /// `sfence.vma zero, a6`.
    pub const SPACE: u64 = 4;
    /// `sfence.vma a1, a6`.
    pub const ADDRESS_IN_SPACE: u64 = 8;
    /// `fence.i`.
    pub const INSTRUCTIONS: u64 = 16;

    pub const S: Self = Self { user: false, status: 0, fence: 0, fp_off: false };
    pub const U: Self = Self { user: true, ..Self::S };

    pub fn fence(self, fence: u64) -> Self {
        Self { fence, ..self }
    }

    pub fn status(self, status: u64) -> Self {
        Self { status, ..self }
    }
}

pub type Ended = Result<Trap, AxVCpuExitReason>;

pub struct Probe {
    pub machine: Machine,
    pub tables: Option<Tables>,
    pub satp: Cell<u64>,
}

impl Probe {
    /// A probe without paging.
    pub fn bare() -> Self {
        Self::on(Machine::new(server()), None)
    }

    /// A probe with paging: memory where it is for the supervisor, at [`USER`] for the user.
    pub fn paged(mode: Mode) -> Self {
        Self::on(Machine::new(server()), Some(mode))
    }

    pub fn on(machine: Machine, mode: Option<Mode>) -> Self {
        let mut stubs = Asm::new(STUBS);
        for op in OPS {
            (op.emit)(&mut stubs);
            stubs.ebreak();
            stubs.align(STUB as usize);
        }
        machine.write_code(STUBS, stubs);
        let tables = mode.map(|mode| {
            let tables = Tables::new(mode, TABLES);
            tables.map(&machine, RAM, 2, RAM, ALL);
            for page in 1..CODE_PAGES + 2 {
                let offset = 4096 * page;
                tables.map(&machine, USER + offset, 0, RAM + offset, ALL | pte::U);
            }
            tables.map(&machine, USER + (DATA - RAM), 1, DATA, ALL | pte::U);
            tables
        });
        let satp = Cell::new(tables.as_ref().map_or(0, Tables::satp));
        machine.until(REPORT);
        Self { machine, tables, satp }
    }

    pub fn tables(&self) -> &Tables {
        self.tables.as_ref().unwrap()
    }

    pub fn set(&self, register: X, value: u64) {
        self.machine.vcpu.set_gpr(register.number().into(), value).unwrap();
    }

    pub fn get(&self, register: X) -> u64 {
        self.machine.x(register.number().into())
    }

    /// Executes from virtual address `pc` on until a trap.
    pub fn go(&self, pc: u64, how: How) -> Ended {
        let Self { machine, satp, .. } = self;
        let mut status = how.status & !(sstatus::SPP | sstatus::FS);
        if !how.user {
            status |= sstatus::SPP;
        }
        if !how.fp_off {
            status |= 1 << 13;
        }
        let call = 5; // a number that is not a report's, for pieces that call
        for (register, value) in
            [(A0, pc), (A4, how.fence), (A7, call), (S5, satp.get()), (S6, status)]
        {
            self.set(register, value);
        }
        assert!(!machine.vcpu.fence_outstanding(Fence::all()));
        self.resume()
    }

    /// Goes on after an exit that was not a report.
    pub fn resume(&self) -> Ended {
        match self.machine.exit() {
            AxVCpuExitReason::Hypercall { nr: REPORT, .. } => {
                let [cause, value, pc, status] = [S0, S1, S2, S3].map(|r| self.get(r));
                Ok(Trap { cause, value, pc, status })
            }
            exit => Err(exit),
        }
    }

    /// The virtual address at which `how` sees the code or data at `pa`.
    pub fn place(&self, pa: u64, how: How) -> u64 {
        if how.user && self.satp.get() != 0 { pa - RAM + USER } else { pa }
    }

    /// The virtual address of the instruction of `op`.
    pub fn stub(&self, op: &str, how: How) -> u64 {
        let index = OPS.iter().position(|known| known.name == op).unwrap();
        self.place(STUBS + STUB * index as u64, how)
    }

    /// Executes `op` at `va`.
    pub fn access(&self, op: &str, va: u64, how: How) -> Ended {
        self.set(A1, va);
        self.go(self.stub(op, how), how)
    }

    /// Writes `code` to the first of the code pages and executes it.
    pub fn execute(&self, code: impl FnOnce(&mut Asm), how: How) -> Ended {
        let at = self.place(CODE, how);
        let mut asm = Asm::new(at);
        code(&mut asm);
        asm.ebreak();
        self.machine.write_code(CODE, asm);
        self.go(at, how.fence(how.fence | How::INSTRUCTIONS))
    }

    /// Executes `code`, which must run to its end.
    #[track_caller]
    pub fn run(&self, code: impl FnOnce(&mut Asm), how: How) {
        let trap = self.execute(code, how).unwrap();
        assert_eq!(trap.cause, 3, "{trap:x?}");
    }
}

/// The supervisor. It uses `a0`, `a4`, `a7`, `s0` to `s3`, `s5`, `s6` and `t0`, and leaves the rest to the pieces.
pub fn server() -> Asm {
    let mut a = Asm::new(RAM);
    let (handler, report) = (a.label(), a.label());
    a.la(T0, handler);
    a.csrw(csrs::STVEC, T0);
    a.bind(report);
    a.li(A7, REPORT as i64);
    a.ecall();
    let same = a.label();
    a.csrr(T0, csrs::SATP);
    a.beq(T0, S5, same);
    a.csrw(csrs::SATP, S5);
    a.bind(same);
    let mut fence = |bit: u64, emit: fn(&mut Asm)| {
        let skip = a.label();
        a.andi(T0, A4, bit as i32);
        a.beqz(T0, skip);
        emit(&mut a);
        a.bind(skip);
    };
    fence(How::ALL, |a| a.sfence_vma(ZERO, ZERO));
    fence(How::ADDRESS, |a| a.sfence_vma(A1, ZERO));
    fence(How::SPACE, |a| a.sfence_vma(ZERO, A6));
    fence(How::ADDRESS_IN_SPACE, |a| a.sfence_vma(A1, A6));
    fence(How::INSTRUCTIONS, |a| a.fence_i());
    a.csrw(csrs::SEPC, A0);
    a.csrw(csrs::SSTATUS, S6);
    a.sret();
    a.align(4);
    a.bind(handler);
    a.csrr(S0, csrs::SCAUSE);
    a.csrr(S1, csrs::STVAL);
    a.csrr(S2, csrs::SEPC);
    a.csrr(S3, csrs::SSTATUS);
    a.j(report);
    a
}
