//! Finding and opening the libraries of CUDA: the driver, NVRTC and cuBLASLt.
//!
//! They are opened by absolute path, folder after folder, and last by bare name as the loader knows it. An
//! open library is found again by its name, which is how cudarc finds it. NVRTC from a Python wheel cannot
//! find its own `libnvrtc-builtins`, which it opens by bare name with no path of its own to look in: that file
//! is opened first, and then it can (without it, every compilation ends in `NVRTC_ERROR_BUILTIN_OPERATION_FAILURE`).
//!
//! Invariant: what was opened stays open until the process ends, for cudarc keeps pointers into it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{Absent, CudaError};

/// A library of CUDA that is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Library {
    /// The driver's interface: memory, launches, graphs.
    Driver,
    /// The compiler of kernels.
    Nvrtc,
    /// Products of matrices.
    CublasLt,
}

impl Library {
    /// All, in the order they are opened in.
    pub const ALL: [Library; 3] = [Library::Driver, Library::Nvrtc, Library::CublasLt];

    /// One word for reports: `driver`, `nvrtc`, `cublaslt`.
    pub fn word(self) -> &'static str {
        match self {
            Library::Driver => "driver",
            Library::Nvrtc => "nvrtc",
            Library::CublasLt => "cublaslt",
        }
    }

    /// The file's name, with the major version that is spoken to.
    pub fn file(self) -> &'static str {
        match self {
            Library::Driver => "libcuda.so.1",
            Library::Nvrtc => "libnvrtc.so.13",
            Library::CublasLt => "libcublasLt.so.13",
        }
    }

    /// What to do where it is missing.
    pub fn remedy(self) -> &'static str {
        match self {
            Library::Driver => "install NVIDIA's driver for CUDA 13.0 or newer on a machine with its GPU",
            Library::Nvrtc => {
                "install the CUDA 13 toolkit or the wheel nvidia-cuda-nvrtc, or name the folder that holds it"
            }
            Library::CublasLt => {
                "install the CUDA 13 toolkit or the wheel nvidia-cublas, or name the folder that holds it"
            }
        }
    }

    /// Whether cudarc finds it by name.
    fn is_seen(self) -> bool {
        // SAFETY: each call opens the library and closes it again; NVIDIA's libraries may be opened at any
        // time and by any thread, and run no code of ours.
        unsafe {
            match self {
                Library::Driver => cudarc::driver::sys::is_culib_present(),
                Library::Nvrtc => cudarc::nvrtc::sys::is_culib_present(),
                Library::CublasLt => cudarc::cublaslt::sys::is_culib_present(),
            }
        }
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Library::Driver => "NVIDIA driver",
            Library::Nvrtc => "NVRTC",
            Library::CublasLt => "cuBLASLt",
        };
        write!(f, "{name} ({})", self.file())
    }
}

/// Where libraries are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    folders: Vec<PathBuf>,
    loader: bool,
}

impl Search {
    /// In these folders and nowhere else.
    pub fn only(folders: impl IntoIterator<Item = PathBuf>) -> Search {
        Search { folders: folders.into_iter().collect(), loader: false }
    }

    /// The usual order: the folder that somebody `named`, `cuda_home`/lib64, /usr/local/cuda/lib64, the wheels
    /// in each of `site_packages`, and last whatever the system's loader finds by name.
    pub fn usual(
        named: Option<&Path>,
        cuda_home: Option<&Path>,
        site_packages: impl IntoIterator<Item = PathBuf>,
    ) -> Search {
        let mut folders: Vec<PathBuf> = named.map(Path::to_path_buf).into_iter().collect();
        folders.extend(cuda_home.map(|home| home.join("lib64")));
        folders.push("/usr/local/cuda/lib64".into());
        folders.extend(site_packages.into_iter().map(|packages| packages.join("nvidia/cu13/lib")));
        Search { folders, loader: true }
    }

    /// The folders, in order.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Where `library` lies, or that it does not; nothing is opened. For reports.
    pub fn place(&self, library: Library) -> String {
        match self.files(library) {
            Some(files) => files.last().map(|file| file.display().to_string()).unwrap_or_default(),
            None => format!("missing: {}", Absent { library, reason: self.looked() }),
        }
    }

    /// The files to open for `library`, dependencies first; `None` without a folder that has them all.
    fn files(&self, library: Library) -> Option<Vec<PathBuf>> {
        self.folders.iter().find_map(|folder| {
            let main = folder.join(library.file());
            if !main.is_file() {
                return None;
            }
            match library {
                Library::Nvrtc => Some(vec![builtins(folder)?, main]),
                _ => Some(vec![main]),
            }
        })
    }

    fn open(&self, library: Library) -> Result<PathBuf, Absent> {
        let absent = |reason: String| Absent { library, reason };
        let files = match self.files(library) {
            Some(files) => files,
            None if self.loader => vec![library.file().into()],
            None => return Err(absent(self.looked())),
        };
        for file in &files {
            open_for_good(file).map_err(|cause| match file.is_absolute() {
                true => absent(format!("{} does not open: {cause}", file.display())),
                false => absent(format!("{}, and the loader says: {cause}", self.looked())),
            })?;
        }
        if !library.is_seen() {
            return Err(absent(format!("{} is open, but not found by its name", library.file())));
        }
        Ok(files.into_iter().next_back().unwrap_or_default())
    }

