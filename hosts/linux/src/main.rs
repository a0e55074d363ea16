//! The `axvcpu` command.

fn main() {}
