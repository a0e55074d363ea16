//! Tells the linker where a bare-metal image goes.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=src/riscv64/link.ld");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("OS") == "none" && target("ARCH") == "riscv64" {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{folder}/src/riscv64/link.ld");
    }
}
