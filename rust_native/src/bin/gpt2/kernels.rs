//! `gpt2 kernels`: machine code of the GPU kernels, for a machine that shall not compile them itself.

use std::path::PathBuf;

use ::kernels::cuda::{Architecture, CubinCache, Libraries, Library, Nvrtc, Search, Usage};
use clap::Args;

/// Compile the GPU kernels by NVRTC into a folder that `CubinCache::at` takes. No GPU is needed.
///
/// Prints one line of JSON for each architecture: its name, kernels, bytes, the most registers a thread has and
/// the bytes that do not fit into them. The files serve wherever NVRTC is of the same version.
#[derive(Args)]
pub struct Kernels {
    /// Folder to write to; created if absent
    #[arg(long)]
    dir: PathBuf,
    /// What to compile for (repeatable)
    #[arg(long, value_name = "NAME", default_values = ["sm_90a"])]
    architecture: Vec<String>,
    /// Folder with NVRTC, to look into before $CUDA_HOME/lib64, /usr/local/cuda/lib64 and the system's
    #[arg(long, value_name = "DIR")]
    cuda_lib: Option<PathBuf>,
}

impl Kernels {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<()> {
        let home = std::env::var_os("CUDA_HOME").map(PathBuf::from);
        let search = Search::usual(self.cuda_lib.as_deref(), home.as_deref(), []);
        let nvrtc = Nvrtc::new(&Libraries::open(&search, &[Library::Nvrtc]))?;
        let cache = CubinCache::at(self.dir);
        for name in self.architecture {
            let compiled = cache.kernels(nvrtc, &Architecture::named(&*name))?;
            let usage = Usage::read(&compiled.log);
            let line = serde_json::json!({
                "architecture": name,
                "kernels": usage.len(),
                "bytes": compiled.cubin.len(),
                "most_registers": usage.iter().map(|kernel| kernel.registers).max(),
                "spilled_bytes": usage.iter().map(|kernel| kernel.spill_store_bytes).sum::<u32>(),
            });
            println!("{line}");
        }
        Ok(())
    }
}
