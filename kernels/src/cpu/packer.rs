//! From a row-major matrix, wherever it lies, to panels: the way every weight comes in.
//!
//! Values are asked for in blocks that stay in the second-level cache, are moved into panels and rounded
//! from there; so a file is read front to back and never mapped, and nothing of it stays in memory.
//! Mapping it instead was slower: faults and page-table entries to make and to take away again, and rows
//! a stride of pages apart. Non-temporal stores made no difference, and asking for the pages of the panels
//! ahead of writing them (MADV_POPULATE_WRITE) lost some percent: what the system has just cleared is
//! still in a cache when the panel is written.
//!
//! A block of a `[K, N]` matrix is some rows, all panels of which take the block's rows: a sequential
//! read and runs of whole cache lines written. int8 is the exception, for its scale is a whole
//! column's: the matrix becomes panels of f32 in memory that is kept for the next one, then those are
//! rounded. A block of an `[N, K]` matrix is whole columns, one panel, in every precision.
//!
//! Invariant: each value is asked for once, and each word of a panel is written by one thread.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::engine::{Cpu, Need};
use super::integers::{self, GROUP};
use super::pack::{PANEL, Packed, stride};
use super::pool::Queue;
use super::share::Shared;
use crate::buffer::arena::Arena;
use crate::buffer::words_mut;
use crate::{Buffer, Precision};

/// Floats of a block at most, but for [`GROUP`] rows of very wide matrices.
const BLOCK: usize = 64 << 10;
/// Floats of a block's row at most.
const WIDTH: usize = 4096;
/// Words of the panels of an `[N, K]` matrix that one thread takes at a time: a huge page, so that
/// threads seldom meet in one that nobody has touched.
const TAKEN: usize = 512 << 10;

type Encode = fn(rows: &[f32], words: &mut [u32]);

/// Packs the matrices of a model, one after another, in one precision. Their memory comes from large
/// mappings that they share, and goes when all of one are dropped.
pub struct Packer<'c> {
    cpu: &'c Cpu,
    precision: Precision,
    /// Where matrices get their memory; `None` gives each its own.
    arena: Option<Arena>,
    /// A matrix in f32, on its way to int8.
    wide: Buffer,
}

