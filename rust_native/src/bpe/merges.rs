//! The merge table: which pairs of tokens become one, and in what order.

/// Ids must stay below this: a slot packs two of them and a rank into 64 bits.
pub(super) const MAX_IDS: usize = 1 << 21;
/// Most merges: a rank has 22 bits.
pub(super) const MAX_MERGES: usize = 1 << 22;
/// Rank of a pair that has no merge; above every rank, and small enough to be shifted by six bits.
pub(super) const NONE: u32 = u32::MAX >> 6;

const EMPTY: u64 = u64::MAX;

/// (left id, right id) -> (rank, id of the result). Open addressing, linear probing, at most half full.
pub(super) struct Merges {
    /// left << 43 | right << 22 | rank, or all ones for an empty slot.
    slots: Vec<u64>,
    shift: u32,
    /// Rank -> id of the merged token.
    results: Vec<u32>,
    /// What to add to a rank for that id, where it is the same for all, as in GPT-2's vocabulary and most: one look into
    /// memory less in a chain of them.
    offset: Option<u32>,
    /// Id of each single byte.
    byte_ids: [u32; 256],
    /// A bit for each rank whose merge may be made at once wherever its pair stands, see [`Merges::is_safe`].
    safe: Vec<u64>,
    /// Rank of the pair of two single bytes, at left << 8 | right: every piece begins with these, and a
    /// table without hashing serves them four times as fast.
    byte_ranks: Vec<u32>,
}

impl Merges {
    /// A table from merges in rank order. Ids are below [`MAX_IDS`] - 1; merges are at most [`MAX_MERGES`].
    /// Of two equal pairs the first counts.
    pub(super) fn new(merges: &[(u32, u32, u32)], byte_ids: [u32; 256]) -> Self {
        let size = (2 * merges.len()).next_power_of_two().max(16);
        let mut table = Self {
            slots: vec![EMPTY; size],
            shift: 64 - size.trailing_zeros(),
            results: merges.iter().map(|&(_, _, result)| result).collect(),
            offset: offset(merges),
            safe: safe(merges),
            byte_ids,
            byte_ranks: Vec::new(),
        };
        for (rank, &(left, right, _)) in merges.iter().enumerate() {
            let pair = u64::from(left) << 21 | u64::from(right);
            let mut at = table.home(pair);
            while table.slots[at] != EMPTY && table.slots[at] >> 22 != pair {
                at = (at + 1) & (size - 1);
            }
            if table.slots[at] == EMPTY {
                table.slots[at] = pair << 22 | rank as u64;
            }
        }
        let right = |left: u32| byte_ids.iter().map(move |&right| (left, right));
        let pairs = byte_ids.iter().flat_map(|&left| right(left));
        table.byte_ranks = pairs.map(|(left, right)| table.rank(left, right)).collect();
        table
    }

    pub(super) fn len(&self) -> usize {
        self.results.len()
    }

    /// The id of a single byte.
    #[inline(always)]
    pub(super) fn byte_id(&self, byte: u8) -> u32 {
        self.byte_ids[byte as usize]
    }

    /// The id of the token that the merge of this rank makes.
    #[inline(always)]
    pub(super) fn result(&self, rank: u32) -> u32 {
        self.offset.map_or_else(|| self.results[rank as usize], |offset| rank.wrapping_add(offset))
    }

    /// Whether two neighbours whose pair has this rank may become one before all pairs of lower rank did, and the ids
    /// of the piece are the same.
    ///
    /// That is so if every other merge with the left one on its right, with the right one on its left, or with the
    /// result, has a higher rank. For take such a pair, of rank k, anywhere in a piece, and merge by the rule. As
    /// long as neither of the two is touched the pair is there, so no pair of a rank above k is chosen; and whatever
    /// else touches one of them has a rank above k. So what touches them first is this merge, and all merges before it
    /// are elsewhere and of ranks up to k. Were it made at once, only pairs of ranks above k would come and go, so the
    /// same merges would be chosen until then, and after them the piece is the same.
    #[inline(always)]
    pub(super) fn is_safe(&self, rank: u32) -> bool {
        self.safe.get(rank as usize / 64).is_some_and(|word| word >> (rank % 64) & 1 == 1)
    }

    #[inline(always)]
    fn home(&self, pair: u64) -> usize {
        (pair.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    /// The rank of two single bytes, or [`NONE`].
    #[inline(always)]
    pub(super) fn byte_rank(&self, left: u8, right: u8) -> u32 {
        self.byte_ranks[usize::from(left) << 8 | usize::from(right)]
    }

    /// The rank of a pair, or [`NONE`].
    #[inline(always)]
    pub(super) fn rank(&self, left: u32, right: u32) -> u32 {
        let pair = u64::from(left) << 21 | u64::from(right);
        let mut at = self.home(pair);
        loop {
            let slot = self.slots[at];
            // The empty slot's upper 42 bits are all ones: ids end below 2^21 - 1, so no pair equals them.
            if slot >> 22 == pair {
                return slot as u32 & ((1 << 22) - 1);
            }
            if slot == EMPTY {
                return NONE;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

/// The bits of [`Merges::is_safe`].
fn safe(merges: &[(u32, u32, u32)]) -> Vec<u64> {
    let size = merges.iter().map(|&(left, right, result)| left.max(right).max(result) as usize + 1).max();
    // By id: the lowest rank of a merge that has it on its left, and on its right.
    let (mut as_left, mut as_right) = (vec![u32::MAX; size.unwrap_or(0)], vec![u32::MAX; size.unwrap_or(0)]);
    for (&(left, right, _), rank) in merges.iter().zip(0..) {
        as_left[left as usize] = as_left[left as usize].min(rank);
        as_right[right as usize] = as_right[right as usize].min(rank);
    }
    let mut bits = vec![0; merges.len().div_ceil(64)];
    for (&(left, right, result), rank) in merges.iter().zip(0_u32..) {
        let others = [as_right[left as usize], as_left[right as usize]];
        let later = [as_left[result as usize], as_right[result as usize]];
        if others.iter().chain(&later).all(|&other| other > rank) {
            bits[rank as usize / 64] |= 1 << (rank % 64);
        }
    }
    bits
}

/// By how much each merge's id exceeds its rank, if it is the same for all.
fn offset(merges: &[(u32, u32, u32)]) -> Option<u32> {
    let mut offsets = merges.iter().zip(0_u32..).map(|(&(_, _, result), rank)| result.wrapping_sub(rank));
    let first = offsets.next()?;
    offsets.all(|offset| offset == first).then_some(first)
}
