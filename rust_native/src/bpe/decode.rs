//! Decoding: ids to bytes, to text, and to text as it arrives.
//!
//! Tokens are bytes, not characters: one character may span several tokens. [`StreamDecoder`] holds
//! back the beginning of a character until the rest has come.
//!
//! Nearly all tokens are short, and copying a number of bytes that is not known in advance costs more than
//! the bytes: so each id has a slot of 16 bytes, which is copied whole, and what is too much is written over
//! by the next.
//!
//! Invariant: what a stream yields, its `finish` included, is what [`Tokenizer::decode_lossy`] gives for
//! all ids at once.

use std::str;

use super::Tokenizer;
use crate::Error;

/// A token of up to 15 bytes, zero-padded, its length in the last byte; [`LONG`] there for a longer one
/// and for an id that has none.
pub(super) type Slot = [u8; 16];

/// In place of the length: look the token up.
const LONG: u8 = u8::MAX;
/// Ids decoded between two copies to the result.
const STEP: usize = 128;

impl Tokenizer {
    /// The bytes of `ids`. Special tokens give their spelling.
    ///
    /// # Errors
    /// [`Error::UnknownId`].
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(4 * ids.len());
        self.decode_into(ids, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends the bytes of `ids` to `bytes`.
    ///
    /// # Errors
    /// [`Error::UnknownId`]; `bytes` then ends with what the ids before it gave.
    pub fn decode_into(&self, ids: &[u32], bytes: &mut Vec<u8>) -> Result<(), Error> {
        let slots = self.slots.get_or_init(|| self.make_slots());
        let mut step = [0; 16 * STEP];
        for ids in ids.chunks(STEP) {
            let mut filled = 0;
            for &id in ids {
                let Some(slot) = slots.get(id as usize) else {
                    bytes.extend_from_slice(&step[..filled]);
                    return Err(self.unknown(id));
                };
                if slot[15] == LONG {
                    bytes.extend_from_slice(&step[..filled]);
                    bytes.extend_from_slice(self.known(id)?);
                    filled = 0;
                } else {
                    step[filled..filled + 16].copy_from_slice(slot);
                    filled += usize::from(slot[15]);
                }
            }
            bytes.extend_from_slice(&step[..filled]);
        }
        Ok(())
    }

    fn make_slots(&self) -> Vec<Slot> {
        let tokens = self.starts.windows(2).map(|place| &self.bytes[place[0] as usize..place[1] as usize]);
        let slot = |token: &[u8]| {
            let mut slot = [0; 16];
            slot[15] = if (1..16).contains(&token.len()) { token.len() as u8 } else { LONG };
            if let Some(room) = slot[..15].get_mut(..token.len()) {
                room.copy_from_slice(token);
            }
            slot
        };
        tokens.map(slot).collect()
    }

    /// The text of `ids`; what is not UTF-8 becomes U+FFFD, as [`String::from_utf8_lossy`] does it.
    ///
    /// # Errors
    /// [`Error::UnknownId`].
    pub fn decode_lossy(&self, ids: &[u32]) -> Result<String, Error> {
        let bytes = self.decode_bytes(ids)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// A decoder for ids that arrive one by one.
    pub fn stream_decoder(&self) -> StreamDecoder<'_> {
        StreamDecoder { tokenizer: self, held: Vec::new(), text: String::new() }
    }

    fn known(&self, id: u32) -> Result<&[u8], Error> {
        self.token_bytes(id).ok_or_else(|| self.unknown(id))
    }

    fn unknown(&self, id: u32) -> Error {
        Error::UnknownId { id, vocabulary: self.vocabulary_size() }
    }
}

/// Turns arriving ids into text without ever splitting a character.
#[derive(Clone, Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Bytes not yet given out: after `push`, at most the first three of a character.
    held: Vec<u8>,
    text: String,
}

impl StreamDecoder<'_> {
    /// Takes one id and returns the text that is complete now, perhaps none.
    ///
    /// # Errors
    /// [`Error::UnknownId`]; the stream is then as before.
    pub fn push(&mut self, id: u32) -> Result<&str, Error> {
        self.held.extend_from_slice(self.tokenizer.known(id)?);
        self.text.clear();
        let mut done = 0;
        loop {
            let rest = &self.held[done..];
            match str::from_utf8(rest) {
                Ok(valid) => {
                    self.text.push_str(valid);
                    done += rest.len();
                    break;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    self.text.push_str(str::from_utf8(&rest[..valid]).unwrap_or_default());
                    done += valid;
                    // Without a length the bytes may still become a character.
                    let Some(bad) = error.error_len() else { break };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    done += bad;
                }
            }
        }
        self.held.drain(..done);
        Ok(&self.text)
    }

    /// Ends the stream: U+FFFD if a character was left incomplete, else nothing.
    pub fn finish(self) -> &'static str {
        if self.held.is_empty() { "" } else { "\u{FFFD}" }
    }
}
