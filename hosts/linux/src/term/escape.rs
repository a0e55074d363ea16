//! The escape key: what the user types to the program itself, not to the guest.

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What a typed byte amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Nothing yet: the escape key was pressed and its command follows.
    Pending,
    /// Goes to the guest.
    Guest(u8),
    /// Ends the run.
    Leave,
    /// Shows what there is.
    Help,
    /// A command that does not exist; goes nowhere.
    Unknown,
}

/// What the user is told about the keys.
pub(crate) const HELP: &str = "\
Ctrl-A x       leave: end the guest at once
Ctrl-A Ctrl-A  send Ctrl-A to the guest
Ctrl-A h       this help
";

/// Recognizes escape sequences in what is typed.
#[derive(Debug, Default)]
pub(crate) struct Escape {
    pending: bool,
}

impl Escape {
    /// Takes the next byte.
    pub(crate) fn key(&mut self, byte: u8) -> Key {
        if !self.pending {
            if byte == ESCAPE {
                self.pending = true;
                return Key::Pending;
            }
            return Key::Guest(byte);
        }
        self.pending = false;
        match byte {
            ESCAPE => Key::Guest(ESCAPE),
            b'x' | b'X' => Key::Leave,
            b'h' | b'H' | b'?' => Key::Help,
            _ => Key::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(typed: &[u8]) -> Vec<Key> {
        let mut escape = Escape::default();
        typed.iter().map(|&byte| escape.key(byte)).collect()
    }

    #[test]
    fn everything_but_the_escape_key_reaches_the_guest() {
        for byte in (0..=255).filter(|&byte| byte != ESCAPE) {
            assert_eq!(keys(&[byte]), [Key::Guest(byte)]);
        }
    }

    #[test]
    fn commands() {
        assert_eq!(keys(b"\x01x"), [Key::Pending, Key::Leave]);
        assert_eq!(keys(b"\x01h"), [Key::Pending, Key::Help]);
        assert_eq!(keys(b"\x01\x01"), [Key::Pending, Key::Guest(1)]);
        assert_eq!(keys(b"\x01q"), [Key::Pending, Key::Unknown]);
    }

    #[test]
    fn a_command_is_one_byte_long() {
        assert_eq!(keys(b"\x01\x01x"), [Key::Pending, Key::Guest(1), Key::Guest(b'x')]);
        assert_eq!(keys(b"\x01qx"), [Key::Pending, Key::Unknown, Key::Guest(b'x')]);
        assert_eq!(keys(b"\x01h\x01x"), [Key::Pending, Key::Help, Key::Pending, Key::Leave]);
    }

    #[test]
    fn the_help_names_every_command() {
        for command in ["Ctrl-A x", "Ctrl-A Ctrl-A", "Ctrl-A h"] {
            assert!(HELP.contains(command));
        }
    }
}
