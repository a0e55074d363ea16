//! The hypervisor's own end by failure.

use core::panic::PanicInfo;

use axvcpu::AxVCpuHal;

use crate::{Hal, console, machine, status};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let cpu = Hal::cpu_id();
    if console::close(cpu) {
        console::last_words(format_args!("\r\naxvcpu: host panic on CPU {cpu}: {info}\r\n"));
    }
    machine::power_off(status::HOST)
}
