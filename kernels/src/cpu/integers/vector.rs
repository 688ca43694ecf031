//! The vector kernels on whole numbers, written once over a register type.
//!
//! As in [`lanes`](super::super::lanes): all `inline(always)`, compiled inside the
//! `#[target_feature]` functions that `integers!` makes.

use super::super::lanes::Lanes;
use super::super::table::PANEL;
use super::super::tiles::AHEAD;
use super::{GROUP_STRIDE, GROUP_WORDS, SCALE_WORDS, WordTile};
use crate::prefetch::prefetch;

/// A register of `N` words, each an i32 or four bytes.
///
/// # Safety
/// Every function needs a CPU with the implementor's instruction set; `load` and `store` need `N`
/// valid words at the address, `left` one, `scales` a group of an int4 panel, and `left_out` a tile
/// of `M` rows that passed `WordTile::check_int8`.
pub(super) trait Words: Copy {
    /// As many floats.
    type Floats: Lanes;
    const N: usize;
    unsafe fn load(at: *const u32) -> Self;
    unsafe fn store(self, at: *mut i32);
    unsafe fn splat(x: i32) -> Self;
    /// The word at `at` as `dot` and `dot_nibbles` take it for `a`; no other function does.
    #[inline(always)]
    unsafe fn left(at: *const i32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(*at) }
    }
    /// What `dot` leaves out of the rows' sums of int8.
    #[inline(always)]
    unsafe fn left_out<const M: usize>(_: &WordTile<'_>) -> [i32; M] {
        [0; M]
    }
    /// The scales of `N` columns from `column` on, of the int4 group at `group`.
    #[inline(always)]
    unsafe fn scales(group: *const u32, column: usize) -> Self::Floats {
        // Columns of the first half are in the low halves of the words.
        let half = column / SCALE_WORDS;
        // SAFETY: the caller's promise: N words from here on are among the scales.
        unsafe { Self::Floats::widen(group.add(column % SCALE_WORDS))[half] }
    }
    unsafe fn add(self, b: Self) -> Self;
    /// `self + sum of 4 products` in each lane, unsigned bytes of `b` by signed ones of `a`, less
    /// what `left_out` makes up for.
    unsafe fn dot(self, b: Self, a: Self) -> Self;
    /// The same for bytes of `b` up to 15.
    unsafe fn dot_nibbles(self, b: Self, a: Self) -> Self;
    /// The low nibble of each byte.
    unsafe fn low(self) -> Self;
    /// The high nibble of each byte.
    unsafe fn high(self) -> Self;
    unsafe fn to_floats(self) -> Self::Floats;
}

/// An int8 tile of `M` rows by `NV` registers, the `part`-th such part of the panel, `U` sums in
/// flight per element.
///
/// # Safety
/// The CPU has V's instruction set; the slices are as `WordTile::check_int8` says; the part ends
/// within the panel.
#[inline(always)]
pub(super) unsafe fn int8<V: Words, const M: usize, const NV: usize, const U: usize>(
    t: &WordTile<'_>,
    part: usize,
    c: &mut [i32],
) {
    let first = part * NV * V::N;
    // SAFETY: `check_int8` proved (1 + steps) M words of A, steps * 32 of B and M * 32 of C. A
    // prefetch may name any address. The CPU is the caller's promise.
    unsafe {
        let (mut a, mut b) = (t.a.as_ptr().wrapping_add(M), t.b.as_ptr().wrapping_add(first));
        let mut sums = [[[V::splat(0); NV]; M]; U];
        let left_out = V::left_out::<M>(t);
        for (m, row) in sums[0].iter_mut().enumerate() {
            *row = [V::splat(t.a[m].wrapping_add(left_out[m])); NV];
        }
        for _ in 0..t.steps / U {
            for sums in &mut sums {
                if M <= 8 {
                    prefetch(b.wrapping_byte_add(AHEAD));
                    if NV * V::N > 16 {
                        prefetch(b.wrapping_byte_add(AHEAD + 64));
                    }
                }
                step::<V, M, NV>(a, b, sums);
                a = a.wrapping_add(M);
                b = b.wrapping_add(PANEL);
            }
        }
        for _ in 0..t.steps % U {
            step::<V, M, NV>(a, b, &mut sums[0]);
            a = a.wrapping_add(M);
            b = b.wrapping_add(PANEL);
        }
        for m in 0..M {
            for j in 0..NV {
                let mut sum = sums[0][m][j];
                for other in &sums[1..] {
                    sum = sum.add(other[m][j]);
                }
                sum.store(c.as_mut_ptr().add(m * PANEL + first + j * V::N));
            }
        }
    }
}

/// Adds four inputs to the sums.
///
/// # Safety
/// As [`int8`]: `M` words at `a`, `NV * N` at `b`.
#[inline(always)]
unsafe fn step<V: Words, const M: usize, const NV: usize>(
    a: *const i32,
    b: *const u32,
    sums: &mut [[V; NV]; M],
) {
    // SAFETY: the caller's promise, word for word.
    unsafe {
        let mut right = [V::splat(0); NV];
        for (j, r) in right.iter_mut().enumerate() {
            *r = V::load(b.add(j * V::N));
        }
        for (m, row) in sums.iter_mut().enumerate() {
            let left = V::left(a.add(m));
            for (sum, &r) in row.iter_mut().zip(&right) {
                *sum = sum.dot(r, left);
            }
        }
    }
}

