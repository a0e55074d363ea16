//! A small virtual machine monitor on top of AxVCpu.
#![no_std]
