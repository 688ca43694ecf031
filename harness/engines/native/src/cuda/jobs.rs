//! The jobs of a model on a GPU. An id counts as known once it is in host memory.

use super::{How, stop};
use anyhow::{Result, anyhow};
use kernels::cuda::{Device, Player};
use rust_native::cuda::CudaGpt2;
use rust_native::{Sampling, Special, Tokenizer};
use std::path::{Path, PathBuf};
use worker::{Answer, Job, Laps, Prepare, Receipt, Stop, Task, Unit};

fn slices(prompts: &[Vec<u32>]) -> Vec<&[u32]> {
    prompts.iter().map(Vec::as_slice).collect()
}

/// What the last run took by the device's own clock. A device that fails here has failed the run before.
fn device_ns<P: Player>(model: &CudaGpt2<P>) -> Option<u64> {
    model.span_ns().ok().flatten()
}

/// Prompts through the model: logits of the last position and the likeliest id of each sequence.
pub struct Prefill<'m, P> {
    model: &'m mut CudaGpt2<P>,
    prompts: Vec<Vec<u32>>,
    ids: Vec<u32>,
}

impl<'m, P: Player> Prefill<'m, P> {
    /// `prompts` are of equal length.
    pub fn new(model: &'m mut CudaGpt2<P>, prompts: Vec<Vec<u32>>) -> Result<Prefill<'m, P>, Stop> {
        model.sample(None).map_err(stop)?;
        model.prepare(prompts.len(), prompts[0].len()).map_err(stop)?;
        Ok(Prefill { model, prompts, ids: Vec::new() })
    }
}

impl<P: Player> Job for Prefill<'_, P> {
    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        self.model.begin_span()?;
        self.ids = self.model.prefill(&slices(&self.prompts))?;
        laps.mark();
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        Ok(Receipt {
            units: self.prompts.iter().map(|prompt| prompt.len() as u64).sum(),
            unit: Unit::Tokens,
            answer: Answer::Ids(self.ids.clone()),
            logits: Some(self.model.logits()?),
        })
    }

    fn device_ns(&self) -> Option<u64> {
        device_ns(self.model)
    }
}

/// Greedy steps behind contexts that are in the cache before the clock starts, as `jobs::Decode` on the CPU.
pub struct Decode<'m, P> {
    model: &'m mut CudaGpt2<P>,
    context: usize,
    predicted: Vec<u32>,
    steps: usize,
    /// Step after step, the id of each sequence.
    ids: Vec<u32>,
}

impl<'m, P: Player> Decode<'m, P> {
    /// `contexts` are of equal length; they are in the cache when this returns.
    pub fn new(
        model: &'m mut CudaGpt2<P>,
        contexts: Vec<Vec<u32>>,
        steps: usize,
    ) -> Result<Decode<'m, P>, Stop> {
        model.sample(None).map_err(stop)?;
        let context = contexts[0].len();
        model.prepare(contexts.len(), context).map_err(stop)?;
        let predicted = model.prefill(&slices(&contexts)).map_err(stop)?;
        Ok(Decode { model, context, predicted, steps, ids: Vec::new() })
    }
}

impl<P: Player> Job for Decode<'_, P> {
    fn reset(&mut self) -> Result<()> {
        self.model.rewind(self.context, &self.predicted)?;
        self.ids.clear();
        self.ids.reserve(self.steps * self.predicted.len());
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        self.model.begin_span()?;
        self.model.steps(self.steps, |_, ids| {
            self.ids.extend_from_slice(ids);
            laps.mark();
        })?;
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let batch = self.predicted.len();
        let by_sequence = (0..batch).flat_map(|row| self.ids.iter().skip(row).step_by(batch).copied());
        let mut receipt = Receipt::of_ids(by_sequence.collect());
        receipt.logits = Some(self.model.logits()?);
        Ok(receipt)
    }

    fn device_ns(&self) -> Option<u64> {
        device_ns(self.model)
    }
}

/// Reads what each step of a decode must read, and computes nothing.
pub struct Stream<'m, P> {
    model: &'m mut CudaGpt2<P>,
    context: usize,
    steps: usize,
}

impl<'m, P: Player> Stream<'m, P> {
    /// Of `batch` sequences behind `context` positions.
    pub fn new(
        model: &'m mut CudaGpt2<P>,
        batch: usize,
        context: usize,
        steps: usize,
    ) -> Result<Stream<'m, P>, Stop> {
        model.sample(None).map_err(stop)?;
        model.prepare(batch, context).map_err(stop)?;
        model.stream(context, 1, |_| ()).map_err(stop)?;
        Ok(Stream { model, context, steps })
    }
}

