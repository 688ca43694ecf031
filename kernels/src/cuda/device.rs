//! [`Device`]: plays plans on a GPU, launch by launch or as captured graphs.
//!
//! A graph is captured from the very launches that are played eagerly, so both do the same. With programmatic
//! dependent launch a kernel may begin while the one before it ends; kernels allow it by executing
//! `griddepcontrol.wait` before they touch what others wrote, and sources without that word are refused.
//!
//! Two traps of cudarc are stepped around here: its default stream cannot be captured, so there is one of our
//! own; and it records events at every use of a buffer, which costs time and breaks capturing, so that is off.
//!
//! Invariant: buffers and functions outlive the graphs that point into them: one struct holds all three and
//! drops the graphs first.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::{CudaContext, CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, sys};
use cudarc::nvrtc::Ptx;

use super::clock::Clock;
use super::driver::{call, find};
use super::launch::Prepared;
use super::pinned::{PLACES, Pinned};
use super::plan::{Argument, Buffer, BufferSpec, Kernel, Launch, Plan};
use super::products::{CublasLt, Product};
use super::{Architecture, Compiled, CubinCache, CudaError, Libraries, Nvrtc, Player, Ready, source};

/// Shared memory that a block has without asking for more.
const SHARED_BYTES: u32 = 48 * 1024;
/// What a kernel executes that may begin early.
const WAIT: &str = "griddepcontrol.wait";

/// How the kernels of a plan reach the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launching {
    /// One call of the driver a kernel.
    Eager,
    /// One call a plan, which was captured as a graph.
    Graph,
    /// A graph whose kernels begin while the ones before them end (compute capability 9.0 and newer).
    Programmatic,
}

/// A GPU with its kernels and buffers.
pub struct Device {
    // Dropped in this order.
    plans: Vec<Played>,
    pinned: Option<Pinned>,
    buffers: Vec<Allocated>,
    functions: BTreeMap<String, Loaded>,
    library: Option<CublasLt>,
    clock: Option<Clock>,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
    launching: Launching,
    /// Generation of the buffers: plans of an earlier one point nowhere.
    first_plan: usize,
    waits: bool,
}

struct Allocated {
    spec: BufferSpec,
    /// None where it has no elements.
    memory: Option<CudaSlice<u8>>,
    address: u64,
}

struct Loaded {
    function: CudaFunction,
    /// Most dynamic shared memory it was allowed so far.
    shared_bytes: u32,
}

/// A plan with everything that its launches need.
struct Played {
    steps: Vec<Step>,
    graph: Option<CudaGraph>,
}

/// A launch made ready.
enum Step {
    Kernel(Prepared),
    Product(Product),
}

impl Device {
    /// The GPU that the driver counts as `ordinal`, with no kernels yet.
    ///
    /// # Errors
    /// No driver, too old a driver, no such GPU; or a GPU before Ampere, or one that knows nothing of programmatic
    /// launches where they are asked for.
    pub fn open(libraries: &Libraries, ordinal: usize, launching: Launching) -> Result<Device, CudaError> {
        find(libraries, ordinal)?;
        let context = call("make a context", CudaContext::new(ordinal))?;
        // SAFETY: everything below happens in one stream, so no event is needed for its order; nothing was
        // allocated yet.
        unsafe { context.disable_event_tracking() };
        let stream = call("make a stream", context.new_stream())?;
        let device = Device {
            plans: Vec::new(),
            pinned: None,
            buffers: Vec::new(),
            functions: BTreeMap::new(),
            library: None,
            clock: None,
            stream,
            context,
            launching,
            first_plan: 0,
            waits: true,
        };
        check_capability(device.capability()?, launching)?;
        Ok(device)
    }

