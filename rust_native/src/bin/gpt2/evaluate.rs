//! `gpt2 evaluate`: what a lower precision of weights or cache costs in answers.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use rust_native::evaluate::{SAMPLE, evaluate, seeded_ids};
use rust_native::{Checkpoint, EvaluateOptions, Evaluation, Gpt2, KvPrecision, Precision, Special};

use crate::input;
use crate::model::{ModelArguments, cache, precision, tokenizer_of};

/// Compare lower precisions with f32 on the same weights, position by position over one text.
///
/// Prints how far logits differ (at most, and as a root mean square over the standard deviation of the
/// position's logits), the Kullback-Leibler divergence from f32 in nats, how often the likeliest token
/// is the same and by what margin f32 preferred its own where it is not, and perplexities.
#[derive(Args)]
pub struct Evaluate {
    #[command(flatten)]
    model: ModelArguments,
    /// Number format of the weights to compare with f32; may be repeated. Default: every lower one, and
    /// f32 too where the cache is in bf16
    #[arg(long, value_parser = precision())]
    precision: Vec<Precision>,
    /// Number format of the keys and values of what is compared; those it is compared with are f32
    #[arg(long, value_parser = cache(), default_value = "f32")]
    cache: KvPrecision,
    /// A UTF-8 text file, `-` for standard input. Default: a page of prose that comes with the command,
    /// or ids from a seed where the model's vocabulary is not known
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Tokens that pass through the model at a time; default: its context length
    #[arg(long, value_name = "TOKENS")]
    window: Option<usize>,
    /// Tokens from one window's start to the next; default: half a window
    #[arg(long, value_name = "TOKENS")]
    stride: Option<usize>,
    /// Print a line of JSON for each precision instead
    #[arg(long)]
    json: bool,
}

/// One column of the table.
struct Compared {
    precision: Precision,
    bytes_per_token: usize,
    seen: Evaluation,
}

impl Evaluate {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        let checkpoint = Checkpoint::open(&self.model.folder()?)?;
        let (ids, text) = self.ids(&checkpoint)?;
        let how = EvaluateOptions { window: self.window, stride: self.stride };
        let load = |precision, cache| Gpt2::load(&checkpoint, &self.model.options(precision, cache));
        let reference = load(Precision::F32, KvPrecision::F32)?;
        let asked = match self.cache {
            _ if !self.precision.is_empty() => self.precision.as_slice(),
            KvPrecision::F32 => &Precision::ALL[1..],
            KvPrecision::Bf16 => &Precision::ALL,
        };
        let mut columns = Vec::new();
        for &precision in asked {
            // Seconds a precision: said to whoever watches, and not to logs.
            if io::stderr().is_terminal() {
                eprintln!("f32 and {precision} read {} tokens of {text}", ids.len());
            }
            let model = load(precision, self.cache)?;
            let seen = evaluate(&reference, &model, &ids, &how)?;
            let bytes_per_token = model.bytes_per_token();
            if self.json {
                self.line(precision, bytes_per_token, &seen)?;
            }
            columns.push(Compared { precision, bytes_per_token, seen });
        }
        if !self.json {
            io::stdout().lock().write_all(table(&reference, self.cache, &columns).as_bytes())?;
        }
        Ok(())
    }

    /// The ids to read and what they are called.
    fn ids(&self, checkpoint: &Checkpoint) -> anyhow::Result<(Vec<u32>, String)> {
        let config = checkpoint.config();
        let tokenizer = tokenizer_of(checkpoint.dir(), config)?;
        let (text, name) = match (&self.text, &tokenizer) {
            (Some(path), Some(_)) => {
                let mut inputs = input::open(std::slice::from_ref(path))?;
                (inputs.swap_remove(0).text()?, path.display().to_string())
            }
            (Some(path), None) => anyhow::bail!(
                "{}: the model's folder has no vocabulary for it; put vocab.json and merges.txt there, \
                 or leave --text out",
                path.display()
            ),
            (None, Some(_)) => (SAMPLE.to_owned(), "the page that comes with the command".to_owned()),
            (None, None) => {
                let ids = seeded_ids(config.n_positions, config.vocab_size);
                return Ok((ids, "no text: ids from a seed".to_owned()));
            }
        };
        let encoded = tokenizer.map(|tokenizer| tokenizer.encode(&text, Special::Ignore));
        Ok((encoded.transpose()?.unwrap_or_default(), name))
    }

    fn line(&self, precision: Precision, bytes_per_token: usize, seen: &Evaluation) -> anyhow::Result<()> {
        let mut line = serde_json::to_value(seen)?;
        line["precision"] = precision.name().into();
        line["cache"] = self.cache.name().into();
        line["bytes_per_token"] = bytes_per_token.into();
        writeln!(io::stdout(), "{line}")?;
        Ok(())
    }
}

/// One row a figure, one column a precision.
fn table(reference: &Gpt2, cache: KvPrecision, columns: &[Compared]) -> String {
    let Some(first) = columns.first().map(|column| &column.seen) else { return String::new() };
    let mut text = format!(
        "{} tokens scored in windows of {}, one every {}\nf32: perplexity {:.3}, {:.1} MB of weights a token\n",
        first.tokens,
        first.window,
        first.stride,
        first.reference_perplexity,
        reference.bytes_per_token() as f64 / 1e6
    );
    let mut row = |name: &str, figure: &dyn Fn(&Compared) -> String| {
        text.push_str(&format!("{name:<36}"));
        columns.iter().for_each(|column| text.push_str(&format!("{:>12}", figure(column))));
        text.push('\n');
    };
    let or_none = |margin: Option<f64>| margin.map_or("none".into(), small);
    row("weights in", &|column| column.precision.name().into());
    row("keys and values in", &|_| cache.name().into());
    row("perplexity", &|column| format!("{:.3}", column.seen.perplexity));
    row("same likeliest token, %", &|column| format!("{:.2}", 100.0 * column.seen.agreement));
    row("  least margin given up, logits", &|column| or_none(column.seen.smallest_margin));
    row("  largest margin given up, logits", &|column| or_none(column.seen.largest_margin));
    row("  over their standard deviation", &|column| small(column.seen.max_regret));
    row("divergence from f32, mean, nats", &|column| small(column.seen.mean_divergence));
    row("  largest", &|column| small(column.seen.max_divergence));
    row("largest difference of a logit", &|column| small(column.seen.max_difference));
    row("deviation of logits, mean", &|column| small(column.seen.mean_deviation));
    row("  largest", &|column| small(column.seen.max_deviation));
    row("weights a token, MB", &|column| format!("{:.1}", column.bytes_per_token as f64 / 1e6));
    text
}

/// Three significant digits.
fn small(value: f64) -> String {
    format!("{value:.2e}")
}
