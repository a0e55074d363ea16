//! `/dev/kvm`: whether it is there, and can do what the backend needs.

use std::error::Error;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use axvcpu::{AxArchPerCpu, AxError, AxResult};
use kvm_bindings::*;

use crate::kick::Thread;
use crate::sys::request;

/// Where KVM usually is.
pub const DEVICE: &str = "/dev/kvm";

/// What the backend cannot do without, by the names that the kernel's documentation has for it.
const NEEDED: [(u32, &str); 13] = [
    (KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"),
    (KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"),
    (KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"),
    (KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS"),
    (KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"),
    (KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"),
    (KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    (KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"),
    (KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"),
    (KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"),
    (KVM_CAP_XSAVE, "KVM_CAP_XSAVE"),
    (KVM_CAP_XCRS, "KVM_CAP_XCRS"),
    (KVM_CAP_USER_NMI, "KVM_CAP_USER_NMI"),
];

/// What machines with the kernel's interrupt controllers need besides.
const NEEDED_FOR_IRQCHIP: [(u32, &str); 5] = [
    (KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"),
    (KVM_CAP_PIT2, "KVM_CAP_PIT2"),
    (KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"),
    (KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"),
    (KVM_CAP_IRQFD, "KVM_CAP_IRQFD"),
];

/// Why KVM cannot be used, or a machine cannot be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum KvmError {
    /// There is no such device.
    NoDevice {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The device may not be opened.
    Permission {
        /// The device.
        path: PathBuf,
    },
    /// The device cannot be opened for another reason.
    Open {
        /// The device.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The device is no KVM, or one with another interface.
    Version {
        /// What it says it is; 12 is the only one there is.
        found: i32,
    },
    /// The kernel lacks something.
    Missing {
        /// The name of the capability.
        capability: &'static str,
    },
    /// The kernel refused a request.
    Refused {
        /// What was asked of it.
        what: &'static str,
        /// The reason.
        error: io::Error,
    },
}

impl fmt::Display for KvmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice { path } => write!(
                f,
                "there is no {}: load the module kvm-amd or kvm-intel, and look whether virtualization is switched on \
                 in the firmware",
                path.display()
            ),
            Self::Permission { path } => write!(
                f,
                "{} exists, but may not be opened: join the group that owns it (often kvm)",
                path.display()
            ),
            Self::Open { path, error } => write!(f, "{} cannot be opened: {error}", path.display()),
            Self::Version { found } => {
                write!(f, "the device speaks version {found} of KVM's interface, not 12")
            }
            Self::Missing { capability } => {
                write!(f, "the kernel's KVM has no {capability}: use a newer kernel")
            }
            Self::Refused { what, error } => write!(f, "KVM refused {what}: {error}"),
        }
    }
}

impl Error for KvmError {}

impl From<&KvmError> for AxError {
    fn from(error: &KvmError) -> Self {
        match error {
            KvmError::Open { error, .. } | KvmError::Refused { error, .. } => {
                Self::Host { code: error.raw_os_error().unwrap_or(0) }
            }
            _ => Self::Unsupported,
        }
    }
}

/// The open device.
#[derive(Debug)]
pub struct Kvm {
    fd: OwnedFd,
}

impl Kvm {
    /// Opens [`DEVICE`] and checks that it has what the backend needs.
    ///
    /// # Errors
    ///
    /// See [`KvmError`].
    pub fn open() -> Result<Self, KvmError> {
        Self::open_at(Path::new(DEVICE))
    }

    /// Opens the device at `path` and checks that it has what the backend needs.
    ///
    /// # Errors
    ///
    /// See [`KvmError`].
    pub fn open_at(path: &Path) -> Result<Self, KvmError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => KvmError::NoDevice { path: path.into() },
            io::ErrorKind::PermissionDenied => KvmError::Permission { path: path.into() },
            _ => KvmError::Open { path: path.into(), error },
        })?;
        let this = Self { fd: file.into() };
        match request::GET_API_VERSION.call(this.fd(), 0) {
            Ok(12) => {}
            Ok(found) => return Err(KvmError::Version { found }),
            Err(_) => return Err(KvmError::Version { found: 0 }),
        }
        this.need(&NEEDED)?;
        Ok(this)
    }

    /// Whether machines with the kernel's interrupt controllers can be made.
    ///
    /// # Errors
    ///
    /// [`Missing`](KvmError::Missing).
    pub fn check_irqchip(&self) -> Result<(), KvmError> {
        self.need(&NEEDED_FOR_IRQCHIP)
    }

    fn need(&self, capabilities: &[(u32, &'static str)]) -> Result<(), KvmError> {
        let missing = capabilities.iter().find(|(number, _)| self.capability(*number) == 0);
        match missing {
            Some(&(_, capability)) => Err(KvmError::Missing { capability }),
            None => Ok(()),
        }
    }

    /// What the kernel says of one of its capabilities (`KVM_CHECK_EXTENSION`); 0 if it has not got it.
    pub fn capability(&self, number: u32) -> u32 {
        request::CHECK_EXTENSION.call(self.fd(), number.into()).unwrap_or(0) as u32
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Virtualization on a thread, which is what a physical CPU is here: the kernel has switched the hardware on already,
/// and has to be able to do what the backend needs.
#[derive(Debug)]
pub struct KvmPerCpu {
    kvm: Option<Kvm>,
}

impl AxArchPerCpu for KvmPerCpu {
    fn new(_: usize) -> AxResult<Self> {
        Ok(Self { kvm: None })
    }

    fn is_enabled(&self) -> bool {
        self.kvm.is_some()
    }

    /// Opens the device, and lets the thread be kicked.
    fn hardware_enable(&mut self) -> AxResult {
        let host = |error: io::Error| AxError::Host { code: error.raw_os_error().unwrap_or(0) };
        Thread::current().map_err(host)?;
        self.kvm = Some(Kvm::open().map_err(|error| AxError::from(&error))?);
        Ok(())
    }

    fn hardware_disable(&mut self) -> AxResult {
        self.kvm = None;
        Ok(())
    }
}
