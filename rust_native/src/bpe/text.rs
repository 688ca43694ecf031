//! The loop over the pieces of one text.
//!
//! It finds them in the cache or leaves to [`Miss`]; the two are apart so that the loop fits in registers.
//!
//! Invariant: a piece's ids are the same whether the word cache, the long one, the phrases, the vocabulary or
//! the merges gave them.

use kernels::text::{Job, Scan};

use super::Tokenizer;
use super::blocks::CHUNK;
use super::cache::{self, Form, Four, Key, Long, MAX_BYTES, Seven, View, Words};
use super::encode::{PADDED, Scratch};
use super::merge::Work;
use super::phrases::Phrases;
use super::pieces::Pieces;

/// One text without special tokens: appends its ids from `from` on, chunk by chunk, until it ends or `ids`
/// holds `enough`, and gives the place it got to.
pub(super) struct Text<'a, P> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) pieces: P,
    pub(super) scratch: &'a mut Scratch,
    pub(super) text: &'a [u8],
    pub(super) from: usize,
    pub(super) ids: &'a mut Vec<u32>,
    pub(super) enough: usize,
}

impl<P: Pieces> Job for Text<'_, P> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> usize {
        let Self { tokenizer, pieces: split, scratch, text, from: mut done, ids, enough } = self;
        while done < text.len() && ids.len() < enough {
            let rest = &text[done..];
            let pieces = split.fill(scan, &mut scratch.blocks, text, done);
            if pieces == 0 {
                let piece = &text[done..split.end(text, done)];
                done += piece.len();
                let work = &mut scratch.work;
                scan.apart(Piece { tokenizer, work, piece, ids: &mut *ids });
            } else {
                done += usize::from(scratch.blocks.starts[pieces]);
                let count = chunk(scan, tokenizer, scratch, rest, pieces);
                ids.extend_from_slice(&scratch.ids[..count]);
            }
        }
        done
    }
}

/// Writes the ids of the first pieces that were found in `text` to `scratch.ids`; how many.
#[inline(always)]
fn chunk<S: Scan>(
    scan: S,
    tokenizer: &Tokenizer,
    scratch: &mut Scratch,
    text: &[u8],
    pieces: usize,
) -> usize {
    let Scratch { blocks, words, long, phrases, work, keys, places, padded, ids, found, .. } = scratch;
    let starts = &blocks.starts[..=pieces];
    // Readable for 16 bytes from wherever a piece begins; what is behind a piece does not matter.
    let bytes: &[u8; PADDED] = match text.first_chunk() {
        Some(bytes) => bytes,
        None => {
            padded[..text.len()].copy_from_slice(text);
            padded
        }
    };
    // All keys first, and their lines asked for: what is looked up is there by then, however long it takes.
    scan.apart(Keys { view: words.view(), bytes, starts, keys, places });
    let (mut next, mut count) = (0, 0);
    loop {
        let (view, keys_left, places_left) = (words.view(), &keys[next..pieces], &places[next..pieces]);
        let (hits, total) = if words.seven {
            scan.apart(Hits { form: Seven, view, keys: keys_left, places: places_left, ids, count })
        } else {
            scan.apart(Hits { form: Four, view, keys: keys_left, places: places_left, ids, count })
        };
        (next, count) = (next + hits, total);
        if next == pieces {
            return count;
        }
        let start = usize::from(starts[next]);
        let (text, length) = (&text[start..], usize::from(starts[next + 1]) - start);
        let (ids, size) = (&mut ids[count..], words.pairs());
        let key = keys[next];
        let miss = Miss { tokenizer, words: &mut *words, long, phrases, work, found, text, length, key, ids };
        count += scan.apart(miss);
        next += 1;
        if words.pairs() != size {
            let view = words.view();
            keys[next..pieces].iter().zip(&mut places[next..]).for_each(|(key, at)| *at = view.place(*key));
        }
    }
}

/// The keys of a chunk's pieces and their places among the words, whose lines are asked for. As [`Hits`] it is a
/// function of its own, so that the loop has all registers.
struct Keys<'a> {
    view: View<'a>,
    bytes: &'a [u8; PADDED],
    /// Where pieces begin, and where the last ends.
    starts: &'a [u16],
    keys: &'a mut [Key; CHUNK],
    places: &'a mut [u16; CHUNK],
}