impl<P: Player> Job for Stream<'_, P> {
    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        self.model.begin_span()?;
        Ok(self.model.stream(self.context, self.steps, |_| laps.mark())?)
    }

    fn receipt(&self) -> Result<Receipt> {
        let bytes = self.model.stream_bytes(self.context)? * self.steps;
        Ok(Receipt { units: bytes as u64, unit: Unit::Bytes, answer: Answer::Nothing, logits: None })
    }

    fn device_ns(&self) -> Option<u64> {
        device_ns(self.model)
    }
}

/// Text in, text out: encode, generate, decode, on the clock. Several texts are one batch.
pub struct Generate<'a, P> {
    model: &'a mut CudaGpt2<P>,
    tokenizer: &'a Tokenizer,
    prompts: Vec<String>,
    tokens: usize,
    sampled: bool,
    ids: Vec<u32>,
    text: String,
}

impl<'a, P: Player> Generate<'a, P> {
    /// The job of an order for `generate`.
    pub fn new(
        model: &'a mut CudaGpt2<P>,
        tokenizer: &'a Tokenizer,
        order: &Prepare,
    ) -> Result<Generate<'a, P>, Stop> {
        let Task::Generate { tokens, cache, sampling, .. } = order.task else {
            return Err(Stop::refused(format!("no {} from texts", order.task.kind()), ""));
        };
        if let Some(beyond) = order.task.beyond_steps() {
            return Err(Stop::refused(format!("{beyond} is not written for GPUs"), "ask native/cpu-f32"));
        }
        if !cache {
            return Err(Stop::refused(
                "generation without a cache is not written for GPUs",
                "ask native/cpu-f32",
            ));
        }
        let how = sampling.map(|sampling| {
            let top_k = (sampling.top_k > 0).then_some(sampling.top_k);
            let top_p = (sampling.top_p < 1.0).then_some(sampling.top_p);
            (Sampling { temperature: sampling.temperature, top_k, top_p }, sampling.seed)
        });
        let prompts = order.files.read_texts()?;
        if prompts.is_empty() {
            return Err(anyhow!("the file of texts is empty").into());
        }
        let mut longest = 0;
        for text in &prompts {
            let length = tokenizer.count(text, Special::Allow)?;
            if length == 0 {
                return Err(Stop::refused("an empty prompt has no last position", "give a text"));
            }
            longest = longest.max(length);
        }
        Stop::beyond(longest + tokens.max(1) - 1, model.config().n_positions)?;
        model.sample(how).map_err(stop)?;
        model.prepare(prompts.len(), longest).map_err(stop)?;
        let (ids, text) = (Vec::new(), String::new());
        Ok(Generate { model, tokenizer, prompts, tokens, sampled: how.is_some(), ids, text })
    }
}

impl<P: Player> Job for Generate<'_, P> {
    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let encode = |text: &String| self.tokenizer.encode(text, Special::Allow);
        let prompts = self.prompts.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        self.model.begin_span()?;
        let made = self.model.generate(&slices(&prompts), self.tokens, |_, _| laps.mark())?;
        self.ids.clear();
        self.text.clear();
        for ids in made {
            self.text += &self.tokenizer.decode_lossy(&ids)?;
            self.ids.extend(ids);
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let answer = match self.sampled {
            true => Answer::Nothing,
            false => Answer::IdsThenBytes(self.ids.clone(), self.text.clone().into_bytes()),
        };
        Ok(Receipt { units: self.ids.len() as u64, unit: Unit::Tokens, answer, logits: None })
    }

    fn device_ns(&self) -> Option<u64> {
        device_ns(self.model)
    }
}

/// From nothing to the first token of a prompt.
pub struct Start {
    folder: PathBuf,
    how: How,
    prompt: Vec<Vec<u32>>,
    model: Option<CudaGpt2<Device>>,
    ids: Vec<u32>,
}

impl Start {
    /// Of the model in `folder`.
    pub fn new(folder: &Path, how: How, prompt: Vec<u32>) -> Start {
        Start { folder: folder.to_path_buf(), how, prompt: vec![prompt], model: None, ids: Vec::new() }
    }
}

impl Job for Start {
    fn reset(&mut self) -> Result<()> {
        self.model = None;
        Ok(())
    }

    fn run(&mut self, laps: &mut Laps) -> Result<()> {
        let model = self.model.insert(self.how.load(&self.folder).map_err(told)?);
        self.ids = model.prefill(&slices(&self.prompt))?;
        laps.mark();
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt> {
        let mut receipt = Receipt::of_ids(self.ids.clone());
        receipt.logits = self.model.as_ref().map(CudaGpt2::logits).transpose()?;
        Ok(receipt)
    }
}

/// On the clock a refusal comes too late to be one.
pub fn told(stop: Stop) -> anyhow::Error {
    match stop {
        Stop::Refused { reason, .. } => anyhow!(reason),
        Stop::Failed(error) => error,
    }
}
