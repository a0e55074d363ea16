//! A small type-1 hypervisor: AxVCpu's virtual machines on bare metal.
#![no_std]
