//! The vector kernels, written once over a register type.
//!
//! `neon`, `avx2` and `avx512` supply [`Lanes`] and instantiate these functions inside
//! `#[target_feature]` functions. Everything here is `inline(always)`: it becomes part of such a
//! function and is compiled with its features, never called on its own.
//!
//! `exp`: x = n ln2 + r with |r| <= ln2/2, e^r by a polynomial of degree 6, times 2^n. `exp2`: x = n + r
//! with |r| <= 1/2, likewise. Both polynomials are off by 2e-9 of the value at most (Remez' algorithm in
//! 40 digits), so what is left is rounding: the relative error is below 2e-7 on [-87.3, 88.3] and on
//! [-126, 127]. Below these ranges both give 1.2e-38, which every sum here absorbs.

use super::table::{Columns, PANEL};

/// A register of `N` floats.
///
/// # Safety
/// Every function needs a CPU with the implementor's instruction set; `load` and `store` need `N`
/// valid floats at the address, `widen` `N` valid words.
pub(super) trait Lanes: Copy {
    const N: usize;
    unsafe fn load(at: *const f32) -> Self;
    unsafe fn store(self, at: *mut f32);
    /// `N` pairs of bf16: the low halves, the high halves.
    unsafe fn widen(at: *const u32) -> [Self; 2];
    unsafe fn splat(x: f32) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    unsafe fn max(self, b: Self) -> Self;
    unsafe fn min(self, b: Self) -> Self;
    /// `self * b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// To the nearest whole number, ties to even.
    unsafe fn round(self) -> Self;
    /// `self 2^n` for whole numbers `n`, where it and `self` have a leading one.
    unsafe fn times_pow2(self, n: Self) -> Self;
    unsafe fn sum(self) -> f32;
    unsafe fn largest(self) -> f32;
}

/// `e^x`, see the head of this file.
#[inline(always)]
unsafe fn exp<V: Lanes>(x: V) -> V {
    const E: [f32; 7] = [1.383_684_6e-3, 8.374_816e-3, 4.166_822_5e-2, 0.166_664_2, 0.499_999_9, 1.0, 1.0];
    // SAFETY: arithmetic only; the CPU is the caller's promise.
    unsafe {
        let x = x.max(V::splat(-87.3)).min(V::splat(88.3));
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        // ln2 in two parts: the first has few bits, so n times it is exact.
        let r = n.fma(V::splat(-0.693_359_4), x);
        let r = n.fma(V::splat(2.121_944_4e-4), r);
        polynomial(E, r).times_pow2(n)
    }
}

/// `2^x` for x up to 127.
#[inline(always)]
unsafe fn exp2<V: Lanes>(x: V) -> V {
    const TWO: [f32; 7] = [
        1.534_581_2e-4,
        1.339_993_1e-3,
        9.618_489e-3,
        5.550_328_6e-2,
        0.240_226_46,
        std::f32::consts::LN_2,
        1.0,
    ];
    // SAFETY: arithmetic only; the CPU is the caller's promise.
    unsafe {
        let x = x.max(V::splat(-126.0));
        let n = x.round();
        polynomial(TWO, x.sub(n)).times_pow2(n)
    }
}

/// Coefficients from the highest power down.
#[inline(always)]
unsafe fn polynomial<V: Lanes, const D: usize>(coefficients: [f32; D], x: V) -> V {
    // SAFETY: arithmetic only; the CPU is the caller's promise.
    unsafe {
        let mut p = V::splat(coefficients[0]);
        for &c in &coefficients[1..] {
            p = p.fma(x, V::splat(c));
        }
        p
    }
}

/// `gelu_new(x) = x / (1 + exp(-2u))`, u = sqrt(2/pi) (x + 0.044715 x^3): the same function as the
/// tanh form, with one exponential.
#[inline(always)]
unsafe fn gelu_lane<V: Lanes>(x: V) -> V {
    // SAFETY: arithmetic only; the CPU is the caller's promise.
    unsafe {
        const MINUS_2_SQRT_2_OVER_PI: f32 = -1.595_769;
        let cubic = x.mul(x).fma(V::splat(0.044_715), V::splat(1.0)).mul(x);
        x.div(exp(cubic.mul(V::splat(MINUS_2_SQRT_2_OVER_PI))).add(V::splat(1.0)))
    }
}

/// The register of `x` at `i`, `pad` where the row has ended.
#[inline(always)]
unsafe fn part<V: Lanes>(x: &[f32], i: usize, pad: f32) -> V {
    // SAFETY: N floats remain at `i`, or lie in the copy (N <= PANEL).
    unsafe {
        if x.len() - i >= V::N {
            return V::load(x.as_ptr().add(i));
        }
        let mut copy = [pad; PANEL];
        copy[..x.len() - i].copy_from_slice(&x[i..]);
        V::load(copy.as_ptr())
    }
}

