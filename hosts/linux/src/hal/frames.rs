//! Page frames: zeroed pages of the program's heap.
#![allow(unsafe_code)] // allocates and frees raw memory

use std::alloc::{Layout, alloc_zeroed, dealloc};

use axvcpu::{AxMmHal, HostPhysAddr, HostVirtAddr};

const FRAME: usize = 4096;

/// So many frames, aligned to their size together.
fn layout(count: usize) -> Option<Layout> {
    let size = FRAME.checked_mul(count).filter(|&size| size > 0)?;
    Layout::from_size_align(size, size).ok() // refuses what is not a power of two
}

/// The program's memory: frames from the heap, physical addresses equal to virtual ones.
#[derive(Debug)]
pub enum Frames {}

// SAFETY: the allocator's blocks are this long, this aligned, zeroed and exclusive until freed; identity
// conversions are inverses of each other.
unsafe impl AxMmHal for Frames {
    fn alloc_frame() -> Option<HostPhysAddr> {
        Self::alloc_contiguous(1)
    }

    unsafe fn dealloc_frame(frame: HostPhysAddr) {
        // SAFETY: what `alloc_frame` hands out comes from `alloc_contiguous(1)`.
        unsafe { Self::dealloc_contiguous(frame, 1) };
    }

    fn alloc_contiguous(count: usize) -> Option<HostPhysAddr> {
        // SAFETY: the layout's size is not zero.
        let frames = unsafe { alloc_zeroed(layout(count)?) };
        (!frames.is_null())
            .then(|| Self::virt_to_phys(HostVirtAddr::new(frames.expose_provenance())))
    }

    unsafe fn dealloc_contiguous(frames: HostPhysAddr, count: usize) {
        let pointer = std::ptr::with_exposed_provenance_mut(Self::phys_to_virt(frames).as_usize());
        let Some(layout) = layout(count) else { return }; // then nothing was ever handed out
        // SAFETY: by the caller's promise the frames came from `alloc_contiguous` with this count, so from this
        // allocator with this layout, and are not used any more.
        unsafe { dealloc(pointer, layout) };
    }

    #[inline]
    fn phys_to_virt(addr: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::new(addr.as_usize())
    }

    #[inline]
    fn virt_to_phys(addr: HostVirtAddr) -> HostPhysAddr {
        HostPhysAddr::new(addr.as_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_aligned_zeroed_and_apart() {
        let mut frames: Vec<_> = (0..64).map(|_| Frames::alloc_frame().unwrap()).collect();
        frames.sort_unstable();
        for pair in frames.windows(2) {
            assert!(pair[1].as_u64() - pair[0].as_u64() >= 4096);
        }
        for &frame in &frames {
            assert_eq!(frame.as_u64() % 4096, 0);
            let words = std::ptr::with_exposed_provenance_mut::<[u64; 512]>(
                Frames::phys_to_virt(frame).as_usize(),
            );
            // SAFETY: a whole frame of our own, aligned for any type.
            let words = unsafe { &mut *words };
            assert_eq!(*words, [0; 512]);
            words.fill(u64::MAX); // so that a reused frame would show
        }
        for frame in frames {
            // SAFETY: allocated above, not used any more.
            unsafe { Frames::dealloc_frame(frame) };
        }
        let again = Frames::alloc_frame().unwrap();
        let first = std::ptr::with_exposed_provenance::<u64>(again.as_usize());
        // SAFETY: our own frame.
        assert_eq!(unsafe { first.read() }, 0);
        // SAFETY: allocated above, not used any more.
        unsafe { Frames::dealloc_frame(again) };
    }

    #[test]
    fn contiguous_frames_are_aligned_to_their_size() {
        for count in [1, 2, 4, 16, 64] {
            let frames = Frames::alloc_contiguous(count).unwrap();
            assert_eq!(frames.as_usize() % (count * FRAME), 0);
            let words = std::ptr::with_exposed_provenance::<u64>(frames.as_usize());
            for word in 0..count * FRAME / 8 {
                // SAFETY: within the frames.
                assert_eq!(unsafe { words.add(word).read() }, 0);
            }
            // SAFETY: allocated above, not used any more.
            unsafe { Frames::dealloc_contiguous(frames, count) };
        }
        for count in [0, 3, usize::MAX, 1 << 60] {
            assert_eq!(Frames::alloc_contiguous(count), None);
        }
    }
}
