//! What the guest's harts can do: what the machine's can, and the vCPUs keep apart.

use alloc::string::String;

/// Single-letter extensions that a guest may have. Not among them: `h`, as guests have no guests.
const LETTERS: &str = "imafdcv";

/// Other extensions that a guest may have: all they add is instructions without state, and state the vCPUs have.
/// Those that the hypervisor would have to allow in `henvcfg` (Zicboz, Svpbmt and the like), or that end in a wait
/// (Zawrs), are not among them.
const NAMES: [&str; 26] = [
    "zicntr",
    "zicond",
    "zicsr",
    "zifencei",
    "zihintntl",
    "zihintpause",
    "zmmul",
    "zaamo",
    "zalrsc",
    "zacas",
    "zfa",
    "zfh",
    "zfhmin",
    "zca",
    "zcb",
    "zcd",
    "zba",
    "zbb",
    "zbc",
    "zbkb",
    "zbkc",
    "zbkx",
    "zbs",
    "sstc",
    "svvptc",
    "svinval",
];

/// The part of a hart's ISA string that a guest gets: known extensions for which `has_state` answers yes.
///
/// The string is as device trees have it (Linux, Documentation/devicetree/bindings/riscv/extensions.yaml): lower
/// case, without versions, single letters first.
pub(crate) fn of_guest(hart: &str, has_state: impl Fn(&str) -> bool) -> String {
    let extensions = hart.strip_prefix("rv64").unwrap_or(hart);
    // The first name may follow the letters without an underscore.
    let (letters, names) =
        extensions.split_at(extensions.find(['_', 's', 'x', 'z']).unwrap_or(extensions.len()));
    let mut isa = String::from("rv64");
    let letters = letters.chars().filter(|&letter| LETTERS.contains(letter));
    isa.extend(letters.filter(|letter| has_state(letter.encode_utf8(&mut [0; 4]))));
    for name in names.split('_').filter(|name| NAMES.contains(name) && has_state(name)) {
        isa.push('_');
        isa.push_str(name);
    }
    isa
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guests_must_not_have_is_left_out() {
        let hart = "rv64imafdch_zic64b_zicbom_zicboz_zicntr_zicsr_zifencei_zihpm_zawrs_zba_zbb_zbc_zbs_\
                    shtvala_smstateen_sstc_svadu_svpbmt";
        assert_eq!(
            of_guest(hart, |_| true),
            "rv64imafdc_zicntr_zicsr_zifencei_zba_zbb_zbc_zbs_sstc"
        );
    }

    #[test]
    fn what_has_no_state_is_left_out() {
        let has_state = |extension: &str| !["f", "d", "v", "sstc"].contains(&extension);
        assert_eq!(of_guest("rv64imafdcvh_zicsr_sstc", has_state), "rv64imac_zicsr");
    }

    #[test]
    fn names_are_whole_names() {
        assert_eq!(of_guest("rv64imazicsr_zba1_zbaa_zb", |_| true), "rv64ima_zicsr");
        assert_eq!(of_guest("rv64ima_", |_| true), "rv64ima");
        assert_eq!(of_guest("", |_| true), "rv64");
        assert_eq!(of_guest("é_ü", |_| true), "rv64");
    }
}
