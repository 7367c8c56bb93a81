//! Memory that the machine does not give: the process ends with one sentence and exit code 1, instead of an abort.

use std::alloc::{GlobalAlloc, Layout, System};

unsafe extern "C" {
    fn fedreplay_name_limits();
    fn fedreplay_out_of_memory() -> !;
    fn fedreplay_be_first();
    fn fedreplay_name_faults();
}

/// Prepares the process for the case that C++ code runs out of memory outside of any call that could return an error. A program
/// names it in its section `.preinit_array`: the initializers of LibTorch, which run before `main`, need memory too.
pub extern "C" fn name_limits() {
    // SAFETY: it exchanges a pointer of the C++ library, which needs no initializer.
    unsafe { fedreplay_name_limits() }
}

/// Ends the process with the sentence about memory where a library that got none reads from no address. Other faults keep their
/// treatment.
pub fn name_faults() {
    // SAFETY: the handler calls only what may be called in one, and leaves other faults to the one that it replaces.
    unsafe { fedreplay_name_faults() }
}

/// Returns for the first thread that ends the process for want of memory, threads or files. Others wait for the end.
pub fn be_first_to_end() {
    // SAFETY: it exchanges the number of a thread, and may wait.
    unsafe { fedreplay_be_first() }
}

/// Allocator of a program that ends when there is no memory: it has one sentence to say, where the standard library aborts.
pub struct EndingAllocator;

// SAFETY: all calls go to the system's allocator, whose results are returned unless they are null.
unsafe impl GlobalAlloc for EndingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        given(unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        given(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        given(unsafe { System.realloc(block, layout, size) })
    }
}

/// Returns a block, if it was given.
fn given(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        // SAFETY: it writes a constant text and ends the process, without memory of its own.
        unsafe { fedreplay_out_of_memory() }
    }
    block
}
