//! llama.cpp's C interface, made safe for what this engine asks of it: load a GGUF, feed ids, read the
//! logits of the last position, draw an id, quantise a file. The only file with calls into C.
//!
//! What is not said here stays at llama.cpp's own default (mapped weights, micro-batches of 512 ids,
//! flash attention where it can be had, one stream of the cache a sequence).
//!
//! Invariant: a pointer lives in a struct that frees it once, a context keeps its model alive, and the
//! vectors that a batch points into outlive the call that reads them.

use crate::convert::Kind;
use anyhow::{Context as _, Result, bail, ensure};
use llama_cpp_sys_2 as c;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;
use std::sync::Once;

/// A loaded model.
pub struct Model {
    pointer: NonNull<c::llama_model>,
    vocabulary: usize,
    positions: usize,
}

impl Model {
    /// Loads a GGUF file; its weights are mapped.
    ///
    /// # Errors
    /// llama.cpp gives no reason through its interface; it writes one to stderr.
    pub fn load(file: &Path) -> Result<Model> {
        start();
        let path = text(file)?;
        // SAFETY: `path` is a C string that outlives the call; the parameters are llama.cpp's own.
        let pointer =
            unsafe { c::llama_model_load_from_file(path.as_ptr(), c::llama_model_default_params()) };
        let pointer = NonNull::new(pointer)
            .with_context(|| format!("llama.cpp cannot load {} (its reason is on stderr)", file.display()))?;
        // SAFETY: the model was just loaded and is not freed before `Drop`; its vocabulary is part of it.
        let (vocabulary, positions) = unsafe {
            let vocabulary = c::llama_model_get_vocab(pointer.as_ptr());
            (c::llama_vocab_n_tokens(vocabulary), c::llama_model_n_ctx_train(pointer.as_ptr()))
        };
        Ok(Model { pointer, vocabulary: vocabulary.max(0) as usize, positions: positions.max(0) as usize })
    }

    /// Positions the model knows.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// A context for so many sequences of so many positions each.
    pub fn context(
        self: &Rc<Model>,
        kind: Kind,
        sequences: usize,
        positions: usize,
        threads: usize,
    ) -> Result<Context> {
        // SAFETY: takes nothing and gives a value.
        let mut settings = unsafe { c::llama_context_default_params() };
        let count = |number: usize| u32::try_from(number).context("more positions than llama.cpp counts");
        settings.n_ctx = count(sequences * positions)?;
        // One call may hold all ids of a prompt; they are computed in micro-batches all the same.
        settings.n_batch = settings.n_batch.max(settings.n_ctx);
        settings.n_seq_max = count(sequences)?;
        settings.n_threads = threads.max(1) as i32;
        settings.n_threads_batch = settings.n_threads;
        if kind == Kind::F32 {
            settings.type_k = c::GGML_TYPE_F32;
            settings.type_v = c::GGML_TYPE_F32;
        }
        // SAFETY: the model lives, and the context made here keeps it alive.
        let pointer = unsafe { c::llama_init_from_model(self.pointer.as_ptr(), settings) };
        let pointer = NonNull::new(pointer)
            .context("llama.cpp cannot make a context (its reason is on stderr); is memory left?")?;
        let context = Context { pointer, model: self.clone(), sequences, batch: Batch::default() };
        // SAFETY: the context was just made.
        let used = unsafe { c::llama_n_threads(pointer.as_ptr()) };
        ensure!(used == settings.n_threads, "llama.cpp uses {used} threads; {threads} were ordered");
        Ok(context)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: made by `load`, freed here alone; contexts hold an `Rc` and are gone by now.
        unsafe { c::llama_model_free(self.pointer.as_ptr()) }
    }
}

/// A model with a cache and the threads to run it.
pub struct Context {
    pointer: NonNull<c::llama_context>,
    model: Rc<Model>,
    sequences: usize,
    batch: Batch,
}

/// What a call is fed, one entry an id. Kept, so that a step allocates nothing.
#[derive(Default)]
struct Batch {
    ids: Vec<i32>,
    positions: Vec<i32>,
    sequences: Vec<i32>,
    counts: Vec<i32>,
    owners: Vec<*mut i32>,
    wanted: Vec<i8>,
    /// Where in the batch the last id of each sequence stands.
    last: Vec<i32>,
}

