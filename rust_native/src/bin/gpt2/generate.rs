//! `gpt2 generate`: a prompt in, its continuation out as it arises.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use rust_native::{
    Checkpoint, Config, Finish, GenerateOptions, Generated, Gpt2, KvPrecision, Lookup, Options, Pinning,
    Precision, Sampling, Strategy, Tokenizer,
};

use crate::input::{self, SpecialChoice};
use crate::model::{ModelArguments, cache, precision, tokenizer_of};

/// Continue a prompt. Text streams to stdout, the speed goes to stderr at the end.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("start").required(true).args(["prompt", "prompt_ids"]))]
pub struct Generate {
    /// The prompt; `-` reads it from standard input
    prompt: Option<String>,
    /// The prompt as token ids instead, such as 15496,11
    #[arg(long, value_name = "IDS")]
    prompt_ids: Option<String>,
    /// What to do with special tokens such as <|endoftext|> inside the prompt
    #[arg(long, value_enum, default_value = "allow")]
    special: SpecialChoice,
    #[command(flatten)]
    model: ModelArguments,
    /// Number format of the weights
    #[arg(long, value_parser = precision(), default_value = "f32")]
    precision: Precision,
    /// Number format of the keys and values that the text leaves behind: bf16 takes half the memory
    #[arg(long, value_parser = cache(), default_value = "f32", conflicts_with = "no_cache")]
    cache: KvPrecision,
    /// Hold each thread to a CPU of its own: steadier on a machine that nobody else uses
    #[arg(long)]
    pin: bool,
    /// Keep the weights as they are packed in this folder, and map them from there from the next time on:
    /// a start in a fraction of the time; where a file's pages are small, a step may wait for them
    #[arg(long, value_name = "DIR")]
    packed: Option<PathBuf>,
    /// New tokens at most; default: 64, or fewer where the context ends
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Draw tokens instead of taking the most probable; divides the logits
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Draw among the K most probable tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw among the most probable tokens that together reach P
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Above 1 makes tokens already present less likely
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Beam search with N beams
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    num_beams: usize,
    /// Guess up to K tokens from the text itself and verify them in one pass: greedy text sooner, never
    /// another
    #[arg(long, value_name = "K", conflicts_with_all = ["temperature", "top_k", "top_p", "num_beams", "no_cache"])]
    lookup: Option<usize>,
    /// Seed of drawing
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Token that ends the text, as an id or as the spelling of a special token; may be repeated; `none`
    /// for none. Default: the model's end-of-text token
    #[arg(long, value_name = "TOKEN")]
    stop: Vec<String>,
    /// "Resonance feedback": multiplies every attention score before the softmax
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    theta_hat: Option<f32>,
    /// Recompute the whole text for every token instead of keeping keys and values
    #[arg(long)]
    no_cache: bool,
    /// Print one line of JSON instead: prompt and new ids, text, log-probabilities, why it ended
    #[arg(long)]
    json: bool,
}

impl Generate {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        let dir = self.model.folder()?;
        let checkpoint = Checkpoint::open(&dir)?;
        let tokenizer = tokenizer_of(&dir, checkpoint.config())?;
        let prompt = self.prompt_ids(tokenizer.as_ref())?;
        let options = self.options(checkpoint.config(), tokenizer.as_ref(), prompt.len())?;
        let pinning = if self.pin { Pinning::All } else { Pinning::None };
        let how = Options {
            theta_hat: self.theta_hat,
            pinning,
            packed: self.packed.clone(),
            ..self.model.options(self.precision, self.cache)
        };
        let model = Gpt2::load(&checkpoint, &how)?;
        let mut printer = Printer::new(tokenizer.as_ref(), self.json);
        let beams = matches!(options.strategy, Strategy::Beam { .. });
        let generated = model.generate(&[&prompt], &options, |_, id, _| printer.token(id))?;
        let generated = generated.into_iter().next().context("no text came back")?;
        printer.finish(&prompt, &generated)?;
        let guesses = self.lookup.map_or(String::new(), |_| {
            format!("; {} of {} guesses right", generated.accepted, generated.proposed)
        });
        eprintln!("{}{guesses} ({})", printer.speed(beams), model.identity());
        Ok(())
    }

    fn prompt_ids(&self, tokenizer: Option<&Tokenizer>) -> anyhow::Result<Vec<u32>> {
        if let Some(ids) = &self.prompt_ids {
            return input::ids(ids, "--prompt-ids");
        }
        let tokenizer = tokenizer
            .context("the model's folder has no vocabulary and its size is not GPT-2's; give --prompt-ids")?;
        let mut text = self.prompt.clone().unwrap_or_default();
        if text == "-" {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).context("standard input: cannot read")?;
            text = input::utf8(bytes, "standard input")?;
        }
        Ok(tokenizer.encode(&text, self.special.into())?)
    }

    fn options(
        &self,
        config: &Config,
        tokenizer: Option<&Tokenizer>,
        prompt: usize,
    ) -> anyhow::Result<GenerateOptions> {
        let drawing = self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some();
        let strategy = if self.num_beams != 1 {
            Strategy::Beam { beams: self.num_beams, length_penalty: 1.0 }
        } else if drawing && self.temperature != Some(0.0) {
            let temperature = self.temperature.unwrap_or(1.0);
            Strategy::Sample(Sampling { temperature, top_k: self.top_k, top_p: self.top_p })
        } else {
            Strategy::Greedy
        };
        let room = config.n_positions.saturating_sub(prompt).max(1);
        Ok(GenerateOptions {
            max_new_tokens: self.max_new_tokens.unwrap_or(64.min(room)),
            strategy,
            repetition_penalty: self.repetition_penalty,
            stop: self.stop_ids(config, tokenizer)?,
            seed: self.seed,
            use_cache: !self.no_cache,
            lookup: self.lookup.map(|tokens| Lookup { tokens, ..Lookup::default() }),
            ..GenerateOptions::default()
        })
    }

    fn stop_ids(&self, config: &Config, tokenizer: Option<&Tokenizer>) -> anyhow::Result<Vec<u32>> {
        if self.stop.is_empty() {
            return Ok(config.eos_token_id.into_iter().collect());
        }
        let mut ids = Vec::new();
        for token in self.stop.iter().filter(|token| *token != "none") {
            let special = tokenizer.and_then(|tokenizer| tokenizer.special_id(token));
            match special.or_else(|| token.parse().ok()) {
                Some(id) => ids.push(id),
                None => bail!("--stop {token}: neither a token id nor a special token; use an id"),
            }
        }
        Ok(ids)
    }
}

