//! The kernels on the CPU, for tests: the same text compiled as C++, the same [`Plan`] played.
//!
//! What a machine without a GPU can say about a kernel: that its arithmetic and addresses are right in four
//! schedules, that no barrier is missed by some threads of a block, and that nothing is written outside
//! its buffers and its shared memory. Memory that a kernel must write before it reads it begins as NaN, and
//! lies between guards of NaN that are looked at after each launch. What it cannot say: anything about speed,
//! missing fences, or the instructions of inline PTX, for which `common.cu` has plain twins here.
//!
//! With the feature `cuda-emulation-sanitized` the C++ compiler's address sanitizer looks at every access besides, reads
//! too: guards are forbidden to it, and so is whatever was never allocated; and no vector is read from an address that
//! a GPU would refuse. The first fault ends the program with the kernel's name.
//!
//! Only for tests: a kernel with a wild pointer is wild here too.

mod block;
mod guard;

use std::fmt;

use self::block::{Blocks, Function, Launch, Slot};
use super::plan::{Argument, Buffer, BufferSpec, Number, Plan};
use super::{CudaError, Player, Ready};

/// Bytes of guard on either side of an array.
const GUARD: usize = 4096;
/// What guards, shared memory, and buffers that must be written first are filled with: NaN in f32 and bf16,
/// -1 in i32. (0xa5 everywhere would be an f32 of -3e-16, which a sum does not show.)
const NOT_A_NUMBER: u8 = 0xff;

/// In which order blocks, and the threads of a block, have their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// By rising index.
    Forward,
    /// By falling index.
    Reverse,
    /// Drawn anew for every round of turns; the number is the generator's state.
    Random(u64),
}

impl Schedule {
    /// The four that tests go through.
    pub const ALL: [Schedule; 4] =
        [Schedule::Forward, Schedule::Reverse, Schedule::Random(1), Schedule::Random(2)];

    fn arrange(&mut self, order: &mut [usize]) {
        match self {
            Schedule::Forward => order.sort_unstable(),
            Schedule::Reverse => order.sort_unstable_by(|a, b| b.cmp(a)),
            Schedule::Random(state) => {
                for i in (1..order.len()).rev() {
                    // SplitMix64 (Steele, Lea, Flood, 2014).
                    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                    order.swap(i, ((z ^ z >> 31) % (i as u64 + 1)) as usize);
                }
            }
        }
    }
}

/// What a kernel did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no kernel of this name, or its arguments are others.
    Signature {
        /// What it takes: a letter each, `p`ointer, `i`nt, `f`loat; empty where there is none.
        takes: String,
        /// What the launch gives.
        given: String,
    },
    /// A block that is no whole number of warps in one dimension.
    Block {
        /// Its threads in x, y and z.
        threads: [u32; 3],
    },
    /// Threads of a block wait at different places, for ever.
    Barrier {
        /// Which block.
        block: [u32; 3],
        /// Who waits where.
        what: String,
    },
    /// The guard of an array was written to.
    Outside {
        /// Which array, by its index.
        array: usize,
    },
    /// The guard of the shared memory was written to.
    OutsideShared {
        /// In which block.
        block: [u32; 3],
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Signature { takes, given } => {
                write!(f, "its arguments are `{takes}`, the launch gives `{given}`")
            }
            Fault::Block { threads } => write!(f, "a block of {threads:?} threads is no row of whole warps"),
            Fault::Barrier { block, what } => write!(f, "block {block:?} waits for ever: {what}"),
            Fault::Outside { array } => write!(f, "array {array} was written outside its bounds"),
            Fault::OutsideShared { block } => {
                write!(f, "block {block:?} wrote outside its shared memory")
            }
        }
    }
}

impl std::error::Error for Fault {}

/// Memory between two guards, on a 16-byte boundary.
pub struct Array {
    /// Whole 16-byte words, guards included; what is behind the last byte is guard too.
    words: Vec<u128>,
    bytes: usize,
}

