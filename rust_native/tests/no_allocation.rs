//! A decode step allocates nothing, the stepper's and the scheduler's: counted, on every path, in every
//! precision, and with a cache in bf16.
//!
//! The counting allocator is this binary's own, and the file has one test, so nothing else counts.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Weights, every_narrow_cache, every_precision, small, tokens};
use rust_native::{GenerateOptions, Gpt2, Scheduler, SchedulerOptions, Stepper};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_decode_step_allocates_nothing() {
    let weights = Weights::random(small(), 31);
    for options in every_precision().chain(every_narrow_cache()) {
        let model = weights.model(&options);
        for batch in [1, 3, 20] {
            let mut stepper = Stepper::new(&model, batch, 90).unwrap();
            let texts: Vec<Vec<u32>> = (0..batch).map(|i| tokens(i as u32, 1 + i, 211)).collect();
            let prompts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            // The test harness has a thread of its own that may allocate meanwhile; what a step
            // itself allocates shows in every attempt.
            let quiet = (0..5).any(|_| steps(&mut stepper, &prompts) == 0);
            assert!(quiet, "{options:?} batch {batch}");
            let quiet = (0..5).any(|_| scheduled(&model, &prompts) == 0);
            assert!(quiet, "{options:?} {batch} requests");
        }
    }
}

/// Allocations during 64 steps after a prefill.
fn steps(stepper: &mut Stepper<'_>, prompts: &[&[u32]]) -> usize {
    let start = ALLOCATIONS.load(Ordering::Relaxed);
    stepper.prefill(prompts).unwrap();
    drop(Box::new(prompts.len()));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(before > start, "the counter counts");
    for _ in 0..64 {
        stepper.step().unwrap();
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// Allocations during 60 steps of as many requests, once all are being written.
fn scheduled(model: &Gpt2, prompts: &[&[u32]]) -> usize {
    let of = SchedulerOptions { slots: prompts.len(), capacity: 90, chunk: 64 };
    let mut scheduler = Scheduler::new(model, &of).unwrap();
    let request = GenerateOptions { max_new_tokens: 64, ..GenerateOptions::default() };
    for prompt in prompts {
        scheduler.submit(prompt, &request).unwrap();
    }
    let mut tokens = 0;
    let mut step = || {
        scheduler
            .step(|_, _, _| {
                tokens += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
    };
    step();
    step();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..60 {
        step();
    }
    let counted = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(tokens, 62 * prompts.len());
    counted
}
