//! A counting allocator: heap allocations by thread role, which it takes from the thread's name.
//!
//! Counts only while armed. The C heap is counted separately: `malloc` of this binary overrides
//! that of the C library, and calls that do not come through Rust's allocator come from
//! libjpeg-turbo.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The roles, by the beginning of the thread's name.
pub const ROLES: [&str; 4] = ["fp-read", "fp-dispatch", "fp-work", "fp-commit"];

/// One more counter, for threads with none of the roles.
const PLACES: usize = ROLES.len() + 1;
const UNKNOWN: u8 = u8::MAX;

static ARMED: AtomicBool = AtomicBool::new(false);
static TRACES: AtomicU64 = AtomicU64::new(0);
static RUST: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];
static C: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];

thread_local! {
    // Constant initial values and no destructors, so that using them allocates nothing.
    static ROLE: Cell<u8> = const { Cell::new(UNKNOWN) };
    /// Set while Rust's allocator or the role look-up runs.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Blocks of the C heap that this thread has allocated and not freed, without Rust's.
    static C_BLOCKS: Cell<i64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

// SAFETY: every call goes to `System` with the same arguments. Counting touches atomics and
// thread-locals only, and its own allocations (a printed backtrace) are not counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the ones that `System` requires.
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
        let outermost = !INSIDE.replace(true);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
        if outermost {
            INSIDE.set(false);
        }
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

/// The counter index of the calling thread's role.
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
        fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
        fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
        fn __libc_free(block: *mut c_void);
    }

    /// Adds `blocks` to the count, unless they are Rust's.
    fn note(blocks: i64) {
        if INSIDE.get() {
            return;
        }
        C_BLOCKS.set(C_BLOCKS.get() + blocks);
        if blocks > 0 && ARMED.load(Ordering::Relaxed) {
            INSIDE.set(true);
            C[role()].fetch_add(1, Ordering::Relaxed);
            INSIDE.set(false);
        }
    }

    // These four functions replace those of the C library, as its manual allows.

    /// # Safety
    /// As `malloc`.
    // SAFETY: the name must be the C library's, and the function behaves like the original.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        note(1);
        // SAFETY: the C library's own function behind `malloc`, with the caller's argument.
        unsafe { __libc_malloc(size) }
    }

    /// # Safety
    /// As `calloc`.
    // SAFETY: as above.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
        note(1);
        // SAFETY: as above.
        unsafe { __libc_calloc(count, size) }
    }

    /// # Safety
    /// As `realloc`.
    // SAFETY: as above.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        note(i64::from(block.is_null()));
        // SAFETY: as above.
        unsafe { __libc_realloc(block, size) }
    }

    /// # Safety
    /// As `free`.
    // SAFETY: as above.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn free(block: *mut c_void) {
        note(-i64::from(!block.is_null()));
        // SAFETY: as above.
        unsafe { __libc_free(block) }
    }
}

/// Blocks of the C heap that C libraries have allocated on this thread and not freed.
pub fn c_blocks() -> i64 {
    C_BLOCKS.get()
}

/// Starts counting from zero; the first `traces` allocations print a backtrace.
pub fn arm(traces: u64) {
    for counter in RUST.iter().chain(&C) {
        counter.store(0, Ordering::Relaxed);
    }
    TRACES.store(traces, Ordering::Relaxed);
    ARMED.store(true, Ordering::SeqCst);
}

/// Stops counting; returns the allocations by role, on Rust's heap and on the C heap.
pub fn disarm() -> [(u64, u64); ROLES.len()] {
    ARMED.store(false, Ordering::SeqCst);
    std::array::from_fn(|place| {
        (RUST[place].load(Ordering::Relaxed), C[place].load(Ordering::Relaxed))
    })
}