impl Array {
    /// `bytes` bytes of `fill`.
    pub fn new(bytes: usize, fill: u8) -> Array {
        let words = vec![u128::MAX; (bytes + 2 * GUARD).div_ceil(16)];
        let mut array = Array { words, bytes };
        array.bytes_mut().fill(fill);
        let (all, end) = (array.all(), GUARD + bytes);
        guard::forbid(&all[..GUARD]);
        guard::forbid(&all[end..]);
        array
    }

    /// Holding these bytes.
    pub fn of(bytes: &[u8]) -> Array {
        let mut array = Array::new(bytes.len(), 0);
        array.bytes_mut().copy_from_slice(bytes);
        array
    }

    fn all(&self) -> &[u8] {
        // SAFETY: plain bytes of a vector that lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.words.len() * 16) }
    }

    fn all_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.words.len() * 16) }
    }

    /// What is between the guards.
    pub fn bytes(&self) -> &[u8] {
        &self.all()[GUARD..GUARD + self.bytes]
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let end = GUARD + self.bytes;
        &mut self.all_mut()[GUARD..end]
    }

    /// Its numbers as f32.
    pub fn floats(&self) -> Vec<f32> {
        self.bytes().as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
    }

    fn intact(&self) -> bool {
        let (all, end) = (self.all(), GUARD + self.bytes);
        all[..GUARD].iter().chain(&all[end..]).all(|&byte| byte == NOT_A_NUMBER)
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        guard::allow(self.all());
    }
}

/// An argument of [`Emulation::launch`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A pointer into an array.
    Array {
        /// Which.
        index: usize,
        /// Bytes from its start.
        byte: usize,
    },
    /// An `int`.
    Int(i32),
    /// A `float`.
    Float(f32),
}

/// Arrays, and kernels that run over them.
pub struct Emulation {
    arrays: Vec<Array>,
    specs: Vec<BufferSpec>,
    plans: Vec<Plan>,
    schedule: Schedule,
    blocks: Blocks,
    launches: usize,
    /// Launches before the span that is watched.
    begun: Option<usize>,
}

impl Emulation {
    /// With no memory yet.
    pub fn new(schedule: Schedule) -> Emulation {
        Emulation {
            arrays: Vec::new(),
            specs: Vec::new(),
            plans: Vec::new(),
            schedule,
            blocks: Blocks::default(),
            launches: 0,
            begun: None,
        }
    }

    /// Over these arrays.
    pub fn over(schedule: Schedule, arrays: Vec<Array>) -> Emulation {
        Emulation { arrays, ..Emulation::new(schedule) }
    }

    /// An array, by its index; of a plan's buffers by [`Buffer::index`].
    pub fn array(&self, index: usize) -> &Array {
        &self.arrays[index]
    }

    /// How many kernels were launched so far.
    pub fn launches(&self) -> usize {
        self.launches
    }

    /// Runs one kernel to its end.
    ///
    /// # Errors
    /// [`Fault`]: what it did wrong.
    ///
    /// # Panics
    /// For an argument outside the arrays.
    pub fn launch(
        &mut self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: usize,
        values: &[Value],
    ) -> Result<(), Fault> {
        let kinds: String = values.iter().map(Value::kind).collect();
        let function = Function::named(kernel)
            .ok_or_else(|| Fault::Signature { takes: String::new(), given: kinds.clone() })?;
        if function.kinds != kinds {
            return Err(Fault::Signature { takes: function.kinds.to_owned(), given: kinds });
        }
        if block[0] == 0 || !block[0].is_multiple_of(32) || block[1..] != [1, 1] {
            return Err(Fault::Block { threads: block });
        }
        let slots: Vec<Slot> = values.iter().map(|value| self.slot(value)).collect();
        let launch = Launch { function, slots: &slots, grid, block };
        let [width, height, depth] = grid.map(|n| n as usize);
        let mut order: Vec<usize> = (0..width * height * depth).collect();
        self.schedule.arrange(&mut order);
        for index in order {
            let index = [index % width, index / width % height, index / width / height].map(|n| n as u32);
            let mut shared = Array::new(shared_bytes, NOT_A_NUMBER);
            let memory = shared.bytes_mut().as_mut_ptr();
            self.blocks.run(&launch, index, memory, &mut self.schedule)?;
            if !shared.intact() {
                return Err(Fault::OutsideShared { block: index });
            }
        }
        self.launches += 1;
        match self.arrays.iter().position(|array| !array.intact()) {
            Some(array) => Err(Fault::Outside { array }),
            None => Ok(()),
        }
    }