    /// The GPU that the driver counts as `ordinal`, in words: name, compute capability, memory, and the newest
    /// CUDA that the driver knows. Makes no context.
    ///
    /// # Errors
    /// No driver, too old a driver, no such GPU.
    pub fn describe(libraries: &Libraries, ordinal: usize) -> Result<String, CudaError> {
        let (version, device) = find(libraries, ordinal)?;
        let name = call("tell its name", result::device::get_name(device))?;
        let attribute = |which| {
            // SAFETY: `find` took the device from the driver.
            call("tell its capability", unsafe { result::device::get_attribute(device, which) })
        };
        let major = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        // SAFETY: as above.
        let bytes = call("tell its memory", unsafe { result::device::total_mem(device) })?;
        let (gib, newest) = (bytes >> 30, (version / 1000, version % 1000 / 10));
        Ok(format!("{name}, sm_{major}{minor}, {gib} GiB, driver for CUDA {}.{}", newest.0, newest.1))
    }

    /// Compiles all kernels for this GPU, or takes them from the cache, and loads them.
    ///
    /// # Errors
    /// As [`CubinCache::compile`] and [`Device::load`].
    pub fn load_kernels(&mut self, nvrtc: Nvrtc, cache: &CubinCache) -> Result<(), CudaError> {
        let compiled = cache.kernels(nvrtc, &self.architecture()?)?;
        self.load(&compiled, &source::source(), Kernel::all().into_iter().map(Kernel::name))
    }

    /// Makes ready for products by cuBLASLt; plans that leave them to it need this.
    ///
    /// # Errors
    /// No library, or no memory for it.
    pub fn load_products(&mut self, libraries: &Libraries) -> Result<(), CudaError> {
        if self.library.is_none() {
            self.bind()?;
            self.library = Some(CublasLt::new(libraries, &self.stream)?);
        }
        Ok(())
    }

    /// Adds the `kernels` of compiled code; `source` is what it was compiled from.
    ///
    /// # Errors
    /// Code for another architecture, a kernel that is not in it; under [`Launching::Programmatic`], sources
    /// that do not wait for the kernel before them.
    pub fn load(
        &mut self,
        compiled: &Compiled,
        source: &str,
        kernels: impl IntoIterator<Item = String>,
    ) -> Result<(), CudaError> {
        self.waits &= source.contains(WAIT);
        if self.launching == Launching::Programmatic && !self.waits {
            return Err(early(format!("the kernels do not execute {WAIT}")));
        }
        let module = self.context.load_module(Ptx::from_binary(compiled.cubin.clone()));
        let module = call("load compiled kernels", module)?;
        for name in kernels {
            let function = call(format!("find the kernel {name}"), module.load_function(&name))?;
            self.functions.insert(name, Loaded { function, shared_bytes: SHARED_BYTES });
        }
        Ok(())
    }

    /// Its name, as NVIDIA sells it.
    ///
    /// # Errors
    /// What the driver says.
    pub fn name(&self) -> Result<String, CudaError> {
        call("tell its name", self.context.name())
    }

    /// Its compute capability, major and minor.
    ///
    /// # Errors
    /// What the driver says.
    pub fn capability(&self) -> Result<(i32, i32), CudaError> {
        call("tell its compute capability", self.context.compute_capability())
    }

    /// What its code is compiled for.
    ///
    /// # Errors
    /// As [`Device::capability`].
    pub fn architecture(&self) -> Result<Architecture, CudaError> {
        self.capability().map(|(major, minor)| Architecture::of(major, minor))
    }

    /// Multiprocessors: blocks that run at once, at least.
    ///
    /// # Errors
    /// What the driver says.
    pub fn processors(&self) -> Result<u32, CudaError> {
        let which = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let count = call("count its multiprocessors", self.context.attribute(which))?;
        Ok(u32::try_from(count).unwrap_or(1).max(1))
    }

    fn prepare(&mut self, launch: &Launch) -> Result<Step, CudaError> {
        if !launch.kernel.operation.is_library() {
            return self.prepare_kernel(launch).map(Step::Kernel);
        }
        let product = self.products()?.prepare(launch, |id, offset| self.address(id, offset))?;
        Ok(Step::Product(product))
    }

    fn products(&self) -> Result<&CublasLt, CudaError> {
        self.library.as_ref().ok_or_else(|| CudaError::Call {
            action: "find cuBLASLt".into(),
            cause: "it was not loaded".into(),
            remedy: "load the library before a plan that leaves products to it is made ready",
        })
    }

