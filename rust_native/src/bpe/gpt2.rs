//! GPT-2's vocabulary, embedded.
//!
//! The build script rebuilds the 50,000 merges from the ranks that the crate tiktoken-rs carries; they are
//! the vocabulary: ids 0..256 are the bytes in GPT-2's order, id 256 + i is merge i, and the end-of-text
//! token comes last. The tests compare the digests of the files written from this with the published ones.

use sha2::{Digest, Sha256};

use super::Tokenizer;
use super::alphabet::ID_ORDER;
use crate::init::hex;

/// (left id, right id) in rank order, u16 little-endian.
static MERGES: &[u8; 200_000] = include_bytes!(concat!(env!("OUT_DIR"), "/gpt2_merges.bin"));

/// GPT-2's one special token.
pub(super) const END_OF_TEXT: &str = "<|endoftext|>";

/// Length and SHA-256 of the published vocab.json and merges.txt.
const PUBLISHED: [(usize, &str); 2] = [
    (1_042_301, "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"),
    (456_318, "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"),
];

/// Whether these are the bytes of GPT-2's own vocab.json and merges.txt, to the last.
pub(super) fn are_published(vocabulary: &[u8], merges: &[u8]) -> bool {
    let files = || [vocabulary, merges].into_iter().zip(PUBLISHED);
    // Lengths first: another vocabulary is not hashed.
    files().all(|(bytes, (len, _))| bytes.len() == len)
        && files().all(|(bytes, (_, digest))| hex(&Sha256::digest(bytes)) == digest)
}

impl Tokenizer {
    /// GPT-2's tokenizer: 50,257 ids, no file needed. Takes a few milliseconds; keep it and share it.
    pub fn gpt2() -> Self {
        let mut bytes = ID_ORDER.to_vec();
        let mut starts: Vec<u32> = (0..=256).collect();
        let mut byte_ids = [0; 256];
        for (id, &byte) in ID_ORDER.iter().enumerate() {
            byte_ids[byte as usize] = id as u32;
        }
        let mut merges = Vec::with_capacity(50_000);
        for &[a, b, c, d] in MERGES.as_chunks::<4>().0 {
            let (left, right) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
            merges.push((u32::from(left), u32::from(right), starts.len() as u32 - 1));
            for part in [left, right] {
                let part = usize::from(part);
                bytes.extend_from_within(starts[part] as usize..starts[part + 1] as usize);
            }
            starts.push(bytes.len() as u32);
        }
        let end = starts.len() as u32 - 1;
        bytes.extend_from_slice(END_OF_TEXT.as_bytes());
        starts.push(bytes.len() as u32);
        // Trusted: the build script found each merge by merging its token's bytes.
        Self::new(bytes, starts, byte_ids, &merges, vec![(END_OF_TEXT.to_owned(), end)], true)
    }
}
