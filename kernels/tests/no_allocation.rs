//! A repeated operation allocates nothing, in any precision and on any path: counted.
//!
//! The counting allocator is this binary's own, and the file has one test, so nothing else counts.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{cpus, values};
use kernels::{Attend, Cpu, Input, KvCache, KvPrecision, KvShape, Linear, Output, Packed, Precision, Span};

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

/// Allocations during ten products of `m` rows and ten of one.
fn products(cpu: &Cpu, linear: &Linear, x: &[f32], y: &mut [f32]) -> usize {
    let (k, n) = (linear.weight.inputs(), linear.weight.outputs());
    let ones = vec![1.0; k];
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..10 {
        for rows in [x, &x[..k]] {
            let input = Input::Norm { rows, gain: &ones, bias: &ones, eps: 1e-5 };
            cpu.linear(input, linear, &mut y[..rows.len() / k * n], Output::Gelu);
        }
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// Allocations while a sequence is read in a block and continued by ten single positions.
fn attended(cpu: &Cpu, cache: &mut KvCache, products: Precision, qkv: &[f32], out: &mut [f32]) -> usize {
    let (c, rows, how) = (out.len() / 40, 40, Attend { scale: 0.2, products, last: false });
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    cpu.attention(cache, 0, &[Span { sequence: 0, start: 0, row: 0, rows }], qkv, how, out);
    for start in rows..rows + 10 {
        let span = [Span { sequence: 0, start, row: 0, rows: 1 }];
        cpu.attention(cache, 0, &span, &qkv[..3 * c], how, &mut out[..c]);
    }
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn a_repeated_operation_allocates_nothing() {
    let (k, n, w) = (130, 70, values(1, 130 * 70));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    drop(Box::new(k));
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before, "the counter counts");
    for precision in Precision::ALL {
        for cpu in cpus(2) {
            let weight = Packed::from_kn(&cpu, &w, k, n, precision);
            let linear = Linear { weight, bias: values(2, n) };
            for m in [3, 20, 200] {
                let (x, mut y) = (values(3, m * k), vec![0.0; m * n]);
                cpu.linear(Input::Rows(&x), &linear, &mut y, Output::Store);
                // The test harness has a thread of its own that may allocate meanwhile; what a
                // product itself allocates shows in every attempt.
                products(&cpu, &linear, &x, &mut y);
                let quiet = (0..5).any(|_| products(&cpu, &linear, &x, &mut y) == 0);
                assert!(quiet, "{cpu:?} {precision} {m} rows");
            }
        }
    }
    let (heads, head_dim) = (3, 20);
    let c = heads * head_dim;
    let (qkv, mut out) = (values(4, 40 * 3 * c), vec![0.0; 40 * c]);
    for (precision, products) in KvPrecision::ALL
        .into_iter()
        .flat_map(|kept| [Precision::F32, Precision::Bf16].map(|products| (kept, products)))
    {
        let shape = KvShape { layers: 1, sequences: 1, heads, head_dim, capacity: 50, precision };
        for cpu in cpus(2) {
            let mut cache = KvCache::new(shape);
            attended(&cpu, &mut cache, products, &qkv, &mut out);
            let quiet = (0..5).any(|_| attended(&cpu, &mut cache, products, &qkv, &mut out) == 0);
            assert!(quiet, "{cpu:?} attention in {products} over a cache in {precision}");
        }
    }
}