    fn prepare_kernel(&mut self, launch: &Launch) -> Result<Prepared, CudaError> {
        let name = launch.kernel.name();
        let Some(loaded) = self.functions.get_mut(&name) else {
            return Err(CudaError::Call {
                action: format!("find the kernel {name}"),
                cause: "it was not loaded".into(),
                remedy: "load every kernel of a plan before it is made ready",
            });
        };
        if launch.shared_bytes > loaded.shared_bytes {
            let bytes = i32::try_from(launch.shared_bytes).unwrap_or(i32::MAX);
            let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let allowed = loaded.function.set_attribute(which, bytes);
            call(format!("give a block of {name} {bytes} bytes of shared memory"), allowed)?;
            loaded.shared_bytes = launch.shared_bytes;
        }
        let function = loaded.function.clone();
        let values = launch.arguments.iter().map(|argument| self.value(argument)).collect();
        let Launch { grid, block, shared_bytes, .. } = *launch;
        Ok(Prepared { function, grid, block, shared_bytes, values })
    }

    /// An argument as the driver reads it: the bytes of a pointer, an int or a float.
    fn value(&self, argument: &Argument) -> [u8; 8] {
        let mut value = [0; 8];
        match *argument {
            Argument::Buffer { id, offset } => value = self.address(id, offset).to_ne_bytes(),
            Argument::Int(number) => value[..4].copy_from_slice(&number.to_ne_bytes()),
            Argument::Float(number) => value[..4].copy_from_slice(&number.to_ne_bytes()),
        }
        value
    }

    fn address(&self, id: Buffer, offset: usize) -> u64 {
        let of = &self.buffers[id.index()];
        assert!(offset <= of.spec.elements, "element {offset} of {}", of.spec.name);
        of.address + (offset * of.spec.number.bytes()) as u64
    }

    fn capture(&self, steps: &[Step]) -> Result<CudaGraph, CudaError> {
        self.use_library_once(steps)?;
        let how = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        call("begin a capture", self.stream.begin_capture(how))?;
        let fired = self.fire(steps);
        // A capture is ended even where a launch failed, or the stream would stay unusable.
        let ended = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        fired?;
        let graph = call("make a graph of the launches", ended)?;
        let graph = graph.ok_or_else(|| CudaError::Call {
            action: "make a graph of the launches".into(),
            cause: "the capture is empty".into(),
            remedy: "play plans eagerly",
        })?;
        call("bring the graph onto the device", graph.upload())?;
        Ok(graph)
    }

    /// cuBLASLt brings its kernels onto the device at their first use, which a capture does not allow. What this
    /// writes, every plan writes anew before it reads it.
    fn use_library_once(&self, steps: &[Step]) -> Result<(), CudaError> {
        let mut waits = false;
        for step in steps {
            if let Step::Product(product) = step {
                self.products()?.fire(product, &self.stream)?;
                waits = true;
            }
        }
        if waits { call("do the first products", self.stream.synchronize()) } else { Ok(()) }
    }

    fn fire(&self, steps: &[Step]) -> Result<(), CudaError> {
        let programmatic = self.launching == Launching::Programmatic;
        for (at, step) in steps.iter().enumerate() {
            match step {
                // The first has none before it in the graph. One behind a product of the library begins when
                // that has ended, for it never says that the next may begin.
                Step::Kernel(launch) => {
                    call("launch a kernel", launch.fire(&self.stream, programmatic && at > 0))?;
                }
                Step::Product(product) => self.products()?.fire(product, &self.stream)?,
            }
        }
        Ok(())
    }

    fn queue(&self, plan: Ready) -> Result<(), CudaError> {
        let at = plan.0.checked_sub(self.first_plan).expect("a plan made ready since the last allocation");
        let played = &self.plans[at];
        match &played.graph {
            Some(graph) => call("launch a graph", graph.launch()),
            None => {
                self.bind()?;
                self.fire(&played.steps)
            }
        }
    }

    fn note_begin(&mut self) -> Result<(), CudaError> {
        self.clock.as_mut().map_or(Ok(()), |clock| clock.note_begin(&self.stream))
    }

    fn note_end(&self) -> Result<(), CudaError> {
        self.clock.as_ref().map_or(Ok(()), |clock| clock.note_end(&self.stream))
    }

