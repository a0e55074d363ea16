//! A word that the runner of the machine chooses and no guest knows: what is printed behind it is the hypervisor's.

use spin::Mutex;

/// A mark is no longer than this.
pub const LONGEST: usize = 64;

/// Whether this can be a mark.
pub fn is_mark(word: &str) -> bool {
    word.len() <= LONGEST && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The mark on this command line (`mark=`), whatever is wrong with the rest of it: it is needed to tell. Empty if
/// there is none.
pub fn find(bootargs: &str) -> &str {
    let mut values =
        bootargs.split_ascii_whitespace().filter_map(|word| word.strip_prefix("mark="));
    values.rfind(|value| is_mark(value)).unwrap_or("")
}

static MARK: Mutex<&'static str> = Mutex::new("");

/// Keeps the mark of this machine.
pub(crate) fn set(mark: &'static str) {
    *MARK.lock() = mark;
}

/// The mark of this machine, also for who must not wait.
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))] // the only ones with nothing better
pub(crate) fn get() -> &'static str {
    MARK.try_lock().map_or("", |mark| *mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_there_for_mistakes_as_well() {
        assert_eq!(find("cpus=99 mark=beef nonsense"), "beef");
        assert_eq!(find("cpus=1 mark=00ff"), "00ff");
        assert_eq!(find("mark=\x1b[2J"), "");
        assert_eq!(find("xmark=1"), "");
        assert_eq!(find(""), "");
    }

    #[test]
    fn what_can_be_a_mark() {
        assert!(is_mark("") && is_mark("00ff") && is_mark(&"a".repeat(LONGEST)));
        assert!(!is_mark("a-b") && !is_mark("ä") && !is_mark(&"a".repeat(LONGEST + 1)));
    }
}
