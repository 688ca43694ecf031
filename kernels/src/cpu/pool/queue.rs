//! How the pieces of a job are shared out: a range for each thread, and help for who is late.
//!
//! Thread i begins with the i-th of equal, contiguous ranges, front to back. Whoever has finished his
//! own takes from the ends of the others'. So a thread that is on time meets the same pieces in every
//! job of that size, and one that is not holds nobody up: a busy machine is served as well as by a
//! single counter.
//!
//! That is what places memory where there is more than one controller, because a page belongs to
//! the processor that touches it first:
//! - Weights are touched first by the ranges that decode reads them by, where there are several
//!   controllers before they are packed (`packer`). All panels of a matrix have the same bytes, so equal
//!   numbers of panels are equal bytes. What a helper takes, and a large page across two ranges, lies
//!   with one of the two.
//! - Keys and values are first touched by `store`, by the thread whose range of heads they are, and read
//!   by the same as long as the number of sequences in a step stays.
//! - Activations are kilobytes, written by one thread and read by all in the next job: wherever they lie,
//!   they pass from cache to cache.
//!
//! Invariant: each piece is dealt once, and is computed alike by anyone, so results depend neither
//! on who took it nor on when.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Ranges of a queue at most: a kilobyte on the caller's stack, so that a job allocates nothing.
/// In a larger team neighbours share one.
const RANGES: usize = 128;

/// The pieces `0..total` of a job, dealt out to whoever asks.
pub(crate) struct Queue {
    /// What is left of each range: its start in the upper half, its end in the lower. Eight lie on a
    /// cache line: takes are few, and a thread that looks for work passes all of them.
    left: [AtomicU64; RANGES],
    ranges: usize,
    threads: usize,
    /// A request takes one part in `share` of what is left of a range, and `most` pieces at most.
    share: usize,
    most: usize,
}

impl Queue {
    /// A range for each of `threads` threads, dealt in runs of neighbours: half of what is left.
    pub(crate) fn runs(total: usize, threads: usize) -> Queue {
        Queue::new(total, threads, 2, usize::MAX)
    }

    /// A range for each of `threads` threads, dealt in runs of `size`, the last of a range shorter.
    pub(crate) fn groups(total: usize, threads: usize, size: usize) -> Queue {
        Queue::new(total, threads, 1, size)
    }

    /// One range for all, its pieces one at a time and in order.
    pub(crate) fn single(total: usize) -> Queue {
        Queue::new(total, 1, 1, 1)
    }

    fn new(total: usize, threads: usize, share: usize, most: usize) -> Queue {
        assert!(u32::try_from(total).is_ok(), "{total} pieces are too many for a queue");
        let ranges = threads.clamp(1, RANGES);
        let left = std::array::from_fn(|range| {
            AtomicU64::new(if range < ranges { pack(&part(total, ranges, range)) } else { 0 })
        });
        Queue { left, ranges, threads: threads.max(1), share, most }
    }

    /// The next pieces for `thread`, or `None` when all are taken.
    pub(crate) fn take(&self, thread: usize) -> Option<Range<usize>> {
        let own = (thread * self.ranges / self.threads).min(self.ranges - 1);
        self.take_from(own, false)
            .or_else(|| (1..self.ranges).find_map(|step| self.take_from((own + step) % self.ranges, true)))
    }

    /// Pieces of one range, from its front or its end.
    fn take_from(&self, range: usize, end: bool) -> Option<Range<usize>> {
        let cell = &self.left[range];
        let mut seen = cell.load(Relaxed);
        loop {
            let left = unpack(seen);
            if left.is_empty() {
                return None;
            }
            let count = (left.len() / self.share).clamp(1, self.most);
            let (taken, rest) = if end {
                (left.end - count..left.end, left.start..left.end - count)
            } else {
                (left.start..left.start + count, left.start + count..left.end)
            };
            // Relaxed: the pieces are disjoint, and the team's own join publishes their results.
            match cell.compare_exchange_weak(seen, pack(&rest), Relaxed, Relaxed) {
                Ok(_) => return Some(taken),
                Err(moved) => seen = moved,
            }
        }
    }
}

