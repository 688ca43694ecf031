//! Prepares what the tokenizer embeds: GPT-2's merges and the table of character classes.
//!
//! Why at build time: the crate tiktoken-rs carries GPT-2's ranks, but rebuilding the merges from them
//! takes longer than anything else at start-up. Done here, it costs nothing later, and the dependency
//! does not reach the binary. The tests check the result against the published files' digests.

use std::collections::HashMap;
use std::path::Path;
use std::{env, fs};

#[path = "src/bpe/class_ranges.rs"]
mod class_ranges;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/bpe/class_ranges.rs");
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    fs::write(out.join("gpt2_merges.bin"), merges()?)?;
    let (rows, classes) = class_table()?;
    fs::write(out.join("class_rows.bin"), rows)?;
    fs::write(out.join("classes.bin"), classes)?;
    Ok(())
}

/// 50,000 x (left id, right id), u16 little-endian, in rank order. Merge `i` makes token 256 + i: running BPE
/// over that token's bytes with lower ranks only leaves exactly the two tokens it was merged from.
fn merges() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let ranks = tiktoken_rs::r50k_base()?;
    let tokens: Vec<Vec<u8>> = (0..50256).map(|id| ranks.decode_bytes(&[id])).collect::<Result<_, _>>()?;
    let ids: HashMap<&[u8], usize> =
        tokens.iter().enumerate().map(|(id, token)| (token.as_slice(), id)).collect();
    let mut bytes = Vec::with_capacity(200_000);
    for (id, token) in tokens.iter().enumerate().skip(256) {
        let mut parts: Vec<&[u8]> = token.chunks(1).collect();
        while parts.len() > 2 {
            let mut best = (id, 0);
            let mut start = 0;
            for at in 0..parts.len() - 1 {
                let end = start + parts[at].len() + parts[at + 1].len();
                if let Some(&rank) = ids.get(&token[start..end]) {
                    best = best.min((rank, at));
                }
                start += parts[at].len();
            }
            let (rank, at) = best;
            if rank >= id {
                return Err(format!("token {id} of r50k_base has no merge").into());
            }
            parts[at] = &tokens[rank];
            parts.remove(at + 1);
        }
        for part in parts {
            bytes.extend_from_slice(&u16::try_from(ids[part])?.to_le_bytes());
        }
    }
    Ok(bytes)
}

/// Row numbers of the 4352 blocks of 256 code points, and the distinct rows.
fn class_table() -> Result<(Vec<u8>, Vec<u8>), Box<dyn std::error::Error>> {
    let mut flat = vec![0_u8; 0x11_0000];
    // The class in two bits; which part of a word the character may be in two more: `classes::Kind`.
    let (front, back) = (4, 8);
    let lists: [(u8, &[(u32, u32)]); 6] = [
        (1 | front | back, &class_ranges::LETTERS),
        (1 | front, &class_ranges::CAPITALS),
        (1 | back, &class_ranges::SMALL),
        (front | back, &class_ranges::MARKS),
        (2, &class_ranges::NUMBERS),
        (3, &class_ranges::SPACES),
    ];
    for (kind, ranges) in lists {
        for &(first, last) in ranges {
            flat[first as usize..=last as usize].fill(kind);
        }
    }
    let mut rows = Vec::new();
    let mut known: HashMap<&[u8], u8> = HashMap::new();
    let mut classes = Vec::new();
    for block in flat.chunks(256) {
        let row = match known.get(block) {
            Some(&row) => row,
            None => {
                let row = u8::try_from(known.len())?;
                known.insert(block, row);
                classes.extend_from_slice(block);
                row
            }
        };
        rows.push(row);
    }
    Ok((rows, classes))
}
