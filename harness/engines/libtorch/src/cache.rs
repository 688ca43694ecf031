//! Keys and values of the positions already seen, in the two ways users write it.
//!
//! `Static` allocates room for all positions once and writes each step in place; `Grown` makes a
//! longer tensor at every step by concatenation. Both hold B x H x T x D per layer; both go back to
//! an earlier length without copying, which is how a decode run is repeated from the same context.

use crate::place::Place;
use anyhow::{Result, ensure};
use tch::Tensor;

/// How the cache grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// Room for every position from the start; steps write into it.
    Static,
    /// A new, longer tensor at every step.
    Grown,
}

/// Shape of one layer's keys (and values), as far as it is fixed.
#[derive(Clone, Copy, Debug)]
pub struct CacheShape {
    /// L.
    pub layers: usize,
    /// B.
    pub batch: i64,
    /// H.
    pub heads: i64,
    /// Most positions the cache will hold.
    pub capacity: i64,
    /// D: width of one head.
    pub head_width: i64,
}

/// The cache of one batch of sequences of equal length.
pub struct Cache {
    kind: CacheKind,
    capacity: i64,
    length: i64,
    layers: Vec<Layer>,
}

struct Layer {
    keys: Tensor,
    values: Tensor,
}

/// A state of a cache to come back to.
pub struct Mark {
    length: i64,
    /// Handles of the concatenated tensors; empty for a static cache, whose memory stays in place.
    layers: Vec<Layer>,
}

impl Cache {
    /// An empty cache at `place`.
    pub fn new(kind: CacheKind, shape: CacheShape, place: Place) -> Result<Cache> {
        let positions = if kind == CacheKind::Static { shape.capacity } else { 0 };
        let size = [shape.batch, shape.heads, positions, shape.head_width];
        let empty = || Tensor::f_zeros(size, (place.kind, place.device));
        let layers = (0..shape.layers).map(|_| Ok(Layer { keys: empty()?, values: empty()? }));
        Ok(Cache { kind, capacity: shape.capacity, length: 0, layers: layers.collect::<Result<_>>()? })
    }

    /// Positions held.
    pub fn length(&self) -> i64 {
        self.length
    }

    /// Forgets every position.
    pub fn clear(&mut self) -> Result<()> {
        if self.kind == CacheKind::Grown {
            for layer in &mut self.layers {
                layer.keys = layer.keys.f_narrow(2, 0, 0)?;
                layer.values = layer.values.f_narrow(2, 0, 0)?;
            }
        }
        self.length = 0;
        Ok(())
    }

    /// Adds `keys` and `values` (B x H x T x D) behind the positions held and gives back all of
    /// layer `at`. The length moves with [`Cache::advance`], after the last layer.
    pub fn extend(&mut self, at: usize, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let steps = keys.size()[2];
        let length = self.length + steps;
        ensure!(length <= self.capacity, "{length} positions in a cache for {}", self.capacity);
        let layer = &mut self.layers[at];
        match self.kind {
            CacheKind::Static => {
                layer.keys.f_narrow(2, self.length, steps)?.f_copy_(keys)?;
                layer.values.f_narrow(2, self.length, steps)?.f_copy_(values)?;
                Ok((layer.keys.f_narrow(2, 0, length)?, layer.values.f_narrow(2, 0, length)?))
            }
            CacheKind::Grown => {
                layer.keys = Tensor::f_cat(&[&layer.keys, keys], 2)?;
                layer.values = Tensor::f_cat(&[&layer.values, values], 2)?;
                Ok((layer.keys.shallow_clone(), layer.values.shallow_clone()))
            }
        }
    }

    /// Counts `steps` more positions as held.
    pub fn advance(&mut self, steps: i64) {
        self.length += steps;
    }

    /// The present state.
    pub fn mark(&self) -> Mark {
        let layers = match self.kind {
            CacheKind::Static => Vec::new(),
            CacheKind::Grown => handles(&self.layers),
        };
        Mark { length: self.length, layers }
    }

    /// Back to `mark`, which this cache gave.
    pub fn restore(&mut self, mark: &Mark) {
        self.length = mark.length;
        if self.kind == CacheKind::Grown {
            self.layers = handles(&mark.layers);
        }
    }
}

fn handles(layers: &[Layer]) -> Vec<Layer> {
    let handle =
        |layer: &Layer| Layer { keys: layer.keys.shallow_clone(), values: layer.values.shallow_clone() };
    layers.iter().map(handle).collect()
}
