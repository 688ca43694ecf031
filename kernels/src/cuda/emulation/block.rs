//! One block: a fiber for each of its threads, and who of them runs when.
//!
//! Fibers and not threads of the operating system, because a schedule must be chosen and repeated: a fiber
//! runs until it waits at a barrier or a shuffle, then the next one's turn comes in the order of the
//! [`Schedule`]. Where a barrier is missing, some order reads what is not written yet.
//!
//! Invariant: a fiber is resumed by the OS thread that made it, and no panic crosses the C++ in between.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::{Fault, Schedule};

/// Stack of a fiber; kernels keep a few hundred bytes, and under the sanitizer each local array has its own guards.
const STACK_BYTES: usize = if cfg!(feature = "cuda-emulation-sanitized") { 1 << 20 } else { 64 << 10 };
/// Threads of a warp.
const WARP: usize = 32;

/// One argument as C++ takes it; `EmulationSlot` there.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union Slot {
    pub(super) pointer: *mut u8,
    pub(super) integer: i32,
    pub(super) number: f32,
}

/// `EmulationIndex`
#[repr(C)]
#[derive(Clone, Copy)]
struct Index {
    x: u32,
    y: u32,
    z: u32,
}

impl From<[u32; 3]> for Index {
    fn from([x, y, z]: [u32; 3]) -> Index {
        Index { x, y, z }
    }
}

/// `EmulationThread`
#[repr(C)]
struct Thread {
    thread: Index,
    block: Index,
    block_dim: Index,
    grid_dim: Index,
    shared: *mut u8,
}

/// `EmulationEntry`
#[repr(C)]
struct Entry {
    name: *const c_char,
    kinds: *const c_char,
    call: extern "C" fn(*const Slot),
}

unsafe extern "C" {
    fn emulation_enter(thread: *const Thread);
    fn emulation_find(name: *const c_char) -> *const Entry;
}

/// A kernel that was found by its name.
#[derive(Clone, Copy)]
pub(super) struct Function {
    call: extern "C" fn(*const Slot),
    /// A letter an argument: `p`ointer, `i`nt, `f`loat.
    pub(super) kinds: &'static str,
}

impl Function {
    pub(super) fn named(name: &str) -> Option<Function> {
        let name = CString::new(name).ok()?;
        // SAFETY: a string that ends in zero; the table it is looked up in is constant.
        let entry = unsafe { emulation_find(name.as_ptr()).as_ref() }?;
        // SAFETY: the table's strings end in zero and live as long as the program.
        let kinds = unsafe { CStr::from_ptr(entry.kinds) };
        Some(Function { call: entry.call, kinds: kinds.to_str().ok()? })
    }
}

/// What a fiber waits for, and the source line where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Block(u32),
    Warp(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Waiting(Wait),
    Done,
}

/// What a running fiber is found by from inside C++.
struct Lane {
    yielder: Cell<*const Yielder<(), Wait>>,
    /// Which of the warp's two sets of numbers the next exchange uses: a lane is never more than one
    /// exchange ahead of another.
    odd: Cell<bool>,
    /// Lane of the warp.
    index: usize,
    /// Two sets of numbers, of the warp.
    numbers: *const [[Cell<u64>; WARP]; 2],
}

thread_local! {
    static RUNNING: Cell<*const Lane> = const { Cell::new(ptr::null()) };
}

/// Called by kernels: suspends the fiber that runs.
#[unsafe(no_mangle)]
extern "C" fn emulation_wait(kind: u32, line: u32) {
    // SAFETY: only kernels call this, inside a fiber that `Blocks::turn` resumed; it has set RUNNING to the
    // fiber's lane, which lives until the block ends.
    let lane = unsafe { &*RUNNING.get() };
    suspend(lane, if kind == 0 { Wait::Block(line) } else { Wait::Warp(line) });
}

/// Called by kernels: exchanges a number within the warp.
#[unsafe(no_mangle)]
extern "C" fn emulation_exchange(value: u64, from: u32, line: u32) -> u64 {
    exchange(value, line)[from as usize % WARP].get()
}

/// Called by kernels: gives a number, and shows what all lanes of the warp gave.
#[unsafe(no_mangle)]
extern "C" fn emulation_gather(value: u64, line: u32) -> *const u64 {
    exchange(value, line).as_ptr().cast()
}

/// What the warp's lanes gave, once all have: overwritten by the next exchange but one.
fn exchange<'a>(value: u64, line: u32) -> &'a [Cell<u64>; WARP] {
    // SAFETY: as in `emulation_wait`.
    let lane = unsafe { &*RUNNING.get() };
    // SAFETY: the warp's numbers live until the block ends, and so do those who look at them.
    let numbers = &unsafe { &*lane.numbers }[usize::from(lane.odd.get())];
    lane.odd.set(!lane.odd.get());
    numbers[lane.index].set(value);
    suspend(lane, Wait::Warp(line));
    numbers
}

fn suspend(lane: &Lane, wait: Wait) {
    // SAFETY: the fiber set it when it began, to the yielder on its own stack.
    unsafe { &*lane.yielder.get() }.suspend(wait);
}

