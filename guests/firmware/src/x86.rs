//! Guests for x86-64: every I/O port and many model-specific registers, and calls of the hypervisor. There is no firmware to
//! call; what a machine has instead is behind these.

use std::error::Error;
use std::ops::RangeInclusive;

use axvcpu_x86::asm::*;
use axvcpu_x86::start::CODE64;

use super::{BANNER, Guest, status};

/// Where the image is loaded.
const ENTRY: u64 = 0x10_0000;
/// The first address behind the stack: below what PCs have for firmware.
const STACK: u64 = 0x8_0000;
/// The serial port.
const COM1: u16 = 0x3f8;

/// What guests keep in registers: how many calls they made, the port or register that is next, and numbers to be printed.
const MADE: Reg = R12;
const NEXT: Reg = RBX;
const FIRST: Reg = R13;
const OTHER: Reg = R14;

/// Ports at which there is something, of the machine or of the hypervisor below: reads may find anything there. Elsewhere
/// they find all ones.
const TAKEN: [RangeInclusive<u16>; 10] = [
    0x20..=0x21,   // interrupt controller
    0x40..=0x43,   // timer
    0x61..=0x61,   // speaker
    0x64..=0x64,   // keyboard controller
    0xa0..=0xa1,   // the other interrupt controller
    0x3f8..=0x3ff, // serial port
    0x4d0..=0x4d1, // both controllers: edge or level
    0x600..=0x605, // ACPI
    0xcf9..=0xcf9, // reset control
    0x80..=0x80,   // power-on self-test
];

/// What is written to every port: in any width, the ports are left out where it would end the machine.
const WRITTEN: [(u32, &[(Width, u16)]); 2] = [
    (0, &[]),
    // Of ACPI's sleep types this is one that there is not.
    (u32::MAX, &[(Width::Byte, 0xcf9)]),
];

const WIDTHS: [Width; 3] = [Width::Byte, Width::Word, Width::Dword];

/// Model-specific registers that are read and written: first and last of each range.
const MSRS: [RangeInclusive<u32>; 9] = [
    0..=0x7ff,
    0x800..=0x8ff, // the x2APIC's
    0x900..=0x13ff,
    0x4000_0000..=0x4000_01ff, // hypervisors'
    0x4b56_4d00..=0x4b56_4d08, // KVM's own, as Linux documents them
    0xc000_0000..=0xc000_03ff,
    0xc001_0000..=0xc001_03ff,
    0xc001_1000..=0xc001_10ff,
    0xffff_ff00..=0xffff_ffff,
];

/// What is written to a register after what it had.
const MSR_VALUES: [u64; 6] = [0, 1, 1 << 63, i64::MAX as u64, 0xffff_8000_0000_0000, u64::MAX];

/// Numbers of hypercalls, and their arguments.
const CALLS: RangeInclusive<u64> = 0..=0x3f;
const STRANGE_CALLS: [u64; 5] = [0x8400_0008, u32::MAX as u64, 1 << 32, 1 << 63, u64::MAX];
const ARGUMENTS: [u64; 6] = [0, 1, 1 << 63, 0xd000_0000, u32::MAX as u64, u64::MAX];

/// What the machine answers to hypercalls that nobody has (`KVM_ENOSYS`).
const NO_CALL: u64 = -1000i64 as u64;
/// From this number on nobody has any.
const NOBODYS: u64 = 0x20;

/// A program.
struct Program {
    a: Asm,
    idt: Label,
    descriptor: Label,
    /// How many calls it will have made.
    made: u64,
}

/// What makes the calls of a program.
type Body = fn(&mut Program);