impl Job for Keys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) {
        let Self { view, bytes, starts, keys, places } = self;
        // Their lengths, as far as they matter, many at once.
        for ((length, start), end) in places.iter_mut().zip(starts).zip(&starts[1..]) {
            *length = end.wrapping_sub(*start).min(1 + MAX_BYTES as u16);
        }
        for ((key, place), &start) in keys.iter_mut().zip(places).zip(&starts[..starts.len() - 1]) {
            let Some(sixteen) = bytes[usize::from(start) % CHUNK..].first_chunk() else { continue };
            *key = Key::of(sixteen, usize::from(*place));
            *place = view.place(*key);
            scan.fetch(view.line(*place));
        }
    }
}

/// Pieces that are among the words, up to the first that is not: writes their ids to `ids` from `count` on and gives
/// the number of pieces and the new count.
struct Hits<'a, F> {
    /// Of the entries.
    form: F,
    view: View<'a>,
    keys: &'a [Key],
    places: &'a [u16],
    ids: &'a mut [u32; CHUNK + cache::ROOM],
    count: usize,
}

impl<F: Form> Job for Hits<'_, F> {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> (usize, usize) {
        let Self { form, view, keys, places, ids, mut count } = self;
        let mut hits = 0;
        for (key, &place) in keys.iter().zip(places) {
            let Some(entry) = view.get(scan, place, key) else { break };
            // Before the last piece there are fewer ids than bytes of a chunk.
            let Some(room) = ids[count % CHUNK..].first_chunk_mut() else { break };
            count += form.write(scan, entry, room);
            hits += 1;
        }
        (hits, count)
    }
}

/// A piece that is not among the words: writes its ids to the front of `ids` and gives their number.
struct Miss<'a> {
    tokenizer: &'a Tokenizer,
    words: &'a mut Words,
    long: &'a mut Long,
    phrases: &'a mut Phrases,
    work: &'a mut Work,
    found: &'a mut Vec<u32>,
    /// The piece and what follows it.
    text: &'a [u8],
    length: usize,
    /// [`Key::NONE`] if it is too long for one.
    key: Key,
    ids: &'a mut [u32],
}

impl Job for Miss<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) -> usize {
        let Self { tokenizer, words, long, phrases, work, found, text, length, key, ids } = self;
        let piece = &text[..length];
        let Some(long_key) = Long::key(text, length) else {
            if let Some(known) = phrases.get(piece) {
                ids[..known.len()].copy_from_slice(known);
                return known.len();
            }
            found.clear();
            match tokenizer.whole(piece) {
                Some(id) => found.push(id),
                None => tokenizer.merger(work).piece(scan, piece, found),
            }
            ids[..found.len()].copy_from_slice(found);
            phrases.put(piece, found);
            return found.len();
        };
        // Looked at only if the longer words do not know the piece; until then it is on its way.
        scan.fetch(tokenizer.vocabulary.line(key));
        let known = long.get(long_key, ids);
        let key = (length <= MAX_BYTES).then_some(key);
        if let Some(count) = known {
            // What was forgotten once and is met again is a word.
            if let Some(key) = key {
                words.put(key, &ids[..count], long);
            }
            return count;
        }
        if let Some(key) = key
            && let Some(id) = tokenizer.vocabulary.find(key, |id| tokenizer.token_bytes(id) == Some(piece))
        {
            ids[0] = id;
            words.put(key, &ids[..1], long);
            return 1;
        }
        let count = match tokenizer.whole(piece) {
            Some(id) => {
                ids[0] = id;
                1
            }
            None => tokenizer.merges.short(scan, piece, ids),
        };
        if !key.is_some_and(|key| words.put(key, &ids[..count], long)) {
            long.put(long_key, &ids[..count]);
        }
        count
    }
}

/// A piece longer than a chunk: appends its ids.
struct Piece<'a> {
    tokenizer: &'a Tokenizer,
    work: &'a mut Work,
    piece: &'a [u8],
    ids: &'a mut Vec<u32>,
}

impl Job for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Scan>(self, scan: S) {
        let Self { tokenizer, work, piece, ids } = self;
        match tokenizer.whole(piece) {
            Some(id) => ids.push(id),
            None => tokenizer.merger(work).piece(scan, piece, ids),
        }
    }
}
