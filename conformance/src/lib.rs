//! What every AxVCpu backend must do, as tests.
#![no_std]
