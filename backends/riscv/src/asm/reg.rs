//! Registers and the other named operands of instructions.

use core::fmt;

/// An integer register, `x0` to `x31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct X(u8);

/// A floating-point register, `f0` to `f31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct F(u8);

const X_NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4",
    "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
    "t5", "t6",
];

const F_NAMES: [&str; 32] = [
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2",
    "fa3", "fa4", "fa5", "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9",
    "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
];

macro_rules! register {
    ($type:ident, $names:ident, $kind:literal) => {
        impl $type {
            #[doc = concat!("The ", $kind, " register with this number; `None` from 32 on.")]
            pub const fn new(number: u8) -> Option<Self> {
                if number < 32 { Some(Self(number)) } else { None }
            }

            /// The register's number, 0 to 31.
            pub const fn number(self) -> u8 {
                self.0
            }
        }

        /// The name the calling convention gives the register.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad($names.get(usize::from(self.0)).copied().unwrap_or("?"))
            }
        }
    };
}

register!(X, X_NAMES, "integer");
register!(F, F_NAMES, "floating-point");

macro_rules! names {
    ($type:ident: $($name:ident = $number:literal)*) => {
        $(#[doc = concat!("Register ", stringify!($number), " of its file, by its name in the calling convention.")]
        pub const $name: $type = $type($number);)*
    };
}

names!(X: ZERO=0 RA=1 SP=2 GP=3 TP=4 T0=5 T1=6 T2=7 S0=8 S1=9 A0=10 A1=11 A2=12 A3=13 A4=14 A5=15 A6=16
    A7=17 S2=18 S3=19 S4=20 S5=21 S6=22 S7=23 S8=24 S9=25 S10=26 S11=27 T3=28 T4=29 T5=30 T6=31);
names!(F: FT0=0 FT1=1 FT2=2 FT3=3 FT4=4 FT5=5 FT6=6 FT7=7 FS0=8 FS1=9 FA0=10 FA1=11 FA2=12 FA3=13 FA4=14
    FA5=15 FA6=16 FA7=17 FS2=18 FS3=19 FS4=20 FS5=21 FS6=22 FS7=23 FS8=24 FS9=25 FS10=26 FS11=27 FT8=28
    FT9=29 FT10=30 FT11=31);

/// How a floating-point instruction rounds (unprivileged manual, "Floating-Point Control and Status
/// Register").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rounding {
    /// To nearest, ties to even.
    Rne = 0,
    /// Towards zero.
    Rtz = 1,
    /// Down, towards negative infinity.
    Rdn = 2,
    /// Up, towards positive infinity.
    Rup = 3,
    /// To nearest, ties away from zero.
    Rmm = 4,
    /// As `frm` says when the instruction executes.
    Dyn = 7,
}

/// The ordering an atomic instruction asks for: its `aq` and `rl` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Order {
    /// Neither.
    Relaxed = 0,
    /// `rl`: after everything before it.
    Release = 1,
    /// `aq`: before everything after it.
    Acquire = 2,
    /// Both: sequentially consistent.
    AcqRel = 3,
}

/// Numbers of the CSRs that programs for this assembler use.
pub mod csrs {
    macro_rules! csrs {
        ($($name:ident = $number:literal $text:literal)*) => {
            $(#[doc = $text] pub const $name: u16 = $number;)*
        };
    }

    csrs! {
        FFLAGS = 0x001 "Floating-point exception flags."
        FRM = 0x002 "Floating-point rounding mode."
        FCSR = 0x003 "Both of the above."
        CYCLE = 0xc00 "Clock cycles."
        TIME = 0xc01 "Real time, in ticks of the platform's time base."
        INSTRET = 0xc02 "Instructions retired."
        SSTATUS = 0x100 "Supervisor status."
        SIE = 0x104 "Supervisor interrupt enables."
        STVEC = 0x105 "Supervisor trap vector."
        SCOUNTEREN = 0x106 "Counters that U-mode may read."
        SSCRATCH = 0x140 "Supervisor scratch."
        SEPC = 0x141 "Program counter of the last supervisor trap."
        SCAUSE = 0x142 "Cause of the last supervisor trap."
        STVAL = 0x143 "Value that goes with `scause`."
        SIP = 0x144 "Supervisor interrupts pending."
        STIMECMP = 0x14d "Supervisor timer compare (Sstc)."
        SATP = 0x180 "Supervisor address translation."
    }
}
