//! A counting allocator: heap allocations by the role of the thread, which is in its name.
//!
//! Counts only while armed. The C heap is counted apart: `malloc` of this binary stands in front
//! of the one of the C library, and what does not come through Rust's allocator is libjpeg-turbo.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Roles told apart, by the beginning of the thread's name.
pub const ROLES: [&str; 4] = ["fp-read", "fp-dispatch", "fp-work", "fp-commit"];

/// Threads of none of the roles are counted behind the last one.
const PLACES: usize = ROLES.len() + 1;
const UNKNOWN: u8 = u8::MAX;

static ARMED: AtomicBool = AtomicBool::new(false);
static TRACES: AtomicU64 = AtomicU64::new(0);
static RUST: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];
static C: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];

thread_local! {
    // Constant initial values and no destructors, so that using them allocates nothing.
    static ROLE: Cell<u8> = const { Cell::new(UNKNOWN) };
    /// Set while Rust's allocator, or the search for the role, is at work.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

// SAFETY: every call goes to `System` with the same arguments; counting touches atomics and
// thread-locals only, and what it allocates itself (a printed backtrace) is not counted again.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the ones `System` asks for.
        counted(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        counted(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        counted(|| unsafe { System.realloc(pointer, layout, size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn counted(allocate: impl FnOnce() -> *mut u8) -> *mut u8 {
    let outermost = !INSIDE.replace(true);
    if outermost && ARMED.load(Ordering::Relaxed) {
        let role = role();
        RUST[role].fetch_add(1, Ordering::Relaxed);
        if role < ROLES.len() && ROLES[role] != "fp-dispatch" && take_trace() {
            eprintln!("{} allocates:\n{}", ROLES[role], std::backtrace::Backtrace::force_capture());
        }
    }
    let pointer = allocate();
    if outermost {
        INSIDE.set(false);
    }
    pointer
}

fn take_trace() -> bool {
    TRACES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// The place of the calling thread's role.
fn role() -> usize {
    if ROLE.get() == UNKNOWN {
        let mut name = [0; 16];
        let len = File::open("/proc/thread-self/comm").and_then(|mut file| file.read(&mut name));
        let name = &name[..len.unwrap_or(0)];
        let place = ROLES.iter().position(|role| name.starts_with(role.as_bytes()));
        ROLE.set(place.unwrap_or(ROLES.len()) as u8);
    }
    ROLE.get().into()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod c_heap {
    use super::*;
    use std::ffi::c_void;

    unsafe extern "C" {
        fn __libc_malloc(size: usize) -> *mut c_void;
    }

    /// Stands in front of the C library's, as its manual allows.
    ///
    /// # Safety
    /// As `malloc`.
    // SAFETY: the name is meant to be the C library's; it behaves as that one does.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        if ARMED.load(Ordering::Relaxed) && !INSIDE.replace(true) {
            C[role()].fetch_add(1, Ordering::Relaxed);
            INSIDE.set(false);
        }
        // SAFETY: the C library's own function behind `malloc`, with the caller's argument.
        unsafe { __libc_malloc(size) }
    }
}

/// Begins to count from zero; the first `traces` allocations print where they come from.
pub fn arm(traces: u64) {
    for counter in RUST.iter().chain(&C) {
        counter.store(0, Ordering::Relaxed);
    }
    TRACES.store(traces, Ordering::Relaxed);
    ARMED.store(true, Ordering::SeqCst);
}

/// Stops counting; allocations by role, on Rust's heap and on the C heap.
pub fn disarm() -> [(u64, u64); ROLES.len()] {
    ARMED.store(false, Ordering::SeqCst);
    std::array::from_fn(|place| {
        (RUST[place].load(Ordering::Relaxed), C[place].load(Ordering::Relaxed))
    })
}
