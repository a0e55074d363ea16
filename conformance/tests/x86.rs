//! The suite for x86-64, as far as a machine without such CPUs can try it: its guests assemble, and a backend that does
//! nothing right passes no case.

mod idle;
mod platform;

use axvcpu_conformance::x86;
use axvcpu_x86::start::Start;
use idle::{Nothing, nothing_passes};

impl x86::Subject for Nothing<Start> {
    fn setup_for(&self, start: Start) -> Start {
        start
    }
    fn lines(&self) -> bool {
        true
    }
}

#[test]
fn the_guests_assemble_and_nothing_passes() {
    nothing_passes(&x86::run(&Nothing(Start::REAL)));
}