pub(crate) fn guests() -> Result<Vec<Guest>, Box<dyn Error>> {
    let mut guests = Vec::new();
    for cpus in [1, 4] {
        // The other CPUs wait until they are started, and nobody does it: what takes long is not repeated with them.
        let programs: &[(&str, Body)] = match cpus {
            1 => &[
                ("ports-read", Program::read_ports),
                ("ports-written", Program::write_ports),
                ("msrs", Program::msrs),
                ("hypercalls", Program::hypercalls),
            ],
            _ => &[("msrs", Program::msrs), ("hypercalls", Program::hypercalls)],
        };
        for (name, body) in programs {
            let mut program = Program::new();
            body(&mut program);
            let made = program.made;
            let image = program.report()?;
            guests.push(Guest::sweep(format!("{name}-{cpus}"), cpus, image, made));
        }
        for (name, end, ended) in ends() {
            let mut program = Program::new();
            print(&mut program.a, &format!("{BANNER}ends\n"));
            match end {
                End::Write(width, port, value) => write(&mut program.a, width, port, value),
                End::TripleFault => program.triple_fault(),
            }
            program.fail("returned", &[]);
            guests.push(Guest::end(format!("{name}-{cpus}"), cpus, program.finish()?, ended));
        }
    }
    Ok(guests)
}

/// How a machine ends.
#[derive(Clone, Copy)]
enum End {
    Write(Width, u16, u32),
    TripleFault,
}

fn ends() -> Vec<(String, End, u8)> {
    use Width::{Byte, Dword, Word};
    // ACPI 6.5, 4.8.3.2.1: the sleep type that the machine's tables give for off, and "sleep now".
    const SOFT_OFF: u32 = 5 << 10 | 1 << 13;
    let mut ends = Vec::new();
    let mut end = |name: &str, width, port, value, status| {
        ends.push((name.to_owned(), End::Write(width, port, value), status));
    };
    end("off", Word, 0x604, SOFT_OFF, status::POWER_OFF);
    end("off-by-its-high-byte", Byte, 0x605, SOFT_OFF >> 8, status::POWER_OFF);
    end("off-by-32-bits", Dword, 0x604, 0xffff_0000 | SOFT_OFF, status::POWER_OFF);
    end("off-by-the-word-before", Dword, 0x602, SOFT_OFF << 16 | 0xffff, status::POWER_OFF);
    end("off-with-every-bit-but-the-type", Word, 0x604, 0xe3ff | SOFT_OFF, status::POWER_OFF);
    end("reset-hard", Byte, 0xcf9, 0x06, status::RESET);
    end("reset-full", Byte, 0xcf9, 0x0e, status::RESET);
    end("reset-soft", Byte, 0xcf9, 0x04, status::RESET);
    end("reset-every-bit", Byte, 0xcf9, 0xff, status::RESET);
    end("keyboard-fe", Byte, 0x64, 0xfe, status::RESET);
    end("keyboard-f0", Byte, 0x64, 0xf0, status::RESET);
    ends.push(("triple-fault".into(), End::TripleFault, status::CRASH));
    ends
}

impl Program {
    fn new() -> Self {
        let mut a = Asm::new(ENTRY);
        let (idt, descriptor) = (a.label(), a.label());
        a.li(RSP, STACK);
        a.lidt(rip(descriptor));
        a.li(MADE, 0);
        Self { a, idt, descriptor, made: 0 }
    }

    /// Calls `f` for an accumulator of each width, in a loop over all ports, whose number is in `NEXT` and in `rdx`.
    fn for_all_ports(&mut self, mut f: impl FnMut(&mut Self, Width, Label)) {
        for width in WIDTHS {
            self.a.li(NEXT, 0);
            let again = self.a.here_label();
            let skip = self.a.label();
            self.a.mov(RDX, NEXT);
            f(self, width, skip);
            self.a.bind(skip);
            self.a.inc(EBX);
            self.a.cmp(EBX, 0x1_0000);
            self.a.jcc(Cond::Ne, again);
        }
    }

