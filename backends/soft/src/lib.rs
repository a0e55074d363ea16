//! A RISC-V hart in software, as an AxVCpu backend that runs anywhere.
#![no_std]
