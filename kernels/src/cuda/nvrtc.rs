//! Source text to machine code for one architecture, by NVRTC.
//!
//! Machine code and not PTX: NVRTC hands inline assembly to the assembler only when machine code is asked
//! for, so a wrong instruction is found here and not on the GPU; and a driver older than NVRTC refuses its PTX.
//! Sources include nothing: no header is there for sure.

use std::ffi::{CString, c_char};
use std::fmt;

use cudarc::nvrtc::{result, sys};

use super::{CudaError, Libraries, Library};

/// What code is made for, such as `sm_80`, `sm_90a` or `sm_120`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Architecture(String);

impl Architecture {
    /// By name.
    pub fn named(name: impl Into<String>) -> Architecture {
        Architecture(name.into())
    }

    /// The best for a GPU of this compute capability: on Hopper (9.0) with the instructions that only it has.
    pub fn of(major: i32, minor: i32) -> Architecture {
        match (major, minor) {
            (9, 0) => Architecture("sm_90a".into()),
            _ => Architecture(format!("sm_{major}{minor}")),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Machine code of one source text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// An ELF file for [`Architecture`], as the driver loads it.
    pub cubin: Vec<u8>,
    /// What compiler and assembler said; [`Usage::read`] finds each kernel's registers in it.
    pub log: String,
}

/// What one kernel takes of a multiprocessor, as the assembler reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The kernel's name.
    pub kernel: String,
    /// Registers a thread.
    pub registers: u32,
    /// Bytes a thread of registers that did not fit, written.
    pub spill_store_bytes: u32,
    /// The same, read.
    pub spill_load_bytes: u32,
    /// Bytes a thread of stack.
    pub stack_bytes: u32,
    /// Bytes a block of shared memory with a size known to the compiler.
    pub shared_bytes: u32,
}

impl Usage {
    /// Every kernel that a log of `--ptxas-options=-v` tells of, in its order.
    pub fn read(log: &str) -> Vec<Usage> {
        let mut found: Vec<Usage> = Vec::new();
        for line in log.lines() {
            if let Some((_, rest)) = line.split_once("Compiling entry function '") {
                let kernel = rest.split('\'').next().unwrap_or_default().to_string();
                let (registers, stack_bytes, shared_bytes) = (0, 0, 0);
                let (spill_store_bytes, spill_load_bytes) = (0, 0);
                let usage = Usage {
                    kernel,
                    registers,
                    spill_store_bytes,
                    spill_load_bytes,
                    stack_bytes,
                    shared_bytes,
                };
                found.push(usage);
            }
            let Some(usage) = found.last_mut() else { continue };
            for part in line.trim().trim_start_matches("ptxas info").split([',', ':']).map(str::trim) {
                let number = || part.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0);
                if part.ends_with("bytes stack frame") {
                    usage.stack_bytes = number();
                } else if part.ends_with("bytes spill stores") {
                    usage.spill_store_bytes = number();
                } else if part.ends_with("bytes spill loads") {
                    usage.spill_load_bytes = number();
                } else if part.starts_with("Used ") && part.ends_with(" registers") {
                    usage.registers = number();
                } else if part.ends_with("bytes smem") {
                    usage.shared_bytes = number();
                }
            }
        }
        found
    }
}

/// The compiler, known to be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nvrtc {
    version: (i32, i32),
}

impl Nvrtc {
    /// # Errors
    /// [`CudaError::Absent`] without NVRTC.
    pub fn new(libraries: &Libraries) -> Result<Nvrtc, CudaError> {
        libraries.place(Library::Nvrtc)?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: NVRTC is open for good; the two pointers are to live integers.
        let answer = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
        answer.result().map_err(|cause| CudaError::Compile {
            name: "anything".into(),
            architecture: "any architecture".into(),
            log: format!("it does not tell its version ({cause}); install NVRTC anew"),
        })?;
        Ok(Nvrtc { version: (major, minor) })
    }

    /// Major and minor, such as `(13, 0)`.
    pub fn version(self) -> (i32, i32) {
        self.version
    }