    fn slot(&mut self, value: &Value) -> Slot {
        match *value {
            Value::Array { index, byte } => {
                Slot { pointer: self.arrays[index].bytes_mut()[byte..].as_mut_ptr() }
            }
            Value::Int(integer) => Slot { integer },
            Value::Float(number) => Slot { number },
        }
    }
}

impl Value {
    fn kind(&self) -> char {
        match self {
            Value::Array { .. } => 'p',
            Value::Int(_) => 'i',
            Value::Float(_) => 'f',
        }
    }
}

/// A [`Player`] like any other, but for two things: what kernels must write before they read it begins as
/// NaN and not as zeros, and its clock counts a microsecond a launch.
impl Player for Emulation {
    fn allocate(&mut self, buffers: &[BufferSpec]) -> Result<(), CudaError> {
        let mut old: Vec<Option<Array>> = std::mem::take(&mut self.arrays).into_iter().map(Some).collect();
        for spec in buffers {
            let kept = old.get_mut(spec.buffer.index()).and_then(Option::take);
            let fill = if spec.buffer.starts_as_zeros() { 0 } else { NOT_A_NUMBER };
            let array = kept.filter(|array| array.bytes == spec.bytes());
            self.arrays.push(array.unwrap_or_else(|| Array::new(spec.bytes(), fill)));
        }
        self.specs = buffers.to_vec();
        self.plans.clear();
        Ok(())
    }

    fn write(&mut self, buffer: Buffer, first: usize, bytes: &[u8]) -> Result<(), CudaError> {
        let at = first * self.number(buffer).bytes();
        self.arrays[buffer.index()].bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, buffer: Buffer, first: usize, bytes: &mut [u8]) -> Result<(), CudaError> {
        let at = first * self.number(buffer).bytes();
        bytes.copy_from_slice(&self.arrays[buffer.index()].bytes()[at..at + bytes.len()]);
        Ok(())
    }

    fn ready(&mut self, plan: &Plan) -> Result<Ready, CudaError> {
        self.plans.push(plan.clone());
        Ok(Ready(self.plans.len() - 1))
    }

    fn begin_span(&mut self) -> Result<(), CudaError> {
        self.begun = Some(self.launches);
        Ok(())
    }

    fn span_ns(&self) -> Result<Option<u64>, CudaError> {
        let launches = self.begun.map(|begun| self.launches - begun);
        Ok(launches.filter(|&launches| launches > 0).map(|launches| 1000 * launches as u64))
    }

    fn play(&mut self, plan: Ready) -> Result<(), CudaError> {
        let plan = self.plans[plan.0].clone();
        for step in &plan.steps {
            let value = |argument: &Argument| match *argument {
                Argument::Buffer { id, offset } => {
                    Value::Array { index: id.index(), byte: offset * self.number(id).bytes() }
                }
                Argument::Int(integer) => Value::Int(integer),
                Argument::Float(number) => Value::Float(number),
            };
            let values: Vec<Value> = step.arguments.iter().map(value).collect();
            let name = step.kernel.name();
            let done = self.launch(&name, step.grid, step.block, step.shared_bytes as usize, &values);
            done.map_err(|fault| CudaError::Call {
                action: format!("run {name} in the emulation"),
                cause: match fault {
                    Fault::Outside { array } => {
                        format!("{} was written outside its bounds", plan.buffers[array].name)
                    }
                    other => other.to_string(),
                },
                remedy: "mend the kernel or its plan",
            })?;
        }
        Ok(())
    }
}

impl Emulation {
    fn number(&self, buffer: Buffer) -> Number {
        self.specs[buffer.index()].number
    }
}
