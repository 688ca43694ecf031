//! Where tensors are and what they hold: f32 on the processor, f32 or bf16 on the first GPU.
//!
//! The wheel keeps its CUDA half in `libtorch_cuda.so`, which registers itself when it is opened. The linker
//! leaves it out, since nothing here calls into it by name, and without it `Cuda::is_available()` is false on
//! every machine; so it is opened before anybody asks. Only a GPU variant does: it brings gigabytes of mappings.

use tch::{Cuda, Device, Kind};
use worker::Stop;

/// A device and a number format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub device: Device,
    /// What.
    pub kind: Kind,
}

impl Place {
    /// f32 on the processor.
    pub const CPU: Place = Place { device: Device::Cpu, kind: Kind::Float };

    /// `cpu-f32`, `cuda-f32` or `cuda-bf16`.
    pub fn parse(name: &str) -> Option<Place> {
        match name {
            "cpu-f32" => Some(Place::CPU),
            "cuda-f32" => Some(Place { device: Device::Cuda(0), kind: Kind::Float }),
            "cuda-bf16" => Some(Place { device: Device::Cuda(0), kind: Kind::BFloat16 }),
            _ => None,
        }
    }

    /// The name it is parsed from.
    pub fn name(self) -> String {
        let device = if self.device == Device::Cpu { "cpu" } else { "cuda" };
        format!("{device}-{}", self.precision())
    }

    /// `f32` or `bf16`.
    pub fn precision(self) -> &'static str {
        if self.kind == Kind::BFloat16 { "bf16" } else { "f32" }
    }

    /// The device, for the identity.
    pub fn words(self) -> String {
        match (self.device, self.check()) {
            (Device::Cpu, _) => "cpu".into(),
            (_, Ok(())) => format!("cuda, {} of them", Cuda::device_count()),
            (_, Err(Stop::Refused { reason, .. })) => format!("missing: {reason}"),
            (_, Err(Stop::Failed(error))) => format!("missing: {error:#}"),
        }
    }

    /// Refuses where libtorch sees no such device.
    pub fn check(self) -> Result<(), Stop> {
        if self.device == Device::Cpu {
            return Ok(());
        }
        let remedy = "run it where there is an NVIDIA GPU with its driver, by scripts/on-gpu";
        open_cuda().map_err(|cause| Stop::refused(format!("libtorch has no CUDA: {cause}"), remedy))?;
        match Cuda::is_available() {
            true => Ok(()),
            false => Err(Stop::refused("libtorch sees no NVIDIA GPU, or no driver for it", remedy)),
        }
    }

    /// Waits until the device has done all it was asked for.
    pub fn wait(self) {
        if let Device::Cuda(at) = self.device {
            Cuda::synchronize(at as i64);
        }
    }
}

/// Opens the CUDA half for good; a second call finds it open.
fn open_cuda() -> Result<(), libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: opening runs the library's initialisers, which register kernels with the libtorch that is
    // linked; it comes from the same wheel, found by the same loader path.
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) }?;
    std::mem::forget(library);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for name in ["cpu-f32", "cuda-f32", "cuda-bf16"] {
            assert_eq!(Place::parse(name).unwrap().name(), name);
        }
        for unknown in ["cpu-bf16", "cuda", ""] {
            assert_eq!(Place::parse(unknown), None);
        }
    }

    /// Where there is a GPU this holds too: `check` then refuses nothing.
    #[test]
    fn a_gpu_is_there_or_its_absence_has_a_reason_and_a_remedy() {
        assert!(Place::CPU.check().is_ok());
        let place = Place::parse("cuda-bf16").unwrap();
        match place.check() {
            Ok(()) => assert!(place.words().starts_with("cuda")),
            Err(Stop::Refused { reason, remedy }) => {
                assert!(reason.contains("libtorch") && remedy.contains("on-gpu"), "{reason} ({remedy})");
                assert!(place.words().contains(&reason));
            }
            Err(Stop::Failed(error)) => panic!("{error:#}"),
        }
    }
}
