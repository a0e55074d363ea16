//! Guests that call their firmware with everything.
//!
//! [`guests`] makes them, for a machine with [`MEMORY`] bytes of RAM. There are three kinds:
//!
//! * A *sweep* makes calls out of a table: every function there is and others, with extreme arguments. It knows from a
//!   model of the specification, written from that alone, what each call may answer, and that it changes no other
//!   register. In the end it prints how many calls it made, and switches its machine off.
//! * A *storm* is the same from all CPUs at once, each from another place of the table on.
//! * An *end* makes one call that does not return, and that stops, resets or switches off the machine.
//!
//! Calls print what is in memory and any byte, so that what a guest says itself is in the last line of its output.

mod arm;
mod riscv;
mod table;
mod x86;

use std::fmt;

use table::Call;

/// How much memory the guests' machine has: their tables of arguments have its end in them.
pub const MEMORY: u64 = 16 << 20;

/// What the last line begins with that a guest prints.
pub const BANNER: &str = "AXVCPU-FIRMWARE ";

/// Exit statuses of a machine.
mod status {
    pub(crate) const POWER_OFF: u8 = 0;
    pub(crate) const RESET: u8 = 3;
    pub(crate) const CRASH: u8 = 4;
}

/// What the guests are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// RISC-V: SBI.
    Riscv64,
    /// AArch64: PSCI.
    Aarch64,
    /// x86-64: a PC's ports, and MSRs.
    X86_64,
}

impl Arch {
    const ALL: [(&'static str, Self); 3] =
        [("riscv64", Self::Riscv64), ("aarch64", Self::Aarch64), ("x86_64", Self::X86_64)];

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(own, _)| *own == name).map(|(_, arch)| *arch)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, arch)| arch == self).map_or("?", |(name, _)| *name);
        f.write_str(name)
    }
}

/// A guest, and what becomes of it.
pub struct Guest {
    /// What it does, in words that make a file's name.
    pub name: String,
    /// How many CPUs its machine has.
    pub cpus: u32,
    /// The flat binary.
    pub image: Vec<u8>,
    /// The exit status of its machine.
    pub status: u8,
    /// The last line it prints.
    pub last: String,
    /// The calls of its table, and the names of the registers they are made with.
    calls: Vec<Call>,
    registers: [&'static str; 8],
}

impl Guest {
    fn sweep(name: String, cpus: u32, image: Vec<u8>, made: u64) -> Self {
        let last = format!("{BANNER}calls {made}");
        let (calls, registers) = (Vec::new(), [""; 8]);
        Self { name, cpus, image, status: status::POWER_OFF, last, calls, registers }
    }

    /// The same with the calls that its table has.
    fn of(self, calls: &[Call], registers: [&'static str; 8]) -> Self {
        Self { calls: calls.to_vec(), registers, ..self }
    }

    fn end(name: String, cpus: u32, image: Vec<u8>, status: u8) -> Self {
        let last = format!("{BANNER}ends");
        Self { name, cpus, image, status, last, calls: Vec::new(), registers: [""; 8] }
    }

    /// Whether a run that printed this and had this status is what is expected of the guest.
    ///
    /// # Errors
    ///
    /// Says what is not.
    pub fn judge(&self, console: &str, status: Option<i32>) -> Result<(), String> {
        let last = last_line(console);
        if last == self.last && status == Some(self.status.into()) {
            return Ok(());
        }
        let call = self.call(last).map(|call| format!("\nthe call is {call}")).unwrap_or_default();
        Err(format!(
            "status {status:?}, expected {}\nthe last line is {last:?}, expected {:?}{call}",
            self.status, self.last
        ))
    }

    /// The call that a guest's last line is about.
    pub fn call(&self, last: &str) -> Option<String> {
        let number = last.strip_prefix(BANNER)?.strip_prefix("call ")?.split(' ').next()?;
        let call = self.calls.get(number.parse::<usize>().ok()?)?;
        Some(call.text(self.registers))
    }
}

/// The last line of what a guest printed. What comes before may be anything, with any bytes in it.
fn last_line(console: &str) -> &str {
    let line = console.trim_end_matches(['\n', '\r']);
    line.rsplit('\n').next().unwrap_or(line).trim_end_matches('\r')
}

/// All guests for machines with one CPU and with four.
///
/// # Errors
///
/// Never, unless a program in this crate is wrong.
pub fn guests(arch: Arch) -> Result<Vec<Guest>, Box<dyn std::error::Error>> {
    match arch {
        Arch::Riscv64 => riscv::guests(),
        Arch::Aarch64 => arm::guests(),
        Arch::X86_64 => x86::guests(),
    }
}

#[cfg(test)]
mod tests {
    use super::table::Expect;
    use super::*;

    fn guest() -> Guest {
        let call = |nr| Call { registers: [nr; 8], second: false, expect: Expect::Any };
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        Guest::sweep("x".into(), 1, Vec::new(), 2).of(&[call(1), call(2)], names)
    }

    #[test]
    fn the_last_line_and_the_status_count() {
        let guest = guest();
        let judge = |console: &str, status| guest.judge(console, status).is_ok();
        assert!(judge("\0\u{1b}[2J\nAXVCPU-FIRMWARE calls 2\r\n", Some(0)));
        assert!(!judge("AXVCPU-FIRMWARE calls 2\n", Some(4)));
        assert!(!judge("AXVCPU-FIRMWARE calls 2\n", None));
        assert!(!judge("AXVCPU-FIRMWARE calls 1\n", Some(0)));
        assert!(!judge("AXVCPU-FIRMWARE calls 2\nmore\n", Some(0)));
        assert!(!judge("", Some(0)));
    }

    #[test]
    fn a_wrong_answer_is_told_with_its_call() {
        let guest = guest();
        let text = guest.judge("AXVCPU-FIRMWARE call 1 answered 5\n", Some(4)).unwrap_err();
        assert!(text.contains("the call is a=0x2 b=0x2 c=0x2"), "{text}");
    }

    #[test]
    fn guests_have_names_of_their_own_and_fit_into_memory() {
        for (name, arch) in Arch::ALL {
            assert_eq!(Arch::named(name), Some(arch));
            let guests = guests(arch).unwrap();
            for guest in &guests {
                let same = guests.iter().filter(|other| other.name == guest.name).count();
                assert_eq!(same, 1, "{arch}: {}", guest.name);
                assert!(guest.image.len() < 8 << 20, "{arch}: {}", guest.name);
                assert!([1, 4].contains(&guest.cpus), "{arch}: {}", guest.name);
            }
            for status in [status::POWER_OFF, status::RESET, status::CRASH] {
                let ends = guests.iter().any(|guest| guest.status == status);
                assert!(ends, "{arch}: nothing ends with {status}");
            }
        }
    }
}