fn pack(range: &Range<usize>) -> u64 {
    (range.start as u64) << 32 | range.end as u64
}

fn unpack(word: u64) -> Range<usize> {
    (word >> 32) as usize..(word & u64::from(u32::MAX)) as usize
}

/// The `index`-th of `parts` ranges of `0..total`. Unlike [`piece`], the longer ones are spread
/// over all parts: of few pieces each processor gets its share, instead of the first all of them.
pub(crate) fn part(total: usize, parts: usize, index: usize) -> Range<usize> {
    index * total / parts..(index + 1) * total / parts
}

/// The `index`-th of `parts` nearly equal, contiguous pieces of `0..total`.
pub(crate) fn piece(total: usize, parts: usize, index: usize) -> Range<usize> {
    let (base, extra) = (total / parts, total % parts);
    let start = index * base + index.min(extra);
    start..start + base + usize::from(index < extra)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::Team;
    use super::*;

    fn queues(total: usize, threads: usize) -> [Queue; 3] {
        [Queue::single(total), Queue::runs(total, threads), Queue::groups(total, threads, 3)]
    }

    #[test]
    fn a_queue_deals_every_piece_once() {
        let team = Team::new(3).unwrap();
        for total in [0, 1, 2, 7, 100] {
            // More and fewer ranges than threads that ask, too.
            for queue in [1, 2, 3, 5, 300].into_iter().flat_map(|threads| queues(total, threads)) {
                let taken: Vec<AtomicUsize> = (0..total).map(|_| AtomicUsize::new(0)).collect();
                team.run(|thread| {
                    while let Some(pieces) = queue.take(thread) {
                        for piece in pieces {
                            taken[piece].fetch_add(1, Relaxed);
                        }
                    }
                });
                assert!(taken.into_iter().all(|count| count.into_inner() == 1));
            }
        }
    }

    #[test]
    fn threads_on_time_keep_to_equal_ranges_of_their_own() {
        for (total, threads) in [(24, 2), (1571, 3), (72, 64), (24, 64), (5000, 128)] {
            for queue in [Queue::runs(total, threads), Queue::groups(total, threads, 8)] {
                let mut met = vec![Vec::new(); threads];
                // All ask in turns until their ranges are empty: nobody has to help.
                for (thread, met) in met.iter_mut().enumerate() {
                    while met.len() < part(total, threads, thread).len() {
                        met.extend(queue.take(thread).unwrap());
                    }
                }
                assert!((0..threads).all(|thread| queue.take(thread).is_none()));
                let longest = met.iter().map(Vec::len).max().unwrap();
                assert!(met.iter().all(|met| met.len() + 1 >= longest), "{total} over {threads}");
                assert!(met.concat().into_iter().eq(0..total), "contiguous and in order");
            }
        }
    }

    #[test]
    fn few_pieces_are_spread_over_all_threads() {
        let busy: Vec<usize> = (0..64).filter(|&i| !part(24, 64, i).is_empty()).collect();
        assert_eq!(busy.iter().filter(|&&thread| thread < 32).count(), 12);
    }

    #[test]
    fn who_has_finished_helps_from_the_ends() {
        let queue = Queue::runs(16, 2);
        let all: Vec<_> = std::iter::from_fn(|| queue.take(0)).collect();
        // His own 0..8 from the front, then thread 1's from its end.
        assert_eq!(all[..4], [0..4, 4..6, 6..7, 7..8]);
        assert_eq!(all[4..], [12..16, 10..12, 9..10, 8..9]);
        assert_eq!(queue.take(1), None);
    }

    #[test]
    fn pieces_and_parts_cover_the_whole_once() {
        for total in 0..40 {
            for parts in 1..7 {
                for cut in [piece, part] {
                    let all: Vec<usize> = (0..parts).flat_map(|i| cut(total, parts, i)).collect();
                    assert_eq!(all, (0..total).collect::<Vec<_>>());
                }
            }
        }
    }
}
