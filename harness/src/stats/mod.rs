//! Numbers about numbers: quantiles, intervals, block ratios, the A/A floor. Pure functions.

mod rng;

pub use rng::Rng;