    /// The bytes of `buffer` from element `first` on: their address, having checked that they are there.
    fn range(&self, buffer: Buffer, first: usize, bytes: usize) -> u64 {
        let Allocated { spec, address, .. } = &self.buffers[buffer.index()];
        let (each, name) = (spec.number.bytes(), spec.name);
        let whole = bytes.is_multiple_of(each) && first + bytes / each <= spec.elements;
        assert!(whole, "{bytes} bytes from element {first} of {name}, which has {}", spec.elements);
        address + (first * each) as u64
    }

    fn bind(&self) -> Result<(), CudaError> {
        call("use this thread", self.context.bind_to_thread())
    }
}

impl Player for Device {
    fn allocate(&mut self, buffers: &[BufferSpec]) -> Result<(), CudaError> {
        self.first_plan += self.plans.len();
        self.plans.clear();
        let mut before = std::mem::take(&mut self.buffers).into_iter();
        let mut made = Vec::with_capacity(buffers.len());
        for spec in buffers {
            let kept = before.next().filter(|kept| kept.spec == *spec);
            made.push(match kept {
                Some(kept) => kept,
                None => Allocated::new(&self.stream, spec)?,
            });
        }
        self.buffers = made;
        Ok(())
    }

    fn write(&mut self, buffer: Buffer, first: usize, bytes: &[u8]) -> Result<(), CudaError> {
        let to = self.range(buffer, first, bytes.len());
        if bytes.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the range lies in memory that `self` holds. `bytes` are pageable, so the driver has copied
        // them when it returns.
        let copied = unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) };
        call("copy to the device", copied)
    }

    fn read(&self, buffer: Buffer, first: usize, bytes: &mut [u8]) -> Result<(), CudaError> {
        let from = self.range(buffer, first, bytes.len());
        if bytes.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the range lies in memory that `self` holds; `bytes` stay borrowed until the stream has
        // done everything.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) };
        let done = self.stream.synchronize();
        call("copy from the device", copied)?;
        call("do the work before a copy", done)
    }

    fn ready(&mut self, plan: &Plan) -> Result<Ready, CudaError> {
        self.bind()?;
        let steps = plan.steps.iter().map(|launch| self.prepare(launch)).collect::<Result<Vec<_>, _>>()?;
        let graph = match self.launching {
            Launching::Eager => None,
            Launching::Graph | Launching::Programmatic => Some(self.capture(&steps)?),
        };
        self.plans.push(Played { steps, graph });
        Ok(Ready(self.first_plan + self.plans.len() - 1))
    }

    fn play(&mut self, plan: Ready) -> Result<(), CudaError> {
        self.note_begin()?;
        self.queue(plan)?;
        self.note_end()
    }

    fn begin_span(&mut self) -> Result<(), CudaError> {
        match &mut self.clock {
            Some(clock) => clock.restart(),
            None => self.clock = Some(Clock::new(&self.context)?),
        }
        Ok(())
    }

    fn span_ns(&self) -> Result<Option<u64>, CudaError> {
        self.clock.as_ref().map_or(Ok(None), Clock::span_ns)
    }

    fn steps(
        &mut self,
        plan: Ready,
        times: usize,
        tokens: &mut [i32],
        each: &mut dyn FnMut(usize, &[i32]),
    ) -> Result<(), CudaError> {
        let batch = tokens.len();
        let from = self.range(Buffer::Token, 0, 4 * batch);
        if self.pinned.as_ref().is_none_or(|pinned| pinned.batch != batch) {
            self.bind()?;
            // After a fault, copies into the old one may still be on their way.
            call("finish what was queued", self.stream.synchronize())?;
            self.pinned = Some(Pinned::new(&self.context, batch)?);
        }
        self.note_begin()?;
        let mut queued: VecDeque<usize> = VecDeque::with_capacity(PLACES);
        for step in 0..=times {
            // The oldest is waited for where as many are queued as there is room for, or nothing else is left.
            while queued.len() == PLACES || (step == times && !queued.is_empty()) {
                let oldest = queued.pop_front().expect("it is not empty");
                let pinned = self.pinned.as_ref().expect("made above");
                pinned.wait(oldest % PLACES, tokens)?;
                each(oldest, tokens);
            }
            if step < times {
                self.queue(plan)?;
                let pinned = self.pinned.as_ref().expect("made above");
                pinned.bring(step % PLACES, from, &self.stream)?;
                queued.push_back(step);
                if step + 1 == times {
                    self.note_end()?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("launching", &self.launching).finish_non_exhaustive()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // What is queued still uses graphs and buffers. A device that fails here has nothing left to be saved.
        let _ = self.stream.synchronize();
    }
}

impl Allocated {
    fn new(stream: &Arc<CudaStream>, spec: &BufferSpec) -> Result<Allocated, CudaError> {
        let spec = spec.clone();
        if spec.bytes() == 0 {
            return Ok(Allocated { spec, memory: None, address: 0 });
        }
        let made = stream.alloc_zeros::<u8>(spec.bytes());
        let memory = call(format!("make room for {} ({} bytes)", spec.name, spec.bytes()), made)?;
        let address = memory.device_ptr(stream).0;
        Ok(Allocated { spec, memory: Some(memory), address })
    }
}

impl fmt::Debug for Allocated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}, {}", self.spec.name, self.address, self.memory.is_some())
    }
}

