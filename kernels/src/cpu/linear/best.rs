//! Where a row of a product is largest, found while the row is made.
//!
//! Whoever has finished a panel holds its numbers in the first-level cache and looks there; a pass over
//! the whole row afterwards would be one thread's, over what all have written.
//!
//! Invariant: the result does not depend on the order in which panels are finished.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::super::table::Table;

/// The largest number of a row and its index, the lowest such index on a tie. Of a row with a NaN it is
/// some index of the row; of an empty one, or one of nothing but minus infinity, 0.
#[derive(Debug)]
pub struct Best(AtomicU64);

impl Default for Best {
    fn default() -> Best {
        Best(AtomicU64::new(key(f32::NEG_INFINITY, 0)))
    }
}

impl Best {
    /// The index.
    pub fn index(&self) -> usize {
        (u32::MAX - self.0.load(Relaxed) as u32) as usize
    }

    /// Looks through `y`, the row's numbers from `column` on.
    pub(super) fn look(&self, table: &Table, y: &[f32], column: usize) {
        let largest = (table.largest)(y);
        // After the first few panels hardly any has something to say.
        if key(largest, column) <= self.0.load(Relaxed) {
            return;
        }
        if let Some(at) = y.iter().position(|&v| v == largest) {
            self.0.fetch_max(key(largest, column + at), Relaxed);
        }
    }
}

/// Ordered as the values, then against the indices; both zeros are one value.
fn key(value: f32, index: usize) -> u64 {
    let bits = (value + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(u32::MAX - index as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::portable::TABLE;

    #[test]
    fn keys_order_values_then_lower_indices() {
        let values = [f32::NEG_INFINITY, -2.0, -1e-30, 0.0, 1e-30, 2.0, f32::INFINITY];
        for pair in values.windows(2) {
            assert!(key(pair[0], 0) < key(pair[1], 9));
            assert!(key(pair[0], 8) > key(pair[0], 9));
        }
        assert_eq!(key(-0.0, 3), key(0.0, 3));
    }

    #[test]
    fn panels_in_any_order_give_the_lowest_of_the_largest() {
        let row = [-1.0, 3.0, -0.0, 3.0, 2.0, 3.0, f32::NEG_INFINITY];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let best = Best::default();
            assert_eq!(best.index(), 0);
            order.iter().for_each(|&p| best.look(&TABLE, row.chunks(2).nth(p).unwrap(), 2 * p));
            assert_eq!(best.index(), 1);
        }
        let nothing = Best::default();
        nothing.look(&TABLE, &[f32::NEG_INFINITY; 2], 4);
        assert_eq!(nothing.index(), 0);
    }
}