/// Writes `v` to `x` at `i`, as much of it as the row has room for.
#[inline(always)]
unsafe fn put<V: Lanes>(v: V, x: &mut [f32], i: usize) {
    // SAFETY: N floats remain at `i`, or lie in the copy (N <= PANEL).
    unsafe {
        if x.len() - i >= V::N {
            return v.store(x.as_mut_ptr().add(i));
        }
        let mut copy = [0.0; PANEL];
        v.store(copy.as_mut_ptr());
        let rest = &mut x[i..];
        rest.copy_from_slice(&copy[..rest.len()]);
    }
}

#[inline(always)]
pub(super) unsafe fn gelu<V: Lanes>(x: &mut [f32]) {
    // SAFETY: the CPU is the caller's promise.
    unsafe {
        for i in (0..x.len()).step_by(V::N) {
            put(gelu_lane::<V>(part(x, i, 0.0)), x, i);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn layernorm<V: Lanes>(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let n = x.len();
    assert!(gain.len() == n && bias.len() == n && out.len() == n);
    // SAFETY: the CPU is the caller's promise.
    unsafe {
        let mut sum = V::splat(0.0);
        for i in (0..n).step_by(V::N) {
            sum = sum.add(part(x, i, 0.0));
        }
        let mean = sum.sum() / n as f32;
        let centre = V::splat(mean);
        let mut squares = V::splat(0.0);
        for i in (0..n).step_by(V::N) {
            // The pad equals the mean, so it adds nothing.
            let d = part::<V>(x, i, mean).sub(centre);
            squares = d.fma(d, squares);
        }
        let rstd = V::splat(1.0 / (squares.sum() / n as f32 + eps).sqrt());
        for i in (0..n).step_by(V::N) {
            let v = part::<V>(x, i, 0.0).sub(centre).mul(rstd);
            put(v.fma(part(gain, i, 0.0), part(bias, i, 0.0)), out, i);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn largest<V: Lanes>(x: &[f32]) -> f32 {
    // SAFETY: the CPU is the caller's promise.
    unsafe {
        let mut max = V::splat(f32::NEG_INFINITY);
        for i in (0..x.len()).step_by(V::N) {
            max = part::<V>(x, i, f32::NEG_INFINITY).max(max);
        }
        max.largest()
    }
}

/// By powers of two, whose argument takes one multiply-add. The maximum's product may be rounded: that
/// scales all of them alike.
#[inline(always)]
pub(super) unsafe fn exponentials<V: Lanes>(x: &mut [f32]) -> f32 {
    // SAFETY: the CPU is the caller's promise.
    unsafe {
        let unit = V::splat(std::f32::consts::LOG2_E);
        let shift = V::splat(-largest::<V>(x)).mul(unit);
        let mut sum = V::splat(0.0);
        for i in (0..x.len()).step_by(V::N) {
            // The pad's power is 1.2e-38: nothing beside the maximum's 1.
            let e = exp2(part::<V>(x, i, f32::NEG_INFINITY).fma(unit, shift));
            sum = sum.add(e);
            put(e, x, i);
        }
        sum.sum()
    }
}

/// The maximum is looked for in two rows at a time: one by one they would wait for each other.
#[inline(always)]
pub(super) unsafe fn softmax_step<V: Lanes>(x: &mut [f32], columns: &mut Columns) -> bool {
    assert_eq!(x.len() % PANEL, 0);
    let before = columns.max;
    // SAFETY: each row has 32 floats and `first + N <= 32`; the CPU is the caller's promise.
    unsafe {
        for first in (0..PANEL).step_by(V::N) {
            let mut max = [V::load(before.as_ptr().add(first)); 2];
            for rows in x.chunks(2 * PANEL) {
                for (max, row) in max.iter_mut().zip(rows.chunks_exact(PANEL)) {
                    *max = max.max(V::load(row.as_ptr().add(first)));
                }
            }
            max[0].max(max[1]).store(columns.max.as_mut_ptr().add(first));
        }
        for first in (0..PANEL).step_by(V::N) {
            let max = V::load(columns.max.as_ptr().add(first));
            let factor = exp2(V::load(before.as_ptr().add(first)).sub(max));
            factor.store(columns.factors.as_mut_ptr().add(first));
            let mut sum = V::load(columns.sums.as_ptr().add(first)).mul(factor);
            for row in x.chunks_exact_mut(PANEL) {
                let e = exp2(V::load(row.as_ptr().add(first)).sub(max));
                e.store(row.as_mut_ptr().add(first));
                sum = sum.add(e);
            }
            sum.store(columns.sums.as_mut_ptr().add(first));
        }
    }
    before != columns.max
}

/// Not the portable loop compiled again: for AVX-512 that came out more than ten times slower.
#[inline(always)]
pub(super) unsafe fn widen<V: Lanes>(words: &[u32], rows: &mut [f32]) {
    const HALF: usize = PANEL / 2;
    assert_eq!(words.len() * 2, rows.len());
    for (words, row) in words.chunks_exact(HALF).zip(rows.chunks_exact_mut(PANEL)) {
        for j in (0..HALF).step_by(V::N) {
            // SAFETY: N divides 16, so register j of words ends within the 16 of the row and both
            // halves of it within the 32 floats; the CPU is the caller's promise.
            unsafe {
                let [low, high] = V::widen(words.as_ptr().add(j));
                low.store(row.as_mut_ptr().add(j));
                high.store(row.as_mut_ptr().add(HALF + j));
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn argmax<V: Lanes>(x: &[f32]) -> usize {
    // SAFETY: the CPU is the caller's promise.
    let max = unsafe { largest::<V>(x) };
    x.iter().position(|&v| v == max).unwrap_or(0)
}

#[inline(always)]
pub(super) unsafe fn log_sum_exp<V: Lanes>(x: &[f32]) -> f32 {
    // SAFETY: the CPU is the caller's promise.
    unsafe {
        let max = largest::<V>(x);
        let shift = V::splat(max);
        let mut sum = V::splat(0.0);
        for i in (0..x.len()).step_by(V::N) {
            sum = sum.add(exp(part::<V>(x, i, f32::NEG_INFINITY).sub(shift)));
        }
        max + sum.sum().ln()
    }
}

/// Fills a [`Table`](super::table::Table) with functions compiled for `$features`, each behind
/// the one unsafe line that the token's existence justifies.
macro_rules! table {
    ($token:ident, $lanes:ty, $features:literal, $rows:literal, $tile:ident) => {
        static TABLE: Table = Table {
            rows: $rows,
            tile: tile_entry!($features, $rows, $tile, f32, false),
            tile_add: tile_entry!($features, $rows, $tile, f32, true),
            tile_bf16: tile_entry!($features, $rows, $tile, u32, false),
            tile_bf16_add: tile_entry!($features, $rows, $tile, u32, true),
    narrow: recompiled!($features, portable::narrow, (rows: &[f32], words: &mut [u32])),
    widen: entry!($lanes, $features, widen(words: &[u32], rows: &mut [f32])),
    finish: recompiled!($features, portable::finish,
                (sums: &[f32], scale: f32, bias: &[f32], keep: bool, y: &mut [f32])),
    add: recompiled!($features, portable::add, (y: &mut [f32], x: &[f32])),
    gelu: entry!($lanes, $features, gelu(x: &mut [f32])),
    layernorm: entry!($lanes, $features,
                layernorm(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, out: &mut [f32])),
    largest: entry!($lanes, $features, largest(x: &[f32]) -> f32),
    exponentials: entry!($lanes, $features, exponentials(x: &mut [f32]) -> f32),
    softmax_step: entry!($lanes, $features,
                softmax_step(x: &mut [f32], columns: &mut Columns) -> bool),
    argmax: entry!($lanes, $features, argmax(x: &[f32]) -> usize),
    log_sum_exp: entry!($lanes, $features, log_sum_exp(x: &[f32]) -> f32),
        };

        impl $token {
            /// The kernels this token vouches for.
            pub(super) fn table(self) -> &'static Table {
                &TABLE
            }
        }
    };
}

macro_rules! tile_entry {
    ($features:literal, $rows:literal, $tile:ident, $word:ty, $add:literal) => {
        |t: Tile<'_, $word>, c: &mut [f32], ldc: usize| {
            #[target_feature(enable = $features)]
            fn kernel(t: &Tile<'_, $word>, c: &mut [f32], ldc: usize) {
                // SAFETY: the features are enabled here; the lengths were checked below.
                unsafe { $tile::<$word, $add>(t, c, ldc) }
            }
            t.check($rows, c, ldc);
            // SAFETY: TABLE leaves its file only through a token, made only by `detect`.
            unsafe { kernel(&t, c, ldc) }
        }
    };
}

macro_rules! entry {
    ($lanes:ty, $features:literal, $name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)?) => {
        |$($arg: $ty),*| {
            #[target_feature(enable = $features)]
            fn kernel($($arg: $ty),*) $(-> $out)? {
                // SAFETY: the features the register type needs are enabled on this function.
                unsafe { lanes::$name::<$lanes>($($arg),*) }
            }
            // SAFETY: TABLE leaves its file only through a token, made only by `detect`.
            unsafe { kernel($($arg),*) }
        }
    };
}

/// A portable loop of plain arithmetic, compiled again for `$features`: the same results in wider
/// registers.
macro_rules! recompiled {
    ($features:literal, $loop:path, ($($arg:ident: $ty:ty),*) $(-> $out:ty)?) => {
        |$($arg: $ty),*| {
            #[target_feature(enable = $features)]
            fn kernel($($arg: $ty),*) $(-> $out)? {
                $loop($($arg),*)
            }
            // SAFETY: the table leaves its file only through a token, made only by `detect`.
            unsafe { kernel($($arg),*) }
        }
    };
}

pub(super) use {entry, recompiled, table, tile_entry};