/// Refuses a GPU that lacks what kernels are made of, or a way of launching them.
fn check_capability((major, minor): (i32, i32), launching: Launching) -> Result<(), CudaError> {
    let first =
        |first: &str| format!("the GPU has compute capability {major}.{minor}, and {first} is the first");
    if major < 8 {
        return Err(CudaError::Unsupported {
            what: "GPT-2's kernels (products in bf16, copies past registers)",
            reason: first("8.0"),
            remedy: "use a GPU of NVIDIA's Ampere generation or newer, or the CPU",
        });
    }
    if launching == Launching::Programmatic && major < 9 {
        return Err(early(first("9.0")));
    }
    Ok(())
}

/// That kernels cannot begin before the ones in front of them have ended.
fn early(reason: String) -> CudaError {
    let (what, remedy) = ("programmatic dependent launch", "play plans as plain graphs");
    CudaError::Unsupported { what, reason, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::{Library, Search};

    #[test]
    fn without_a_driver_there_is_no_device_and_no_panic() {
        let libraries = Libraries::open(&Search::only([]), &[Library::Driver]);
        for launching in [Launching::Eager, Launching::Graph, Launching::Programmatic] {
            let error = Device::open(&libraries, 0, launching).unwrap_err();
            assert!(
                matches!(&error, CudaError::Absent(absent) if absent.library == Library::Driver),
                "{error}"
            );
        }
    }

    #[test]
    fn a_gpu_that_cannot_do_it_is_refused_with_its_generation() {
        let said = |capability, launching| check_capability(capability, launching).map_err(|e| e.to_string());
        for launching in [Launching::Eager, Launching::Graph, Launching::Programmatic] {
            assert_eq!(said((9, 0), launching), Ok(()));
            assert_eq!(said((12, 0), launching), Ok(()));
            let old = said((7, 5), launching).unwrap_err();
            assert!(old.contains("7.5, and 8.0") && old.contains("; use a GPU"), "{old}");
        }
        assert_eq!(said((8, 9), Launching::Graph), Ok(()));
        let early = said((8, 9), Launching::Programmatic).unwrap_err();
        assert!(early.contains("8.9, and 9.0") && early.contains("plain graphs"), "{early}");
        assert!(check_capability((7, 0), Launching::Eager).unwrap_err().is_absence());
    }

    /// On a machine with a driver this opens the first GPU; on others it names what is missing.
    #[test]
    fn what_this_machine_has_is_opened_or_named() {
        let libraries = Libraries::open(&Search::usual(None, None, []), &[Library::Driver]);
        match Device::open(&libraries, 0, Launching::Eager) {
            Ok(device) => assert!(!device.name().unwrap().is_empty() && device.processors().unwrap() > 0),
            Err(error) => {
                eprintln!("SKIPPED on a GPU: {error}");
                let said = error.to_string();
                assert!(said.contains("driver") && said.contains(';'), "{said}");
            }
        }
    }
}