/// The launch that a block belongs to.
pub(super) struct Launch<'a> {
    pub(super) function: Function,
    pub(super) slots: &'a [Slot],
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
}

/// Runs blocks; keeps the fibers' stacks between them.
#[derive(Default)]
pub(super) struct Blocks {
    stacks: Vec<DefaultStack>,
}

impl Blocks {
    /// Runs block `index` to its end. `shared` is its memory.
    pub(super) fn run(
        &mut self,
        launch: &Launch<'_>,
        index: [u32; 3],
        shared: *mut u8,
        schedule: &mut Schedule,
    ) -> Result<(), Fault> {
        let count = launch.block[0] as usize;
        let numbers: Vec<[[Cell<u64>; WARP]; 2]> =
            (0..count.div_ceil(WARP)).map(|_| Default::default()).collect();
        let lanes: Vec<Lane> = (0..count)
            .map(|thread| Lane {
                yielder: Cell::new(ptr::null()),
                odd: Cell::new(false),
                index: thread % WARP,
                numbers: &numbers[thread / WARP],
            })
            .collect();
        let threads: Vec<Thread> = (0..launch.block[0])
            .map(|x| Thread {
                thread: [x, 0, 0].into(),
                block: index.into(),
                block_dim: launch.block.into(),
                grid_dim: launch.grid.into(),
                shared,
            })
            .collect();
        let (call, slots) = (launch.function.call, launch.slots.as_ptr());
        let mut fibers: Vec<Fiber> = lanes
            .iter()
            .map(|lane| {
                let lane = ptr::from_ref(lane);
                Coroutine::with_stack(self.stack(), move |yielder, ()| {
                    // SAFETY: lanes outlive the fibers, which end or are given up below.
                    unsafe { &*lane }.yielder.set(yielder);
                    call(slots);
                })
            })
            .collect();
        let outcome = turns(&mut fibers, &lanes, &threads, schedule);
        for mut fiber in fibers {
            if !fiber.done() {
                // SAFETY: what a suspended kernel has on its stack is numbers and pointers; nothing to drop.
                unsafe { fiber.force_reset() };
            }
            self.stacks.push(fiber.into_stack());
        }
        outcome.map_err(|what| Fault::Barrier { block: index, what })
    }

    fn stack(&mut self) -> DefaultStack {
        self.stacks
            .pop()
            .unwrap_or_else(|| DefaultStack::new(STACK_BYTES).expect("memory for a fiber's stack"))
    }
}

type Fiber = Coroutine<(), Wait, (), DefaultStack>;

/// Everybody's turns until all are done. The error says who waits where for ever.
fn turns(
    fibers: &mut [Fiber],
    lanes: &[Lane],
    threads: &[Thread],
    schedule: &mut Schedule,
) -> Result<(), String> {
    let mut states = vec![State::Ready; fibers.len()];
    let mut order: Vec<usize> = (0..fibers.len()).collect();
    loop {
        schedule.arrange(&mut order);
        for &thread in &order {
            if states[thread] != State::Ready {
                continue;
            }
            RUNNING.set(&lanes[thread]);
            // SAFETY: the pointer stays valid for as long as the fiber may look at it: the block's run.
            unsafe { emulation_enter(&threads[thread]) };
            states[thread] = match fibers[thread].resume(()) {
                CoroutineResult::Yield(wait) => State::Waiting(wait),
                CoroutineResult::Return(()) => State::Done,
            };
        }
        if states.iter().all(|state| *state == State::Done) {
            return Ok(());
        }
        let mut released = false;
        for warp in states.chunks_mut(WARP) {
            if let State::Waiting(Wait::Warp(_)) = warp[0]
                && warp.len() == WARP
            {
                released |= release(warp);
            }
        }
        if let State::Waiting(Wait::Block(_)) = states[0] {
            released |= release(&mut states);
        }
        if !released {
            return Err(stuck(&states));
        }
    }
}

/// Lets all go on if all wait at the same place.
fn release(states: &mut [State]) -> bool {
    let together = states.iter().all(|state| *state == states[0]);
    if together {
        states.fill(State::Ready);
    }
    together
}

/// Threads by what they wait for, such as `0..128 at the block's barrier in line 21, 128..256 done`.
fn stuck(states: &[State]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut begin = 0;
    for (thread, state) in states.iter().enumerate() {
        if states.get(thread + 1) == Some(state) {
            continue;
        }
        let place = match state {
            State::Ready => "running".to_owned(),
            State::Done => "done".to_owned(),
            State::Waiting(Wait::Block(line)) => format!("at the block's barrier in line {line}"),
            State::Waiting(Wait::Warp(line)) => format!("at the warp's barrier in line {line}"),
        };
        parts.push(format!("{begin}..{} {place}", thread + 1));
        begin = thread + 1;
    }
    let more = parts.len().saturating_sub(6);
    parts.truncate(6);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("threads {}{rest}", parts.join(", "))
}
