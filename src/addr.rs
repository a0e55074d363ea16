//! Address types: which space an address belongs to is part of its type.

use core::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $raw:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name($raw);

        impl $name {
            /// The address with this numerical value.
            #[inline]
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// The numerical value.
            #[inline]
            pub const fn as_u64(self) -> u64 {
                self.0 as u64
            }

            /// The numerical value as the host's pointer-sized integer; truncates on hosts whose
            /// pointers are narrower than the address.
            #[inline]
            pub const fn as_usize(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address!(
    /// An address in the guest's physical address space (the input of stage 2).
    GuestPhysAddr,
    u64
);
address!(
    /// An address in the host's physical address space (the output of stage 2).
    ///
    /// A hosted platform has no physical memory of its own to hand out; it chooses any numbering for
    /// which its [`AxMmHal`](crate::AxMmHal) conversions hold, usually the identity.
    HostPhysAddr,
    u64
);
address!(
    /// An address at which the code calling into this crate can access memory.
    HostVirtAddr,
    usize
);
