//! The code of the book's porting guide and of the crates' READMEs, as tests: `cargo test` compiles and runs every
//! block marked as Rust.
//!
//! Blocks that the book includes from source files are marked `rs`, which looks the same in the book and is left alone
//! here: those files have tests of their own.

/// Makes the code of each chapter a test.
macro_rules! chapters {
    ($($name:ident: $file:literal,)*) => {
        $(#[cfg(doctest)] #[doc = include_str!($file)] mod $name {})*
    };
}

chapters! {
    architecture: "src/guide/architecture.md",
    concepts: "src/guide/concepts.md",
    interrupts: "src/guide/interrupts.md",
    migrating: "src/guide/migrating.md",
    performance: "src/guide/performance.md",
    platform: "src/guide/platform.md",
    suite: "src/guide/suite.md",
    troubleshooting: "src/guide/troubleshooting.md",
    readme_conformance: "../conformance/README.md",
    readme_riscv: "../backends/riscv/README.md",
    readme_soft: "../backends/soft/README.md",
    readme_stage2: "../backends/stage2/README.md",
}
