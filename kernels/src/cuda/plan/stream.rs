//! What plans read: a plan that reads it and computes nothing, and how many bytes each launch of the others reads.

use super::build::{Builder, at, int};
use super::{Argument, Buffer, Dims, GEMV_THREADS, Launch, Operation, Plan, PlanError, Shape};

/// Bytes of a load.
const WORD: usize = 16;

/// Reads, in one launch, what a step of the first `batch` sequences behind `positions` positions must read:
/// every weight of a product once, keys and values. Nothing is computed, so no step takes less.
///
/// # Errors
/// [`PlanError`] for an impossible shape, or more sequences or positions than it has.
pub fn stream(shape: &Shape, batch: usize, positions: usize) -> Result<Plan, PlanError> {
    shape.check()?;
    if !(1..=shape.batch).contains(&batch) {
        return Err(PlanError { what: "the sequences must be 1 to those of the cache; got", value: batch });
    }
    if positions > shape.dims.context {
        return Err(PlanError { what: "the positions must lie in the context; got", value: positions });
    }
    let mut plan = Builder { shape, first: 0, sequences: batch, length: 1, steps: Vec::new() };
    plan.stream(positions);
    Ok(Plan { buffers: shape.buffers(), steps: plan.steps })
}

impl Builder<'_> {
    fn stream(&mut self, positions: usize) {
        let Dims { layers, width, inner, vocabulary, .. } = self.shape.dims;
        let cached = layers * self.sequences * positions * width;
        let words = |elements: usize| int(elements * self.shape.weights.bytes() / WORD);
        let table = [self.table(), words(vocabulary * width)];
        let stretches = [
            (Buffer::QkvWeight, layers * 3 * width * width),
            (Buffer::ProjectWeight, layers * width * width),
            (Buffer::ExpandWeight, layers * inner * width),
            (Buffer::ContractWeight, layers * width * inner),
            (Buffer::Keys, cached),
            (Buffer::Values, cached),
        ];
        let stretches = stretches.into_iter().flat_map(|(id, elements)| [at(id, 0), words(elements)]);
        let mut arguments: Vec<Argument> = table.into_iter().chain(stretches).collect();
        arguments.push(at(Buffer::Seen, 0));
        self.push(Operation::Stream, [self.shape.stream_blocks(), 1, 1], GEMV_THREADS, 0, arguments);
    }
}

impl Shape {
    /// Blocks of `stream`: as many as are resident at once.
    pub(super) fn stream_blocks(&self) -> usize {
        4 * self.processors as usize
    }
}

impl Launch {
    /// Bytes of weights, and of keys and values of `positions` positions a sequence, that it must read, each
    /// counted once; rows and results, which are in the caches of a GPU, are left out.
    pub fn bytes(&self, shape: &Shape, positions: usize) -> usize {
        let Dims { width, inner, vocabulary, .. } = shape.dims;
        let each = shape.weights.bytes();
        let [rows, _, sequences] = self.grid.map(|blocks| blocks as usize);
        match self.kernel.operation {
            Operation::Embed => rows * width * (each + 4),
            Operation::Attend | Operation::AttendPacked | Operation::AttendTiles => {
                2 * width * each * positions * sequences
            }
            Operation::Stream => {
                let words = self.arguments.iter().map(|argument| match argument {
                    Argument::Int(words) => usize::try_from(*words).expect("a number of words"),
                    _ => 0,
                });
                WORD * words.sum::<usize>()
            }
            _ => {
                let matrices = self.arguments.iter().map(|argument| match argument {
                    Argument::Buffer { id: Buffer::QkvWeight, .. } => 3 * width * width,
                    Argument::Buffer { id: Buffer::ProjectWeight, .. } => width * width,
                    Argument::Buffer { id: Buffer::ExpandWeight | Buffer::ContractWeight, .. } => {
                        width * inner
                    }
                    Argument::Buffer { id: Buffer::TokenTable | Buffer::HeadWeight, .. } => {
                        vocabulary * width
                    }
                    _ => 0,
                });
                each * matrices.sum::<usize>()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Choice, Products, Weights, decode, prefill};
    use super::*;

    #[test]
    fn launches_of_a_step_read_together_what_the_floor_reads() {
        let dims = Dims::gpt2(12, 12, 768, 50257, 1024);
        for dims in [dims, Dims { tied: false, inner: 40, ..dims }] {
            for (weights, batch) in [(Weights::F32, 1), (Weights::Bf16, 8), (Weights::Bf16, 64)] {
                let shape = Shape::new(dims, weights, batch, batch, 132).unwrap();
                let bytes =
                    |plan: &Plan| plan.steps.iter().map(|step| step.bytes(&shape, 512)).sum::<usize>();
                let step = bytes(&decode(&shape, batch, Choice::Greedy).unwrap());
                let embedded = batch * 768 * (weights.bytes() + 4);
                let floor = stream(&shape, batch, 512).unwrap();
                assert_eq!(step, bytes(&floor) + embedded);
                assert_eq!(floor.steps.len(), 1);
            }
        }
        // GPT-2 124M in bf16: 85 million weights in blocks and 38.6 in the head.
        let shape = Shape::new(dims, Weights::Bf16, 1, 8, 132).unwrap();
        assert_eq!(stream(&shape, 1, 0).unwrap().steps[0].bytes(&shape, 0), 2 * (84_934_656 + 38_597_376));
        for products in [Products::Tiles, Products::CublasLt] {
            let shape = Shape { products, ..shape };
            let plan = prefill(&shape, 0, 1, 8, Choice::Greedy).unwrap();
            let read: usize = plan.steps.iter().map(|step| step.bytes(&shape, 0)).sum();
            assert_eq!(read, 2 * (84_934_656 + 38_597_376) + 8 * 768 * 6);
        }
        assert!(stream(&shape, 2, 0).is_err() && stream(&shape, 1, 1025).is_err());
    }
}
