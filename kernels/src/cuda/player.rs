//! [`Player`]: whoever can carry out a [`Plan`], on a GPU or, in tests, on the CPU.

use super::CudaError;
use super::plan::{Buffer, BufferSpec, Plan};

/// A plan that a player has made ready: an index that it alone understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready(pub usize);

/// Memory for the buffers of one [`Shape`](super::plan::Shape), and the launching of plans over it.
///
/// Work is done in the order it is asked for. [`Player::play`] may return before the work is done; reading
/// a buffer waits for it.
pub trait Player {
    /// Makes room for `buffers`, each at the index of its [`Buffer`]. One of the same bytes as before stays
    /// with its content, so that weights outlive a change of the batch; any other begins as zeros. Plans
    /// made ready before are forgotten.
    ///
    /// # Errors
    /// A device without so much memory.
    fn allocate(&mut self, buffers: &[BufferSpec]) -> Result<(), CudaError>;

    /// Puts `bytes` into `buffer`, from element `first` on.
    ///
    /// # Errors
    /// What the device says of the copy.
    ///
    /// # Panics
    /// Where they do not lie in the buffer, or are no whole number of elements.
    fn write(&mut self, buffer: Buffer, first: usize, bytes: &[u8]) -> Result<(), CudaError>;

    /// Fills `bytes` from `buffer`, from element `first` on, once all work before it is done.
    ///
    /// # Errors
    /// What the device says of the work or of the copy.
    ///
    /// # Panics
    /// As [`Player::write`].
    fn read(&self, buffer: Buffer, first: usize, bytes: &mut [u8]) -> Result<(), CudaError>;

    /// Prepares `plan`, which is of the shape that was allocated, to be played often.
    ///
    /// # Errors
    /// A kernel that is missing or cannot be launched so on this device.
    fn ready(&mut self, plan: &Plan) -> Result<Ready, CudaError>;

    /// Plays it once.
    ///
    /// # Errors
    /// What the device says of the launches.
    ///
    /// # Panics
    /// For a plan of another player, or one made ready before the last [`Player::allocate`].
    fn play(&mut self, plan: Ready) -> Result<(), CudaError>;

    /// From here on the device's own clock is watched: [`Player::span_ns`] counts from the first plan
    /// behind this.
    ///
    /// # Errors
    /// What the device says.
    fn begin_span(&mut self) -> Result<(), CudaError> {
        Ok(())
    }

    /// Nanoseconds from when the device began the first plan since [`Player::begin_span`] until it ended the
    /// last, for which this waits; none where there is no such clock, or no such plan.
    ///
    /// # Errors
    /// What the device says of the work.
    fn span_ns(&self) -> Result<Option<u64>, CudaError> {
        Ok(None)
    }

    /// Plays a step `times` times. After each, the first `tokens.len()` numbers of [`Buffer::Token`] reach the
    /// host, and then `each` is called with the number of the step and them. The device is kept busy
    /// meanwhile: nobody waits between steps.
    ///
    /// # Errors
    /// As [`Player::play`] and [`Player::read`].
    fn steps(
        &mut self,
        plan: Ready,
        times: usize,
        tokens: &mut [i32],
        each: &mut dyn FnMut(usize, &[i32]),
    ) -> Result<(), CudaError> {
        let mut bytes = vec![0; 4 * tokens.len()];
        for step in 0..times {
            self.play(plan)?;
            self.read(Buffer::Token, 0, &mut bytes)?;
            for (token, bytes) in tokens.iter_mut().zip(bytes.as_chunks().0) {
                *token = i32::from_ne_bytes(*bytes);
            }
            each(step, tokens);
        }
        Ok(())
    }
}
