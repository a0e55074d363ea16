//! A platform, memory and a scripted vCPU for the unit tests.
#![allow(unsafe_code)] // implements the platform traits
