//! Numbers about numbers: quantiles, intervals, block ratios, the A/A floor. Pure functions; where
//! chance is needed it comes from a seed.

mod blocks;
mod quantile;
mod rng;
mod student;

pub use blocks::{BOOTSTRAP_FROM, Block, RatioInterval, floor_of, ratio_interval};
pub use quantile::{median, median_interval, quantile, sorted, tail};
pub use rng::{Rng, splitmix};
pub use student::t_95;