    fn looked(&self) -> String {
        let folders: Vec<String> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        match folders.is_empty() {
            true => "no folder was named".into(),
            false => format!("not in {}", folders.join(", ")),
        }
    }
}

/// NVRTC's second file: `libnvrtc-builtins.so.13.0`, its minor version being NVRTC's own.
fn builtins(folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix("libnvrtc-builtins.so.13.").is_some_and(|minor| minor.parse::<u32>().is_ok())
        })
        .collect();
    found.sort();
    found.pop()
}

fn open_for_good(file: &Path) -> Result<(), String> {
    // SAFETY: opening runs the library's initialisers. The file was named by the user or found under one of
    // NVIDIA's names in a folder of its installation; whoever can put another one there can replace us too.
    let opened = unsafe { libloading::Library::new(file) }.map_err(|cause| {
        // The loader's own words are the cause behind "dlopen failed".
        std::error::Error::source(&cause).map_or_else(|| cause.to_string(), ToString::to_string)
    })?;
    std::mem::forget(opened);
    Ok(())
}

/// What was found of CUDA's libraries. Those that were are open for the rest of the process.
#[derive(Clone, Debug)]
pub struct Libraries {
    places: BTreeMap<Library, Result<PathBuf, Absent>>,
}

impl Libraries {
    /// Looks for those that are `wanted`. What is missing is remembered with its reason.
    pub fn open(search: &Search, wanted: &[Library]) -> Libraries {
        Libraries { places: wanted.iter().map(|&library| (library, search.open(library))).collect() }
    }

    /// The file of a library, or its bare name where the loader knew it.
    ///
    /// # Errors
    /// Why it is not here.
    pub fn place(&self, library: Library) -> Result<&Path, CudaError> {
        match self.places.get(&library) {
            Some(Ok(place)) => Ok(place),
            Some(Err(absent)) => Err(absent.clone().into()),
            None => Err(Absent { library, reason: "it was not looked for".into() }.into()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Where a test finds libraries: ASSAY_CUDA_LIB, CUDA_HOME, this machine, the locked Python side.
    pub(in crate::cuda) fn search_of_this_machine() -> Search {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python_ref/.venv/lib");
        let site = std::fs::read_dir(venv).into_iter().flatten().flatten();
        let site = site.map(|entry| entry.path().join("site-packages"));
        let named = std::env::var_os("ASSAY_CUDA_LIB").map(PathBuf::from);
        let home = std::env::var_os("CUDA_HOME").map(PathBuf::from);
        Search::usual(named.as_deref(), home.as_deref(), site)
    }

    /// Every library is missing there, whatever this machine has, and says where it was looked for.
    #[test]
    fn an_empty_folder_holds_nothing_and_every_absence_has_a_reason_and_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let libraries = Libraries::open(&Search::only([folder.path().to_path_buf()]), &Library::ALL);
        for library in Library::ALL {
            let CudaError::Absent(absent) = libraries.place(library).unwrap_err() else {
                panic!("{library}")
            };
            assert_eq!(absent.library, library);
            let said = absent.to_string();
            assert!(said.contains(&folder.path().display().to_string()), "{said}");
            assert!(said.contains(library.file()) && said.contains(library.remedy()), "{said}");
        }
        let nowhere = Libraries::open(&Search::only([]), &[Library::Nvrtc]);
        let said = nowhere.place(Library::Nvrtc).unwrap_err().to_string();
        assert!(said.contains("no folder was named"), "{said}");
        let said = nowhere.place(Library::Driver).unwrap_err().to_string();
        assert!(said.contains("not looked for"), "{said}");
    }

    #[test]
    fn a_file_that_is_no_library_is_an_absence_with_the_loaders_words() {
        let folder = tempfile::tempdir().unwrap();
        for library in Library::ALL {
            std::fs::write(folder.path().join(library.file()), "no library").unwrap();
        }
        std::fs::write(folder.path().join("libnvrtc-builtins.so.13.0"), "neither").unwrap();
        let libraries = Libraries::open(&Search::only([folder.path().to_path_buf()]), &Library::ALL);
        for library in Library::ALL {
            let said = libraries.place(library).unwrap_err().to_string();
            assert!(said.contains("does not open"), "{said}");
        }
    }

    #[test]
    fn nvrtc_is_opened_behind_its_builtins_and_not_without_them() {
        let (bare, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in [&bare, &whole] {
            std::fs::write(folder.path().join("libnvrtc.so.13"), "").unwrap();
        }
        for name in
            ["libnvrtc-builtins.alt.so.13.0", "libnvrtc-builtins.so.13.0", "libnvrtc-builtins.so.12.9"]
        {
            std::fs::write(whole.path().join(name), "").unwrap();
        }
        let search = Search::only([bare.path().to_path_buf()]);
        assert_eq!(search.files(Library::Nvrtc), None);
        let search = Search::only([bare.path().to_path_buf(), whole.path().to_path_buf()]);
        let files = ["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"].map(|name| whole.path().join(name));
        assert_eq!(search.files(Library::Nvrtc), Some(files.to_vec()));
    }

    #[test]
    fn the_usual_order_is_named_home_toolkit_wheels() {
        let search = Search::usual(Some(Path::new("/n")), Some(Path::new("/home")), ["/site".into()]);
        let folders = ["/n", "/home/lib64", "/usr/local/cuda/lib64", "/site/nvidia/cu13/lib"];
        assert_eq!(search.folders(), folders.map(PathBuf::from));
        assert!(search.loader);
    }
}