impl Batch {
    /// As many ids for each sequence, from position `filled` on; logits are wanted at the last of each.
    fn fill(&mut self, ids: &[u32], sequences: usize, filled: usize) -> Result<()> {
        let tokens = ids.len() / sequences;
        ensure!(tokens > 0 && tokens * sequences == ids.len(), "{} ids for {sequences} sequences", ids.len());
        self.ids.clear();
        self.positions.clear();
        self.sequences.clear();
        self.owners.clear();
        self.wanted.clear();
        self.last.clear();
        for (at, &id) in ids.iter().enumerate() {
            self.ids.push(i32::try_from(id).with_context(|| format!("{id} is no id"))?);
            self.positions.push((filled + at % tokens) as i32);
            self.sequences.push((at / tokens) as i32);
            self.wanted.push(i8::from(at % tokens + 1 == tokens));
        }
        self.last.extend((1..=sequences).map(|row| (row * tokens) as i32 - 1));
        self.counts.resize(ids.len(), 1);
        self.owners.extend(self.sequences.iter_mut().map(|sequence| sequence as *mut i32));
        Ok(())
    }
}

impl Context {
    /// Runs `ids`, as many for each sequence, behind `filled` positions.
    pub fn feed(&mut self, ids: &[u32], filled: usize) -> Result<()> {
        let vocabulary = self.model.vocabulary;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            bail!("{id} is no id of this model, which knows {vocabulary}");
        }
        self.batch.fill(ids, self.sequences, filled)?;
        let batch = c::llama_batch {
            n_tokens: ids.len() as i32,
            token: self.batch.ids.as_mut_ptr(),
            embd: null_mut(),
            pos: self.batch.positions.as_mut_ptr(),
            n_seq_id: self.batch.counts.as_mut_ptr(),
            seq_id: self.batch.owners.as_mut_ptr(),
            logits: self.batch.wanted.as_mut_ptr(),
        };
        // SAFETY: every array holds n_tokens entries and outlives the call, which only reads them; the
        // entries of `owners` point into `sequences`, which was not moved since.
        match unsafe { c::llama_decode(self.pointer.as_ptr(), batch) } {
            0 => Ok(()),
            1 => bail!("llama.cpp's cache has no room for {} ids behind {filled} positions", ids.len()),
            code => bail!("llama.cpp cannot run {} ids (code {code}; its reason is on stderr)", ids.len()),
        }
    }

    /// The logits of one sequence after `feed`: V values.
    fn row(&self, sequence: usize) -> Result<&[f32]> {
        let at = *self.batch.last.get(sequence).context("nothing was run")?;
        // SAFETY: the context lives; waits for the computation to end.
        let pointer = unsafe { c::llama_get_logits_ith(self.pointer.as_ptr(), at) };
        ensure!(!pointer.is_null(), "llama.cpp has no logits for id {at} of the batch");
        // SAFETY: llama.cpp gives V floats that stay until the next call that computes, which needs
        // `&mut self`.
        Ok(unsafe { std::slice::from_raw_parts(pointer, self.model.vocabulary) })
    }

    /// The likeliest next id of each sequence; between equals the smaller id.
    pub fn greedy(&self) -> Result<Vec<u32>> {
        (0..self.sequences).map(|sequence| Ok(likeliest(self.row(sequence)?))).collect()
    }

    /// The logits of all sequences: B x V.
    pub fn logits(&self) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(self.sequences * self.model.vocabulary);
        for sequence in 0..self.sequences {
            all.extend_from_slice(self.row(sequence)?);
        }
        Ok(all)
    }

    /// Empties the cache.
    pub fn clear(&mut self) {
        // SAFETY: the context lives; its memory is part of it. The values need not be zeroed.
        unsafe { c::llama_memory_clear(c::llama_get_memory(self.pointer.as_ptr()), false) }
    }

    /// Drops what every sequence holds behind its first `filled` positions.
    pub fn keep(&mut self, filled: usize) -> Result<()> {
        for sequence in 0..self.sequences as i32 {
            // SAFETY: the context lives; -1 means up to the end.
            let done = unsafe {
                let memory = c::llama_get_memory(self.pointer.as_ptr());
                c::llama_memory_seq_rm(memory, sequence, filled as i32, -1)
            };
            ensure!(done, "llama.cpp cannot drop positions from its cache");
        }
        Ok(())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `Model::context`, freed here alone, before the model it holds.
        unsafe { c::llama_free(self.pointer.as_ptr()) }
    }
}

/// The index of the largest value, the first among equals. Eight columns at a time, so that the
/// comparison is not one long chain of dependent steps.
fn likeliest(logits: &[f32]) -> u32 {
    const LANES: usize = 8;
    let mut best = [(f32::NEG_INFINITY, 0u32); LANES];
    for (row, values) in logits.chunks(LANES).enumerate() {
        for (lane, &value) in values.iter().enumerate() {
            if value > best[lane].0 {
                best[lane] = (value, (row * LANES + lane) as u32);
            }
        }
    }
    let first = |a: (f32, u32), b: (f32, u32)| {
        if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a }
    };
    best.into_iter().fold((f32::NEG_INFINITY, 0), first).1
}

