//! Tells the linker where a bare-metal image goes.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=src/aarch64/link.ld");
    println!("cargo::rerun-if-changed=src/riscv64/link.ld");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let arch = target("ARCH");
    if target("OS") == "none" && ["aarch64", "riscv64"].contains(&arch.as_str()) {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{folder}/src/{arch}/link.ld");
    }
}
