//! libFuzzer around one target, which `AXVCPU_FUZZ_TARGET` names. `cargo xtask fuzz` starts it.
#![no_main]
#![allow(unsafe_code)] // the macro exports libFuzzer's entry points

use std::sync::OnceLock;

use axvcpu_fuzz::{Target, find};

fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("AXVCPU_FUZZ_TARGET").unwrap_or_default();
        find(&name).unwrap_or_else(|| panic!("AXVCPU_FUZZ_TARGET: there is no target `{name}`"))
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (target().run)(data));
