//! `gpt2 shares`: what each GPU kernel takes, and of which share of the memory's bandwidth.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use ::kernels::cuda::{CubinCache, Device, Launching, Libraries, Library, Nvrtc, Search};
use anyhow::ensure;
use clap::{Args, ValueEnum};
use rust_native::Checkpoint;
use rust_native::cuda::{CudaGpt2, Part, Products, Share, Weights};

use crate::model::folder;

/// Time every GPU kernel of a decode step and of a prompt on the first GPU.
///
/// Prints a table as CSV: `part` (limit, step, prompt), `kernel` (`all` is the whole plan), `launches` in it, and of
/// them together `bytes` of weights, keys and values, `microseconds` (the median of the rounds, by the device's own
/// clock), `gb_per_s`, and `of_limit`: that rate over the limit's, which reads as much as a step must and computes
/// nothing.
#[derive(Args)]
pub struct Shares {
    /// A folder in Hugging Face layout; `default` is the seeded 124M model
    #[arg(long, value_name = "DIR", default_value = "default")]
    model: String,
    /// Number format of weights, keys and values
    #[arg(long, value_enum, default_value = "bf16")]
    precision: Kept,
    /// Leave a prompt's products to cuBLASLt
    #[arg(long)]
    cublaslt: bool,
    /// Sequences of a step
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Positions before the step, and tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128)]
    context: usize,
    /// Turns of each kernel; shown are medians
    #[arg(long, value_name = "N", default_value_t = 21)]
    rounds: usize,
    /// Folder of compiled kernels, as `gpt2 kernels` writes it; without it they are compiled anew
    #[arg(long, value_name = "DIR")]
    kernels: Option<PathBuf>,
    /// Folder with CUDA's libraries, to look into before $CUDA_HOME/lib64, /usr/local/cuda/lib64 and the system's
    #[arg(long, value_name = "DIR")]
    cuda_lib: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kept {
    F32,
    Bf16,
}

impl Shares {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        ensure!(self.batch > 0 && self.context > 0 && self.rounds > 0, "give at least 1 of each number");
        let home = std::env::var_os("CUDA_HOME").map(PathBuf::from);
        let search = Search::usual(self.cuda_lib.as_deref(), home.as_deref(), []);
        let libraries = Libraries::open(&search, &Library::ALL);
        let mut device = Device::open(&libraries, 0, Launching::Graph)?;
        let cache = self.kernels.map_or_else(CubinCache::none, CubinCache::at);
        device.load_kernels(Nvrtc::new(&libraries)?, &cache)?;
        let products = if self.cublaslt { Products::CublasLt } else { Products::Tiles };
        if self.cublaslt {
            device.load_products(&libraries)?;
        }
        let weights = match self.precision {
            Kept::F32 => Weights::F32,
            Kept::Bf16 => Weights::Bf16,
        };
        let checkpoint = Checkpoint::open(&folder(&self.model)?)?;
        let processors = device.processors()?;
        let mut model = CudaGpt2::load(&checkpoint, weights, products, processors, device)?;
        let shares = model.shares(self.batch, self.context, self.rounds)?;
        io::stdout().lock().write_all(table(&shares).as_bytes())?;
        Ok(())
    }
}

/// The table; kernels that read no weights have no rate.
fn table(shares: &[Share]) -> String {
    // A nanosecond a byte is a gigabyte a second.
    let rate = |share: &Share| share.bytes as f64 / share.nanoseconds.max(1) as f64;
    let limit = shares.iter().find(|share| share.part == Part::Limit).map_or(f64::NAN, rate);
    let mut text = "part,kernel,launches,bytes,microseconds,gb_per_s,of_limit\n".to_owned();
    for share in shares {
        let Share { part, kernel, launches, bytes, nanoseconds } = share;
        let microseconds = *nanoseconds as f64 / 1e3;
        let _ = write!(text, "{},{kernel},{launches},{bytes},{microseconds:.3},", part.word());
        let _ = match bytes {
            0 => writeln!(text, ","),
            _ => writeln!(text, "{:.1},{:.3}", rate(share), rate(share) / limit),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_rates_to_the_limit_and_none_without_bytes() {
        let share = |part, kernel: &str, bytes, nanoseconds| Share {
            part,
            kernel: kernel.to_owned(),
            launches: 12,
            bytes,
            nanoseconds,
        };
        let shares = [
            share(Part::Limit, "stream", 4000, 1000),
            share(Part::Step, "contract_bf16_r1", 1000, 500),
            share(Part::Prompt, "layer_norm_bf16", 0, 1500),
        ];
        let want = "part,kernel,launches,bytes,microseconds,gb_per_s,of_limit\n\
            limit,stream,12,4000,1.000,4.0,1.000\n\
            step,contract_bf16_r1,12,1000,0.500,2.0,0.500\n\
            prompt,layer_norm_bf16,12,0,1.500,,\n";
        assert_eq!(table(&shares), want);
    }
}