    /// Compiles `source`, which messages call `name`. The assembler is asked for what each kernel uses.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's log; [`CudaError::Unsupported`] for an architecture that this
    /// NVRTC does not know.
    pub fn compile(
        self,
        name: &str,
        source: &str,
        architecture: &Architecture,
        options: &[String],
    ) -> Result<Compiled, CudaError> {
        let refused = |log: String| CudaError::Compile {
            name: name.to_string(),
            architecture: architecture.name().to_string(),
            log,
        };
        let text = |what: &str, text: &str| {
            CString::new(text).map_err(|_| refused(format!("{what} has a zero byte in it; remove it")))
        };
        let (source, label) = (text("the source", source)?, text("the name", name)?);
        self.check_architecture(architecture)?;
        let mut all = vec![
            text("the architecture", &format!("--gpu-architecture={architecture}"))?,
            text("an option", "--ptxas-options=-v")?,
        ];
        for option in options {
            all.push(text("an option", option)?);
        }
        let program = Program {
            handle: result::create_program(&source, Some(&label))
                .map_err(|cause| refused(cause.to_string()))?,
        };
        let compiled = {
            let options: Vec<Vec<u8>> = all.into_iter().map(CString::into_bytes).collect();
            // SAFETY: the program was created just now and is freed when `program` is dropped; `source` and
            // `label`, which it may point into, live until then.
            unsafe { result::compile_program(program.handle, &options) }
        };
        let log = program.log();
        compiled.map_err(|cause| refused(format!("{cause}\n{log}")))?;
        let cubin = program.cubin().map_err(|cause| refused(cause.to_string()))?;
        drop(program);
        Ok(Compiled { cubin, log })
    }
}

impl Nvrtc {
    /// A GPU may be newer than NVRTC, or older than what it still compiles for.
    fn check_architecture(self, architecture: &Architecture) -> Result<(), CudaError> {
        let known = self.architectures();
        let number: String = architecture.name().chars().filter(char::is_ascii_digit).collect();
        // One that does not tell is asked for the code itself, and then has its own words for a refusal.
        if known.is_empty() || number.parse().is_ok_and(|number: i32| known.contains(&number)) {
            return Ok(());
        }
        let (major, minor) = self.version;
        Err(CudaError::Unsupported {
            what: "compiling kernels",
            reason: format!("NVRTC {major}.{minor} does not know {architecture}"),
            remedy: "install an NVRTC of CUDA 13 that does, or name the folder that holds it",
        })
    }

    /// What it compiles for, such as 80 and 90; empty where it does not tell.
    fn architectures(self) -> Vec<i32> {
        let mut count = 0;
        // SAFETY: NVRTC is open for good; the pointer is to a live integer.
        let answer = unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) };
        let mut known = vec![0; usize::try_from(count).unwrap_or(0)];
        if answer.result().is_err() || known.is_empty() {
            return Vec::new();
        }
        // SAFETY: as above; there is room for as many as were counted.
        match unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }.result() {
            Ok(()) => known,
            Err(_) => Vec::new(),
        }
    }
}

/// A program of NVRTC, freed when dropped.
struct Program {
    handle: sys::nvrtcProgram,
}

