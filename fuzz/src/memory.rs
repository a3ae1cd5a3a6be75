//! Counts what is allocated, in the whole process: inputs are checked one at a time.

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Runs `act` and returns by how many bytes memory grew at its highest, compared with before.
pub(crate) fn peak_of(act: impl FnOnce()) -> usize {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    act();
    ALLOCATOR.peak_usage().saturating_sub(before)
}
