//! The packed matrices of a model, kept in a file: the next process has them without packing, and on Linux
//! without memory of its own for them.
//!
//! The file is a safetensors file whose data begins at a page, so that panels can be used where they are
//! mapped. Its name comes from the model's folder and the precision; its header says what it was made
//! from: layout, byte order, precision and the checkpoint's
//! [fingerprint](crate::Checkpoint::fingerprint). A file whose header or length is another than it would
//! be written with now is not read but replaced, whatever is wrong with it.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use kernels::{LAYOUT, Packed, PackedFile, Precision};
use sha2::{Digest, Sha256};

use crate::init::hex;
use crate::replacement::Replacement;
use crate::{Checkpoint, Config, Error};

/// Where the data begins: a multiple of this, the largest page in common use.
const PAGE: usize = 64 << 10;

/// One model's file.
pub(super) struct Kept {
    path: PathBuf,
    precision: Precision,
    header: Vec<u8>,
    /// Header and data.
    bytes: usize,
}

impl Kept {
    /// The file in `folder` for this checkpoint; nothing is created.
    pub(super) fn of(folder: &Path, checkpoint: &Checkpoint, precision: Precision) -> Result<Kept, Error> {
        let dir = checkpoint.dir();
        let dir = fs::canonicalize(dir).map_err(|e| Error::io(dir, "open", e))?;
        let name = &hex(&Sha256::digest(dir.as_os_str().as_encoded_bytes()))[..16];
        let mut text = format!(
            r#"{{"__metadata__":{{"format":"packed","layout":"{LAYOUT}","byte_order":"{}","precision":"{precision}","source":"{}"}}"#,
            if cfg!(target_endian = "big") { "big" } else { "little" },
            checkpoint.fingerprint()?
        );
        let mut at = 0;
        for (name, [k, n]) in matrices(checkpoint.config()) {
            let words = Packed::words_of(precision, k, n);
            let end = at + 4 * words;
            let _ =
                write!(text, r#","{name}":{{"dtype":"U32","shape":[{words}],"data_offsets":[{at},{end}]}}"#);
            at = end;
        }
        text.push('}');
        // The length's eight bytes stand in front.
        let padded = (8 + text.len()).next_multiple_of(PAGE) - 8;
        text.extend(std::iter::repeat_n(' ', padded - text.len()));
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend_from_slice(text.as_bytes());
        Ok(Kept {
            path: folder.join(format!("{name}-{precision}.safetensors")),
            precision,
            bytes: header.len() + at,
            header,
        })
    }

    /// The matrices, in the order of [`matrices`]; `None` if they are to be written first.
    pub(super) fn open(&self) -> Result<Option<PackedFile>, Error> {
        let failed = |action| move |e| Error::io(&self.path, action, e);
        let mut file = match File::open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed("open"))?,
        };
        let length = file.metadata().map_err(failed("open"))?.len();
        let mut header = Vec::new();
        file.by_ref().take(self.header.len() as u64).read_to_end(&mut header).map_err(failed("read"))?;
        if length != self.bytes as u64 || header != self.header {
            return Ok(None);
        }
        PackedFile::open(&file, header.len(), self.precision).map(Some).map_err(failed("map"))
    }

    /// The next of the matrices, `[k, n]`.
    pub(super) fn next(&self, file: &mut PackedFile, k: usize, n: usize) -> Result<Packed, Error> {
        file.next(k, n).map_err(|e| Error::io(&self.path, "read", e))
    }

    /// Writes the matrices, which come in the order of [`matrices`].
    pub(super) fn write<'m>(&self, matrices: impl Iterator<Item = &'m Packed>) -> Result<(), Error> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
        }
        let mut file = Replacement::create(&self.path)?;
        file.write(&self.header)?;
        for matrix in matrices {
            file.write(matrix.as_bytes())?;
        }
        // What is read again is the header and the length alone: the rest has to be on the disk before
        // they can be.
        file.sync()?;
        file.finish().map(drop)
    }
}

/// The matrices of a model, as inputs by outputs, in the order in which a model is built from them.
fn matrices(config: &Config) -> impl Iterator<Item = (String, [usize; 2])> {
    let of = |(name, shape): (String, Vec<usize>)| {
        let [rows, columns] = shape[..] else { return None };
        match name.as_str() {
            "wpe.weight" => None,
            "wte.weight" | "lm_head.weight" => Some((name, [columns, rows])),
            _ => Some((name, [rows, columns])),
        }
    };
    config.tensors().into_iter().filter_map(of)
}