impl Program {
    fn log(&self) -> String {
        // SAFETY: the handle is alive as long as `self`.
        let log = unsafe { result::get_program_log(self.handle) }.unwrap_or_default();
        let bytes: Vec<u8> =
            log.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|&byte| byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn cubin(&self) -> Result<Vec<u8>, result::NvrtcError> {
        let mut bytes = 0usize;
        // SAFETY: the handle is alive, and the pointer is to a live integer.
        unsafe { sys::nvrtcGetCUBINSize(self.handle, &mut bytes) }.result()?;
        let mut cubin = vec![0u8; bytes];
        // SAFETY: as above; the buffer has the size that NVRTC asked for.
        unsafe { sys::nvrtcGetCUBIN(self.handle, cubin.as_mut_ptr().cast::<c_char>()) }.result()?;
        Ok(cubin)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: created by `create_program`, freed here alone. A refusal leaves nothing to be done.
        let _ = unsafe { result::destroy_program(self.handle) };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cuda::library::tests::search_of_this_machine;

    /// NVRTC of ASSAY_CUDA_LIB, of this machine or of the locked Python side; otherwise says what is skipped.
    pub(in crate::cuda) fn here(test: &str) -> Option<Nvrtc> {
        let libraries = Libraries::open(&search_of_this_machine(), &[Library::Nvrtc]);
        match Nvrtc::new(&libraries) {
            Ok(nvrtc) => Some(nvrtc),
            Err(error) => {
                eprintln!("SKIPPED {test}: {error}");
                None
            }
        }
    }

    const DOUBLED: &str = "extern \"C\" __global__ void doubled(float *x, int n) {
        __shared__ float tile[64];
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        tile[threadIdx.x % 64] = i < n ? x[i] : 0.0f;
        __syncthreads();
        if (i < n) x[i] = tile[threadIdx.x % 64] * 2.0f;
    }";

    #[test]
    fn a_kernel_becomes_machine_code_and_says_what_it_uses() {
        let Some(nvrtc) = here("a_kernel_becomes_machine_code") else { return };
        assert_eq!(nvrtc.version().0, 13);
        for name in ["sm_80", "sm_90a", "sm_120"] {
            let compiled = nvrtc.compile("doubled.cu", DOUBLED, &Architecture::named(name), &[]).unwrap();
            assert!(compiled.cubin.starts_with(b"\x7fELF"), "{name}: no ELF file");
            let usage = Usage::read(&compiled.log);
            assert_eq!(usage.len(), 1, "{}", compiled.log);
            assert_eq!((usage[0].kernel.as_str(), usage[0].spill_store_bytes), ("doubled", 0));
            assert!((4..=32).contains(&usage[0].registers), "{}", compiled.log);
            assert_eq!(usage[0].shared_bytes, 256, "{}", compiled.log);
        }
    }

    #[test]
    fn what_is_no_kernel_comes_back_with_the_compilers_words() {
        let Some(nvrtc) = here("what_is_no_kernel") else { return };
        let wrong = DOUBLED.replace("2.0f", "two");
        let said = nvrtc.compile("wrong.cu", &wrong, &Architecture::named("sm_80"), &[]).unwrap_err();
        assert!(said.to_string().contains("wrong.cu") && said.to_string().contains("two"), "{said}");
        // Only the assembler knows that this instruction is none.
        let wrong = DOUBLED.replace("__syncthreads();", "asm volatile(\"no.such.instruction;\");");
        let said = nvrtc.compile("wrong.cu", &wrong, &Architecture::named("sm_90a"), &[]).unwrap_err();
        assert!(matches!(said, CudaError::Compile { .. }), "{said}");
        let said = nvrtc.compile("wrong.cu", "\0", &Architecture::named("sm_80"), &[]).unwrap_err();
        assert!(said.to_string().contains("zero byte"), "{said}");
        for unknown in ["sm_1", "sm_999", "no architecture"] {
            let said = nvrtc.compile("n.cu", DOUBLED, &Architecture::named(unknown), &[]).unwrap_err();
            assert!(said.is_absence() && said.to_string().contains("; install"), "{said}");
            assert!(said.to_string().contains(unknown), "{said}");
        }
    }

    #[test]
    fn the_assemblers_report_is_read() {
        let log = "ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'one' for 'sm_90a'
ptxas info    : Function properties for one
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 256 bytes smem, 400 bytes cmem[0]
ptxas info    : Compiling entry function 'two' for 'sm_90a'
ptxas info    : Function properties for two
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, 364 bytes cmem[0]
";
        let found: Vec<_> = Usage::read(log)
            .into_iter()
            .map(|u| {
                (
                    u.kernel,
                    u.registers,
                    u.stack_bytes,
                    u.spill_store_bytes,
                    u.spill_load_bytes,
                    u.shared_bytes,
                )
            })
            .collect();
        assert_eq!(found, [("one".into(), 40, 8, 4, 12, 256), ("two".into(), 255, 0, 0, 0, 0)]);
        assert_eq!(Usage::read("nothing of the kind"), []);
    }
}