    fn read_ports(&mut self) {
        self.for_all_ports(|this, width, good| {
            this.a.li(RAX, 0);
            this.a.in_dx(RAX.of(width));
            this.a.inc(MADE);
            this.made += 0x1_0000;
            let ones = match width {
                Width::Byte => 0xff,
                Width::Word => 0xffff,
                _ => u32::MAX.into(),
            };
            this.a.li(RCX, ones);
            this.a.cmp(RAX, RCX);
            this.a.jcc(Cond::E, good);
            for taken in &TAKEN {
                // Reached by an access from up to three ports before on.
                let behind = this.a.label();
                let (first, last) = (i32::from(*taken.start()), i32::from(*taken.end()));
                this.a.cmp(EDX, first - bytes(width) + 1);
                this.a.jcc(Cond::B, behind);
                this.a.cmp(EDX, last);
                this.a.jcc(Cond::Be, good);
                this.a.bind(behind);
            }
            this.a.mov(FIRST, NEXT);
            this.a.mov(OTHER, RAX);
            this.fail("port", &[FIRST, OTHER]);
        });
    }

    fn write_ports(&mut self) {
        for (value, ends) in WRITTEN {
            self.for_all_ports(|this, width, skip| {
                this.made += 0x1_0000;
                for (_, port) in ends.iter().filter(|(of, _)| *of == width) {
                    this.a.cmp(EDX, i32::from(*port));
                    this.a.jcc(Cond::E, skip);
                    this.made -= 1;
                }
                this.a.li(RAX, value.into());
                this.a.out_dx(RAX.of(width));
                this.a.inc(MADE);
            });
        }
        // Whatever the serial port is set to: its registers are there, it is not a loop, and asks for nothing.
        for (register, value) in [(3, 3), (1, 0), (2, 0), (4, 0)] {
            write(&mut self.a, Width::Byte, COM1 + register, value);
        }
    }

    fn msrs(&mut self) {
        for range in MSRS {
            self.made +=
                (u64::from(range.end() - range.start()) + 1) * (2 + MSR_VALUES.len() as u64);
            self.a.li(NEXT, u64::from(*range.start()));
            let again = self.a.here_label();
            self.a.mov(ECX, EBX);
            self.a.rdmsr(); // what fails is skipped by the handler, and counts
            self.a.inc(MADE);
            self.a.wrmsr();
            self.a.inc(MADE);
            for value in MSR_VALUES {
                self.a.li(RAX, value & 0xffff_ffff);
                self.a.li(RDX, value >> 32);
                self.a.wrmsr();
                self.a.inc(MADE);
            }
            self.a.inc(EBX);
            self.a.cmp(EBX, range.end().wrapping_add(1) as i32);
            self.a.jcc(Cond::Ne, again);
        }
    }

    fn hypercalls(&mut self) {
        let intel = self.a.label();
        // The instruction of the other vendor's CPUs may be undefined. Those that are not Intel's are like AMD's.
        self.a.li(RAX, 0);
        self.a.cpuid();
        self.a.li(RBP, 0);
        self.a.cmp(EBX, 0x756e_6547); // "Genu"
        self.a.jcc(Cond::E, intel);
        self.a.inc(EBP);
        self.a.bind(intel);
        for number in CALLS.chain(STRANGE_CALLS) {
            for argument in ARGUMENTS {
                let (with_vmcall, called, good) = (self.a.label(), self.a.label(), self.a.label());
                for register in [RBX, RCX, RDX, RSI] {
                    self.a.li(register, argument);
                }
                self.a.li(RAX, number);
                self.a.test(EBP, EBP);
                self.a.jcc(Cond::E, with_vmcall);
                self.a.vmmcall();
                self.a.jmp(called);
                self.a.bind(with_vmcall);
                self.a.vmcall();
                self.a.bind(called);
                self.a.inc(MADE);
                self.made += 1;
                if number < NOBODYS {
                    continue;
                }
                self.a.li(RCX, NO_CALL);
                self.a.cmp(RAX, RCX);
                self.a.jcc(Cond::E, good);
                self.a.mov(OTHER, RAX);
                self.a.li(FIRST, number);
                self.fail("hypercall", &[FIRST, OTHER]);
                self.a.bind(good);
            }
        }
    }

    /// An exception without descriptors of handlers.
    fn triple_fault(&mut self) {
        let (empty, behind) = (self.a.label(), self.a.label());
        self.a.jmp(behind);
        self.a.bind(empty);
        self.a.zero(10);
        self.a.bind(behind);
        self.a.lidt(rip(empty));
        self.a.ud2();
    }

