//! In which numbers a weight matrix and a key-value cache are kept.
//!
//! A [`Packed`](crate::Packed) matrix carries its precision, as a [`KvCache`](crate::KvCache) does,
//! and every operation looks there: one model may mix them. What each costs in accuracy and saves in
//! bytes: the crate's README.

use std::fmt;
use std::str::FromStr;

/// The numbers a weight matrix is kept in. Inputs, outputs, biases and sums of the whole are f32
/// throughout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 4 bytes a weight, as given.
    #[default]
    F32,
    /// 2 bytes a weight, rounded to nearest even; products and sums in f32. Where the CPU multiplies
    /// bf16 faster than f32, many rows of inputs are rounded alike: [`Dots`](crate::cpu::dots::Dots).
    Bf16,
    /// 1 byte a weight and a scale per output; inputs rounded to 8 bits with a scale per row; exact
    /// integer sums.
    Int8,
    /// 4.5 bits a weight: 4 and a bf16 scale per output and 32 inputs; inputs as for `Int8`;
    /// integer sums within the 32, f32 across.
    Int4,
}

impl Precision {
    /// All precisions, widest first.
    pub const ALL: [Precision; 4] = [Precision::F32, Precision::Bf16, Precision::Int8, Precision::Int4];

    /// The name used in identities and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
            Precision::Int4 => "int4",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The numbers keys and values are kept in. Queries, scores, their softmax and all sums are f32
/// throughout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvPrecision {
    /// 4 bytes a number, as computed.
    #[default]
    F32,
    /// 2 bytes a number, rounded to nearest even when its position is written.
    Bf16,
}

impl KvPrecision {
    /// All of them, widest first.
    pub const ALL: [KvPrecision; 2] = [KvPrecision::F32, KvPrecision::Bf16];

    /// The name used in identities and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            KvPrecision::F32 => "f32",
            KvPrecision::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for KvPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no [`Precision`]'s, or no [`KvPrecision`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPrecision {
    /// What was given.
    pub name: String,
    /// The names there are.
    pub choice: &'static str,
}

impl fmt::Display for UnknownPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown precision `{}`: use {}", self.name, self.choice)
    }
}

impl std::error::Error for UnknownPrecision {}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Precision, UnknownPrecision> {
        let found = Precision::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| UnknownPrecision { name: name.to_owned(), choice: "f32, bf16, int8 or int4" })
    }
}

impl FromStr for KvPrecision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<KvPrecision, UnknownPrecision> {
        let found = KvPrecision::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| UnknownPrecision { name: name.to_owned(), choice: "f32 or bf16" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused_with_the_choice() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert_eq!(format!("{:>5}|", Precision::Int8), " int8|");
        for wrong in ["", "F32", "fp16", "int8 "] {
            let error = wrong.parse::<Precision>().unwrap_err().to_string();
            assert_eq!(error, format!("unknown precision `{wrong}`: use f32, bf16, int8 or int4"));
        }
        for precision in KvPrecision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        for wrong in ["", "int8", "BF16"] {
            let error = wrong.parse::<KvPrecision>().unwrap_err().to_string();
            assert_eq!(error, format!("unknown precision `{wrong}`: use f32 or bf16"));
        }
    }
}