/// llama.cpp's own sampler: temperature, top-k, top-p, a draw.
pub struct Sampler {
    chain: NonNull<c::llama_sampler>,
}

impl Sampler {
    /// Samplers in the order in which the task's numbers are meant.
    pub fn new(sampling: &worker::Sampling) -> Result<Sampler> {
        // SAFETY: takes nothing but a value and gives a chain of ours.
        let chain = unsafe { c::llama_sampler_chain_init(c::llama_sampler_chain_default_params()) };
        let chain = NonNull::new(chain).context("llama.cpp cannot make a sampler")?;
        // SAFETY: each sampler is new and the chain takes it over.
        unsafe {
            c::llama_sampler_chain_add(chain.as_ptr(), c::llama_sampler_init_temp(sampling.temperature));
            if sampling.top_k > 0 {
                let kept = i32::try_from(sampling.top_k).unwrap_or(i32::MAX);
                c::llama_sampler_chain_add(chain.as_ptr(), c::llama_sampler_init_top_k(kept));
            }
            if sampling.top_p < 1.0 {
                c::llama_sampler_chain_add(chain.as_ptr(), c::llama_sampler_init_top_p(sampling.top_p, 1));
            }
            c::llama_sampler_chain_add(chain.as_ptr(), c::llama_sampler_init_dist(sampling.seed as u32));
        }
        Ok(Sampler { chain })
    }

    /// One id for the first sequence after `feed`.
    pub fn draw(&mut self, context: &Context) -> Result<u32> {
        let at = *context.batch.last.first().context("nothing was run")?;
        // SAFETY: chain and context live, and `at` is an id of the last batch whose logits were wanted.
        let id = unsafe { c::llama_sampler_sample(self.chain.as_ptr(), context.pointer.as_ptr(), at) };
        u32::try_from(id).context("llama.cpp drew no id")
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed here alone; it frees the samplers it took over.
        unsafe { c::llama_sampler_free(self.chain.as_ptr()) }
    }
}

/// Writes `source` anew with its matrices in `kind`, as llama.cpp's own tool does.
pub fn quantise(source: &Path, to: &Path, kind: Kind, threads: usize) -> Result<()> {
    start();
    // SAFETY: takes nothing and gives a value.
    let mut settings = unsafe { c::llama_model_quantize_default_params() };
    settings.ftype = match kind {
        Kind::F32 => c::LLAMA_FTYPE_ALL_F32,
        Kind::Bf16 => c::LLAMA_FTYPE_MOSTLY_BF16,
        Kind::Q8 => c::LLAMA_FTYPE_MOSTLY_Q8_0,
        Kind::Q4 => c::LLAMA_FTYPE_MOSTLY_Q4_0,
    };
    settings.nthread = threads as i32;
    let (from, into) = (text(source)?, text(to)?);
    // SAFETY: both are C strings and the settings a value of ours; all outlive the call.
    let code = unsafe { c::llama_model_quantize(from.as_ptr(), into.as_ptr(), &settings) };
    ensure!(
        code == 0,
        "llama.cpp cannot quantise {} (code {code}; its reason is on stderr)",
        source.display()
    );
    Ok(())
}

/// What ggml was built for and uses here, in its own words.
pub fn system_info() -> String {
    start();
    // SAFETY: a static C string.
    let line = unsafe { CStr::from_ptr(c::llama_print_system_info()) };
    line.to_string_lossy().trim().trim_end_matches('|').trim().to_string()
}

/// ggml's own version.
pub fn ggml_version() -> String {
    // SAFETY: a static C string.
    unsafe { CStr::from_ptr(c::ggml_version()) }.to_string_lossy().into_owned()
}

/// Once a process: the backends, and a log that says warnings and errors only.
fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: called once, before anything else of llama.cpp; `log` keeps nothing of what it is given.
        unsafe {
            c::llama_log_set(Some(log), null_mut());
            c::llama_backend_init();
        }
    });
}

/// llama.cpp's reasons, on stderr, where the harness keeps the last of them.
unsafe extern "C" fn log(level: c::ggml_log_level, message: *const c_char, _: *mut c_void) {
    if (c::GGML_LOG_LEVEL_WARN..=c::GGML_LOG_LEVEL_ERROR).contains(&level) && !message.is_null() {
        // SAFETY: llama.cpp hands over a C string that lives during the call.
        eprint!("{}", unsafe { CStr::from_ptr(message) }.to_string_lossy());
    }
}

fn text(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).with_context(|| format!("{} is no path for C", path.display()))
}