/// An int4 tile of `M` rows by `NV` registers, the `part`-th such part of the panel. A group's sums
/// start anew with every group, so successive groups are independent and need no `U`.
///
/// # Safety
/// As [`int8`], with `WordTile::check_int4`.
#[inline(always)]
pub(super) unsafe fn int4<V: Words, const M: usize, const NV: usize>(
    t: &WordTile<'_>,
    part: usize,
    c: &mut [f32],
) {
    let first = part * NV * V::N;
    // SAFETY: `check_int4` proved steps * 9 M words of A, steps * 144 of B and M * 32 floats of C.
    // A prefetch may name any address. The CPU is the caller's promise.
    unsafe {
        let (mut a, mut b) = (t.a.as_ptr(), t.b.as_ptr());
        let mut sums = [[V::Floats::splat(0.0); NV]; M];
        for _ in 0..t.steps {
            if M <= 8 && part == 0 {
                for line in 0..GROUP_STRIDE / 16 {
                    prefetch(b.wrapping_byte_add(AHEAD + 64 * line));
                }
            }
            for j in 0..NV {
                let column = first + j * V::N;
                let dots = group::<V, M>(a, b, column);
                let scale = V::scales(b, column);
                for (row, dots) in sums.iter_mut().zip(dots) {
                    row[j] = dots.to_floats().fma(scale, row[j]);
                }
            }
            a = a.wrapping_add((1 + GROUP_WORDS) * M);
            b = b.wrapping_add(GROUP_STRIDE);
        }
        for (m, row) in sums.iter().enumerate() {
            for (j, sum) in row.iter().enumerate() {
                sum.store(c.as_mut_ptr().add(m * PANEL + first + j * V::N));
            }
        }
    }
}

/// The exact sums of one group for `N` columns from `column` on.
///
/// # Safety
/// As [`int4`]: a group of A at `a`, a group of the panel at `b`.
#[inline(always)]
unsafe fn group<V: Words, const M: usize>(a: *const i32, b: *const u32, column: usize) -> [V; M] {
    // SAFETY: 9 M words of A and 144 of B, as the loops' bounds say; the rest as above.
    unsafe {
        let mut dots = [V::splat(0); M];
        for (m, dot) in dots.iter_mut().enumerate() {
            *dot = V::splat(*a.add(m));
        }
        for r in 0..GROUP_WORDS / 2 {
            let words = V::load(b.add(SCALE_WORDS + r * PANEL + column));
            let (low, high) = (words.low(), words.high());
            for (m, dot) in dots.iter_mut().enumerate() {
                *dot = dot.dot_nibbles(low, V::left(a.add((1 + 2 * r) * M + m)));
            }
            for (m, dot) in dots.iter_mut().enumerate() {
                *dot = dot.dot_nibbles(high, V::left(a.add((2 + 2 * r) * M + m)));
            }
        }
        dots
    }
}

/// Fills an [`Integers`](super::Integers) with functions compiled for `$features`, each behind the
/// one unsafe line that the token's existence justifies.
macro_rules! integers {
    ($token:ident, $name:literal, $features:literal, $rows:literal $int8:path, $rows4:literal $int4:path) => {
        static INTEGERS: Integers = Integers {
            name: $name,
            rows_int8: $rows,
            rows_int4: $rows4,
    quantise: recompiled!($features, portable::quantise,
                (x: &[f32], q: &mut [i8], sums: &mut [i32]) -> f32),
            int8: |t: WordTile<'_>, c: &mut [i32]| {
                #[target_feature(enable = $features)]
                fn kernel(t: &WordTile<'_>, c: &mut [i32]) {
                    // SAFETY: the features are enabled here; the lengths were checked below.
                    unsafe { $int8(t, c) }
                }
                t.check_int8($rows, c);
                // SAFETY: INTEGERS leaves this module only through a token, made only by `detect`.
                unsafe { kernel(&t, c) }
            },
            int4: |t: WordTile<'_>, c: &mut [f32]| {
                #[target_feature(enable = $features)]
                fn kernel(t: &WordTile<'_>, c: &mut [f32]) {
                    // SAFETY: the features are enabled here; the lengths were checked below.
                    unsafe { $int4(t, c) }
                }
                t.check_int4($rows4, c);
                // SAFETY: as above.
                unsafe { kernel(&t, c) }
            },
    finish: recompiled!($features, portable::finish,
                (sums: &[i32], scale: f32, columns: &[u32], bias: &[f32], keep: bool, y: &mut [f32])),
    encode_int8: recompiled!($features, encode::int8, (rows: &[f32], words: &mut [u32])),
    encode_int4: recompiled!($features, encode::int4, (rows: &[f32], words: &mut [u32])),
        };

        impl $token {
            /// The kernels this token vouches for.
            pub(crate) fn integers(self) -> &'static Integers {
                &INTEGERS
            }
        }
    };
}

pub(super) use integers;
