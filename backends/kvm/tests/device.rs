//! What is no KVM is told from one, and why.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::Path;

use axvcpu::AxError;
use axvcpu_kvm::{Kvm, KvmError};

#[test]
fn a_missing_device_and_one_that_is_no_kvm_are_told_apart() {
    let open = |path| Kvm::open_at(Path::new(path)).err().unwrap();
    let missing = open("/nowhere/kvm");
    assert!(matches!(missing, KvmError::NoDevice { .. }));
    assert!(missing.to_string().starts_with("there is no /nowhere/kvm: load the module"));
    let other = open("/dev/null");
    assert!(matches!(other, KvmError::Version { found: 0 }), "{other}");
    let error = open("/dev/null/kvm");
    assert!(matches!(error, KvmError::Open { .. }), "{error}");
    assert_eq!(AxError::from(&error), AxError::Host { code: 20 }); // ENOTDIR
    for error in [missing, other, KvmError::Missing { capability: "KVM_CAP_X" }] {
        assert_eq!(AxError::from(&error), AxError::Unsupported);
    }
}

#[test]
fn errors_say_what_to_do() {
    let path = "/dev/kvm".into();
    for (error, expected) in [
        (KvmError::Permission { path }, "/dev/kvm exists, but may not be opened: join the group"),
        (KvmError::Missing { capability: "KVM_CAP_X" }, "KVM has no KVM_CAP_X: use a newer kernel"),
        (KvmError::Version { found: 11 }, "version 11 of KVM's interface, not 12"),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
}