impl<'c> Packer<'c> {
    /// Nothing packed yet; matrices will be rounded to `precision`.
    pub fn new(cpu: &'c Cpu, precision: Precision) -> Packer<'c> {
        Packer { cpu, precision, arena: Some(Arena::default()), wide: Buffer::default() }
    }

    /// For one matrix: its memory is its own.
    pub(super) fn single(cpu: &'c Cpu, precision: Precision) -> Packer<'c> {
        Packer { arena: None, ..Packer::new(cpu, precision) }
    }

    /// Packs a row-major `[k, n]` matrix (inputs by outputs, GPT-2's Conv1D layout). `read(start, out)`
    /// is to put elements `start..start + out.len()` into `out`; threads call it in no stated order.
    ///
    /// # Errors
    /// The first error of `read`.
    ///
    /// # Panics
    /// If `k` is above 131072 in int8 (its sums would not fit).
    pub fn kn<E: Send>(
        &mut self,
        k: usize,
        n: usize,
        read: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Packed, E> {
        let (cpu, mut packed) = (self.cpu, self.fresh(k, n));
        if self.precision != Precision::Int8 {
            blocks(cpu, self.precision, [k, n], packed.data_mut(), read)?;
            return Ok(packed);
        }
        let (wide, stride) = (k * PANEL, stride(Precision::Int8, k));
        let panels = if k == 0 { 0 } else { packed.panels() };
        if self.wide.len() < panels * wide {
            self.wide = Buffer::zeroed(panels * wide);
        }
        blocks(cpu, Precision::F32, [k, n], &mut self.wide, read)?;
        let (rows, encode) = (&self.wide, cpu.integers().encode_int8);
        let queue = Queue::groups(panels, cpu.threads(), 1);
        let out = Shared::new(packed.data_mut().words_mut());
        cpu.run(Need::default(), |thread, _| {
            for p in std::iter::from_fn(|| queue.take(thread)).flatten() {
                // SAFETY: each panel is taken once.
                encode(&rows[p * wide..][..wide], unsafe { out.part(p * stride, stride) });
            }
        });
        Ok(packed)
    }

    /// Packs the transpose of a row-major `[n, k]` matrix (outputs by inputs, a Linear's or a token
    /// table's layout); otherwise as [`Packer::kn`].
    ///
    /// # Errors
    /// As [`Packer::kn`].
    ///
    /// # Panics
    /// As [`Packer::kn`].
    pub fn nk<E: Send>(
        &mut self,
        n: usize,
        k: usize,
        read: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Packed, E> {
        let (cpu, mut packed) = (self.cpu, self.fresh(k, n));
        let (wide, stride, encode) = (k * PANEL, stride(self.precision, k), encoder(cpu, self.precision));
        let panels = if k == 0 { 0 } else { packed.panels() };
        let taken = (TAKEN / stride.max(1)).min(panels / (4 * cpu.threads())).max(1);
        let (out, queue) = (Shared::new(packed.data_mut()), Queue::groups(panels, cpu.threads(), taken));
        try_run(cpu, Need { rows: wide, packed: wide, ..Need::default() }, |thread, rows, panel| {
            for p in std::iter::from_fn(|| queue.take(thread)).flatten() {
                let rows = &mut rows[..PANEL.min(n - p * PANEL) * k];
                read(p * PANEL * k, rows)?;
                // SAFETY: each panel is taken once.
                let out = unsafe { out.part(p * stride, stride) };
                put(encode, &mut panel[..wide], out, |panel| transpose(rows, k, panel));
            }
            Ok(())
        })?;
        Ok(packed)
    }

    fn fresh(&mut self, k: usize, n: usize) -> Packed {
        let in_range = self.precision != Precision::Int8 || k <= integers::MAX_INPUTS;
        assert!(in_range, "{k} inputs are too many for int8: at most {}", integers::MAX_INPUTS);
        let len = Packed::words_of(self.precision, k, n);
        let mut data = self.arena.as_mut().map_or_else(|| Buffer::zeroed(len), |arena| arena.zeroed(len));
        if several_nodes() {
            self.touch(n.div_ceil(PANEL), &mut data);
        }
        Packed::new(data, self.precision, k, n)
    }

    /// Has every page touched by the thread that decode will read it with, whoever packs it. A pass of
    /// its own, and only where memory has more than one place to be: blocks of rows, which are what
    /// reads the source fastest, go across all panels.
    fn touch(&self, panels: usize, data: &mut Buffer) {
        /// Floats of the smallest page there is.
        const PAGE: usize = 1024;
        let queue = Queue::groups(panels, self.cpu.threads(), GROUP);
        let (stride, out) = (data.len() / panels.max(1), Shared::new(data));
        self.cpu.run(Need::default(), |thread, _| {
            for taken in std::iter::from_fn(|| queue.take(thread)) {
                // SAFETY: each panel is taken once.
                let part = unsafe { out.part(taken.start * stride, taken.len() * stride) };
                for page in part.chunks_mut(PAGE) {
                    // What is zero stays zero; a plain store could be left out for that.
                    page[0] = std::hint::black_box(0.0);
                }
            }
        });
    }
}

/// Whether this machine's memory belongs to more than one set of processors.
fn several_nodes() -> bool {
    static SEVERAL: OnceLock<bool> = OnceLock::new();
    *SEVERAL.get_or_init(|| {
        // `0` on one node; `0-1` or `0,2` on several. Where Linux does not say, one is assumed.
        let online = std::fs::read_to_string("/sys/devices/system/node/online");
        online.is_ok_and(|nodes| nodes.contains(['-', ',']))
    })
}

/// Packs `[k, n]` into panels of `precision`, which is not int8, by blocks of rows.
fn blocks<E: Send>(
    cpu: &Cpu,
    precision: Precision,
    [k, n]: [usize; 2],
    out: &mut [f32],
    read: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    if k == 0 || n == 0 {
        return Ok(());
    }
    let width = n.min(WIDTH);
    let height = (BLOCK / width).next_multiple_of(GROUP).min(k);
    let (across, encode) = (n.div_ceil(width), encoder(cpu, precision));
    let (out, queue) = (Shared::new(out), Queue::single(k.div_ceil(height) * across));
    let need = Need { rows: height * width, packed: height * PANEL, ..Need::default() };
    try_run(cpu, need, |thread, staged, panel| {
        for block in std::iter::from_fn(|| queue.take(thread)).flatten() {
            let (row, column) = (block / across * height, block % across * width);
            let (rows, columns) = (height.min(k - row), width.min(n - column));
            let staged = &mut staged[..rows * columns];
            if columns == n {
                read(row * n, staged)?;
            } else {
                for (i, staged) in staged.chunks_exact_mut(columns).enumerate() {
                    read((row + i) * n + column, staged)?;
                }
            }
            let (panel, len) = (&mut panel[..rows * PANEL], stride(precision, rows));
            // Threads start apart, lest they meet in each huge page that nobody has touched and both
            // clear one, one of them in vain.
            let turn = block % cpu.threads() * columns.div_ceil(PANEL) / cpu.threads() * PANEL;
            for first in (turn..columns).step_by(PANEL).chain((0..turn).step_by(PANEL)) {
                let start = (column + first) / PANEL * stride(precision, k) + stride(precision, row);
                // SAFETY: a block is taken once, and these rows of the panel are in no other.
                let out = unsafe { out.part(start, len) };
                put(encode, panel, out, |panel| gather(staged, columns, first, panel));
            }
        }
        Ok(())
    })
}

/// Fills `[rows][32]` and writes it to `out` as `encode` says; without it, fills `out` itself.
fn put(encode: Option<Encode>, panel: &mut [f32], out: &mut [f32], fill: impl FnOnce(&mut [f32])) {
    match encode {
        None => fill(out),
        Some(encode) => {
            fill(panel);
            encode(panel, words_mut(out));
        }
    }
}

/// What brings a panel to `precision`; f32 is as it should be.
fn encoder(cpu: &Cpu, precision: Precision) -> Option<Encode> {
    match precision {
        Precision::F32 => None,
        Precision::Bf16 => Some(cpu.table().narrow),
        Precision::Int8 => Some(cpu.integers().encode_int8),
        Precision::Int4 => Some(cpu.integers().encode_int4),
    }
}

/// Columns `first..first + 32` of `[R, columns]`, zeros past the last.
fn gather(rows: &[f32], columns: usize, first: usize, panel: &mut [f32]) {
    for (row, out) in rows.chunks_exact(columns).zip(panel.as_chunks_mut::<PANEL>().0) {
        match row[first..].first_chunk() {
            Some(whole) => *out = *whole,
            None => {
                let (values, rest) = out.split_at_mut(columns - first);
                values.copy_from_slice(&row[first..]);
                rest.fill(0.0);
            }
        }
    }
}

/// Up to 32 rows of `k` as `[k][32]`, zeros past the last.
fn transpose(rows: &[f32], k: usize, panel: &mut [f32]) {
    /// Inputs moved at a time, so that the panel's part stays in the first-level cache.
    const RUN: usize = 64;
    if rows.len() < panel.len() {
        panel.fill(0.0);
    }
    for (b, out) in panel.chunks_mut(RUN * PANEL).enumerate() {
        for (j, row) in rows.chunks_exact(k).enumerate() {
            for (column, &v) in out.chunks_exact_mut(PANEL).zip(&row[b * RUN..]) {
                column[j] = v;
            }
        }
    }
}

/// Runs `f(thread, rows, packed)`, two parts of its scratch, on every thread; gives the first error.
fn try_run<E: Send>(
    cpu: &Cpu,
    need: Need,
    f: impl Fn(usize, &mut [f32], &mut [f32]) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let failed = Mutex::new(None);
    cpu.run(need, |thread, scratch| {
        if let Err(error) = f(thread, &mut scratch.rows, &mut scratch.packed) {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    use super::*;

    #[test]
    fn matrices_of_one_packer_are_those_packed_alone_and_ask_for_each_value_once() {
        let cpu = Cpu::new(2, None).unwrap();
        for precision in Precision::ALL {
            let mut packer = Packer::new(&cpu, precision);
            let mut kept = Vec::new();
            // A large one first: what is left in memory that is kept must not show in the smaller ones.
            for (k, n) in [(300, 700), (70, 4100), (33, 5), (0, 40), (40, 0), (130, 70)] {
                let w: Vec<f32> = (0..k * n).map(|i| (i % 251) as f32 - 125.0).collect();
                let asked: Vec<AtomicU8> = w.iter().map(|_| AtomicU8::new(0)).collect();
                let read = |start: usize, out: &mut [f32]| {
                    out.copy_from_slice(&w[start..][..out.len()]);
                    asked[start..][..out.len()].iter().for_each(|count| {
                        count.fetch_add(1, Relaxed);
                    });
                    Ok::<(), ()>(())
                };
                let both = [packer.kn(k, n, read).unwrap(), packer.nk(n, k, read).unwrap()];
                assert!(asked.iter().all(|count| count.load(Relaxed) == 2), "{precision} {k} x {n}");
                let alone =
                    [Packed::from_kn(&cpu, &w, k, n, precision), Packed::from_nk(&cpu, &w, n, k, precision)];
                kept.extend(both.into_iter().zip(alone));
            }
            drop(packer);
            for (packed, alone) in kept {
                let panels = |m: &Packed| (0..m.panels()).map(|p| m.words(p).to_vec()).collect::<Vec<_>>();
                assert_eq!(panels(&packed), panels(&alone), "{precision}");
            }
        }
    }

    #[test]
    fn touching_first_changes_nothing() {
        let cpu = Cpu::new(2, None).unwrap();
        let packer = Packer::new(&cpu, Precision::F32);
        for (panels, len) in [(0, 0), (1, 32), (3, 3 * 5000), (100, 100 * 64)] {
            let mut data = Buffer::zeroed(len);
            packer.touch(panels, &mut data);
            assert!(data.iter().all(|&v| v == 0.0));
        }
    }

    #[test]
    fn an_error_of_the_source_comes_back_and_the_packer_goes_on() {
        let cpu = Cpu::new(2, None).unwrap();
        for precision in Precision::ALL {
            let mut packer = Packer::new(&cpu, precision);
            let bad = |start: usize, out: &mut [f32]| {
                out.fill(1.0);
                if (start..start + out.len()).contains(&60_000) { Err("unreadable") } else { Ok(()) }
            };
            assert_eq!(packer.kn(300, 300, bad).unwrap_err(), "unreadable");
            assert_eq!(packer.nk(300, 300, bad).unwrap_err(), "unreadable");
            let mut column = [0.0; 100];
            packer.kn(100, 100, bad).unwrap().column(99, &mut column);
            assert!(column.iter().all(|v| (v - 1.0).abs() < 1e-2), "{precision} {column:?}");
        }
    }
}
