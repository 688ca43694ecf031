//! A decode step as a row of jobs, for [`scaling`](crate::scaling).

use kernels::{Linear, PANEL};

use super::Gpt2;
use crate::Cache;
use crate::scaling::Job;

impl Gpt2 {
    /// What one decode step of one sequence with `positions` positions shares out among the threads, in the order
    /// of the step: the embedding, five jobs a block, the head. `cache` says what a position takes.
    pub fn jobs(&self, cache: &Cache, positions: usize) -> Vec<Job> {
        let (layers, heads, c) = (self.blocks.len(), self.config.n_head, self.config.n_embd);
        let position = cache.bytes() / (cache.batch() * cache.capacity() * layers.max(1));
        // Scores and weighted values: a multiplication and an addition each for every number kept.
        let attention = Job { bytes: position * positions, operations: 4 * c * positions, pieces: heads };
        let mut jobs = vec![Job { bytes: 0, operations: 0, pieces: 1 }];
        for block in &self.blocks {
            jobs.extend([product(&block.qkv), attention, product(&block.attention_out)]);
            jobs.extend([product(&block.inner), product(&block.inner_out)]);
        }
        jobs.push(product(self.head()));
        jobs
    }
}

/// One row times a matrix, panel by panel.
fn product(Linear { weight, .. }: &Linear) -> Job {
    Job {
        bytes: weight.bytes(),
        operations: 2 * weight.inputs() * weight.outputs(),
        pieces: weight.outputs().div_ceil(PANEL),
    }
}