/// Streams what arises and remembers when.
struct Printer<'a> {
    tokenizer: Option<&'a Tokenizer>,
    stream: Option<rust_native::bpe::StreamDecoder<'a>>,
    json: bool,
    start: Instant,
    first: Option<Duration>,
    last: Duration,
    tokens: usize,
    failed: Option<anyhow::Error>,
}

impl<'a> Printer<'a> {
    fn new(tokenizer: Option<&'a Tokenizer>, json: bool) -> Self {
        Self {
            tokenizer,
            stream: tokenizer.map(Tokenizer::stream_decoder),
            json,
            start: Instant::now(),
            first: None,
            last: Duration::ZERO,
            tokens: 0,
            failed: None,
        }
    }

    /// Takes a token as it arises; stops the generation when nobody reads any more.
    fn token(&mut self, id: u32) -> ControlFlow<()> {
        self.last = self.start.elapsed();
        self.first.get_or_insert(self.last);
        self.tokens += 1;
        if self.json {
            return ControlFlow::Continue(());
        }
        match self.print(id) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Prints the text that is complete now; without a vocabulary, the ids.
    fn print(&mut self, id: u32) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match (&mut self.stream, self.tokenizer) {
            (Some(stream), Some(tokenizer)) if (id as usize) < tokenizer.vocabulary_size() => {
                out.write_all(stream.push(id)?.as_bytes())?;
            }
            // An id the model has and the vocabulary has not: a padded embedding.
            (Some(_), _) => write!(out, "<{id}>")?,
            (None, _) => write!(out, "{}{id}", if self.tokens == 1 { "" } else { " " })?,
        }
        out.flush()?;
        Ok(())
    }

    fn finish(&mut self, prompt: &[u32], generated: &Generated) -> anyhow::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let rest = self.stream.take().map_or("", |stream| stream.finish());
        let mut out = io::stdout().lock();
        if !self.json {
            writeln!(out, "{rest}")?;
            return Ok(());
        }
        let known = |id: &&u32| self.tokenizer.is_some_and(|tokenizer| tokenizer.token_bytes(**id).is_some());
        let ids: Vec<u32> = generated.ids.iter().filter(known).copied().collect();
        let text = self.tokenizer.map(|tokenizer| tokenizer.decode_lossy(&ids)).transpose()?;
        let mut line = serde_json::json!({
            "prompt_ids": prompt,
            "ids": generated.ids,
            "text": text,
            "logprobs": generated.logprobs,
            "finish": match generated.finish {
                Finish::Stop => "stop",
                Finish::Length => "length",
                Finish::Callback => "callback",
            },
        });
        if generated.proposed > 0 {
            let (proposed, accepted) = (generated.proposed, generated.accepted);
            line["lookup"] = serde_json::json!({ "proposed": proposed, "accepted": accepted });
        }
        writeln!(out, "{line}")?;
        Ok(())
    }

    /// Tokens per second, apart from the prompt's share where that can be told: beam search gives all its
    /// tokens at the end.
    fn speed(&self, beams: bool) -> String {
        let Some(first) = self.first else {
            return "no tokens".to_owned();
        };
        let (tokens, all) = (self.tokens, self.last.as_secs_f64());
        let rest = (self.last - first).as_secs_f64();
        if beams || tokens == 1 || rest == 0.0 {
            let per_second = tokens as f64 / all.max(1e-9);
            return format!("{tokens} tokens in {all:.2} s: {per_second:.1} tokens per second");
        }
        format!(
            "{tokens} tokens in {all:.2} s, the first after {:.3} s: {:.1} tokens per second after it",
            first.as_secs_f64(),
            (tokens - 1) as f64 / rest
        )
    }
}