    /// Says how many calls were made, and switches the machine off.
    fn report(mut self) -> Result<Vec<u8>, AsmError> {
        say(&mut self.a, "calls", &[MADE]);
        power_off(&mut self.a);
        self.finish()
    }

    /// Says what is wrong, and ends the machine. The last line tells that this is no success.
    fn fail(&mut self, word: &str, numbers: &[Reg]) {
        say(&mut self.a, word, numbers);
        power_off(&mut self.a);
    }

    fn finish(mut self) -> Result<Vec<u8>, AsmError> {
        let idt = self.idt;
        let mut handlers = Vec::new();
        for vector in 0..32u32 {
            self.a.align(16);
            handlers.push(self.a.here());
            match vector {
                // An NMI, which registers of the APIC could send.
                2 => self.a.iretq(),
                // A protection fault of `rdmsr` or `wrmsr`, which have two bytes: goes on behind it.
                13 => {
                    self.a.add(RSP, 8);
                    self.a.add(qword(RSP), 2);
                    self.a.iretq();
                }
                _ => {
                    self.a.li(FIRST, vector.into());
                    self.fail("exception", &[FIRST]);
                }
            }
        }
        let Self { mut a, descriptor, .. } = self;
        a.align(16);
        a.bind(idt);
        for handler in &handlers {
            // An interrupt gate of 64 bits (SDM volume 3, 7.14.1).
            let low = handler & 0xffff
                | u64::from(CODE64) << 16
                | 0x8e00 << 32
                | (handler >> 16 & 0xffff) << 48;
            a.quad(low);
            a.quad(handler >> 32);
        }
        a.bind(descriptor);
        a.half(handlers.len() as u16 * 16 - 1);
        a.quad_label(idt);
        a.finish()
    }
}

fn bytes(width: Width) -> i32 {
    match width {
        Width::Byte => 1,
        Width::Word => 2,
        Width::Dword => 4,
        Width::Qword => 8,
    }
}

fn write(a: &mut Asm, width: Width, port: u16, value: u32) {
    a.li(RDX, port.into());
    a.li(RAX, value.into());
    a.out_dx(RAX.of(width));
}

fn print(a: &mut Asm, text: &str) {
    for byte in text.bytes() {
        write(a, Width::Byte, COM1, byte.into());
    }
}

/// Prints a line: the banner, a word, and the numbers in these registers.
fn say(a: &mut Asm, word: &str, numbers: &[Reg]) {
    print(a, &format!("\n{BANNER}{word}"));
    for (number, before) in numbers.iter().zip([" ", " answered "]) {
        print(a, before);
        print_number(a, *number);
    }
    print(a, "\n");
}

fn print_number(a: &mut Asm, number: Reg) {
    a.mov(RAX, number);
    a.li(R8, 10);
    a.li(R9, 0);
    // The digits come last one first.
    let digit = a.here_label();
    a.li(RDX, 0);
    a.div(R8);
    a.add(RDX, i32::from(b'0'));
    a.push(RDX);
    a.inc(R9);
    a.test(RAX, RAX);
    a.jcc(Cond::Ne, digit);
    a.li(RDX, COM1.into());
    let next = a.here_label();
    a.pop(RAX);
    a.out_dx(AL);
    a.dec(R9);
    a.jcc(Cond::Ne, next);
}

fn power_off(a: &mut Asm) {
    write(a, Width::Word, 0x604, 5 << 10 | 1 << 13);
    let here = a.here_label(); // it went on: the run takes too long
    a.jmp(here);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_the_machine_is_not_written_to_every_port() {
        for (value, left_out) in WRITTEN {
            let byte = value & 0xff;
            let resets = byte & 1 << 2 != 0;
            assert_eq!(left_out.contains(&(Width::Byte, 0xcf9)), resets, "{value:#x}");
            assert_ne!(byte & 0xf1, 0xf0, "{value:#x} at the keyboard controller");
            let sleeps = byte & 1 << 5 != 0 && byte >> 2 & 7 == 5;
            assert!(!sleeps, "{value:#x} at ACPI's");
        }
    }
}
