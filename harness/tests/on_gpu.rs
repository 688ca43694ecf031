//! `scripts/on-gpu FILE OUT` with a GPU machine's programs played by shell stubs: which steps it takes, with which
//! limits, what it leaves, and what it says where something is missing. What the steps do is tested where they live.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the stubs are told, and where they write down what they were asked for.
const LOG: &str = "echo \"$(basename \"$0\") $*\" >>\"$STUB_LOG\"";
/// The files of a record.
const RECORD: &str = "mkdir -p \"$out\"; touch \"$out\"/{run,machine,identities}.json \
                      \"$out\"/{samples,processes,checks}.csv";

/// A machine: programs on its path, Python's packages, and a bundle.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let machine = Machine { folder: tempfile::tempdir().unwrap() };
        machine.program("bin/nvidia-smi", "echo 'GPU 0: a stub'");
        let python = "case \"$2\" in *torch*) echo \"$STUB_PACKAGES\" ;; *) echo python3.12 ;; esac";
        machine.program("bin/python3", python);
        machine
            .program("bin/timeout", &format!("{LOG}\nwhile [[ $1 == --* ]]; do shift; done\nshift\n\"$@\""));
        let sanitizer =
            "while [[ $1 == --* ]]; do [[ $1 != --tool && $1 != --error-exitcode ]] || shift; shift; done";
        machine.program("bin/compute-sanitizer", &format!("{LOG}\n{sanitizer}\n\"$@\""));
        fs::create_dir_all(machine.path("packages/nvidia/cu13/lib")).unwrap();
        let out = "out=\"\"; while (($#)); do [[ $1 != --out ]] || out=\"$2\"; shift; done";
        let record = format!("{LOG}\nask=\"$1\"\n{out}\n[[ \"$ask\" != measure ]] || {{ {RECORD}; }}");
        machine.program("bundle/target/release/assay", &record);
        machine.program("bundle/target/release/gpt2", &format!("{LOG}\necho kernel,microseconds"));
        let answer =
            "while read -r line; do case \"$line\" in *measure*) echo '{\"reply\":\"sample\"}' ;; esac; done";
        machine.program("bundle/target/release/engine-native", &format!("{LOG}\n{answer}"));
        for folder in ["python_ref", ".assay"] {
            fs::create_dir_all(machine.path("bundle").join(folder)).unwrap();
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/usr/bin/env bash\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `on-gpu` with these words behind it.
    fn run(&self, words: &[&str]) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/on-gpu"))
            .args(words)
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("STUB_LOG", self.path("log"))
            .env("STUB_PACKAGES", self.path("packages"))
            .output()
            .unwrap()
    }

    /// All of it, from a bundle of the stubs; what it printed and left in its log.
    fn run_bundle(&self) -> (i32, String) {
        let (bundle, folder) = (self.path("bundle.tar.gz"), self.path("bundle"));
        let packed = Command::new("tar").arg("-C").arg(folder).arg("-czf").arg(&bundle).arg(".").status();
        assert!(packed.unwrap().success());
        let output = self.run(&["bundle.tar.gz", "OUT"]);
        let steps = fs::read_to_string(self.path("OUT/steps.txt")).unwrap();
        (output.status.code().unwrap(), steps)
    }

    /// What the stubs were asked, one line each.
    fn asked(&self) -> Vec<String> {
        fs::read_to_string(self.path("log")).unwrap().lines().map(String::from).collect()
    }
}

#[test]
fn every_step_is_taken_in_time_and_eight_files_are_left() {
    let machine = Machine::new();
    let (status, steps) = machine.run_bundle();
    assert_eq!(status, 0, "{steps}");
    let titles: Vec<&str> = steps.lines().filter_map(|line| line.strip_prefix("== ")).collect();
    let sanitized = ["memcheck", "racecheck"]
        .map(|tool| ["cuda-f32", "cuda-bf16"].map(|engine| format!("compute-sanitizer {tool} {engine}")));
    let [sanitized @ .., last] = sanitized.as_flattened() else { panic!("four") };
    let mut wanted = vec!["doctor", "tiny model", "parity on the tiny model"];
    wanted.extend(sanitized.iter().map(String::as_str));
    wanted.extend([last, "model", "kernels", "measure"]);
    assert_eq!(titles, wanted);
    assert!(!steps.contains("skipped"), "{steps}");

    let asked = machine.asked();
    let of = |program: &str| -> Vec<&String> {
        asked.iter().filter(|line| line.split(' ').next() == Some(program)).collect()
    };
    let limits: Vec<u32> =
        of("timeout").iter().map(|line| line.split(' ').nth(3).unwrap().parse().unwrap()).collect();
    let (measure, others) = limits.split_last().unwrap();
    assert!((540..=570).contains(measure), "what is left of ten minutes: {measure}");
    assert!(others.iter().sum::<u32>() < 450, "something must be left for the measuring: {others:?}");
    assert_eq!(of("compute-sanitizer").len(), 4);
    // Libraries that lie among torch's packages are named to who would not look there.
    let shares = of("gpt2").into_iter().find(|line| line.contains("shares")).unwrap();
    assert!(shares.contains("--cuda-lib") && shares.contains("nvidia/cu13/lib"), "{shares}");
    assert!(shares.contains("--kernels"), "{shares}");

    let count = |folder: &str| {
        let entries = fs::read_dir(machine.path(folder)).unwrap().flatten();
        entries.filter(|entry| entry.path().is_file()).count()
    };
    assert_eq!((count("OUT"), count("OUT/record")), (2, 6), "at most 8 files travel back");
    assert!(fs::read_to_string(machine.path("OUT/shares.csv")).unwrap().starts_with("kernel"));
}

#[test]
fn a_failed_step_is_told_and_the_next_one_comes() {
    let machine = Machine::new();
    machine.program("bin/compute-sanitizer", &format!("{LOG}\ncat >/dev/null\nexit 9"));
    let (status, steps) = machine.run_bundle();
    assert_eq!(status, 1);
    assert!(steps.contains("compute-sanitizer racecheck cuda-bf16 ended with status 9"), "{steps}");
    assert!(machine.path("OUT/record/samples.csv").exists());
}

#[test]
fn a_sanitizer_under_which_nothing_ran_has_found_nothing_and_that_is_told() {
    let machine = Machine::new();
    // An engine that refuses ends well and answers nothing.
    machine.program("bundle/target/release/engine-native", "cat >/dev/null; echo '{\"reply\":\"refused\"}'");
    let (status, steps) = machine.run_bundle();
    assert_eq!(status, 0);
    assert_eq!(steps.matches("skipped: ").count(), 4, "{steps}");
    fs::remove_dir_all(machine.path("OUT")).unwrap();
    fs::remove_dir_all(machine.path("packages/nvidia")).unwrap();
    fs::remove_file(machine.path("log")).unwrap();
    assert_eq!(machine.run_bundle().0, 0);
    assert!(!machine.asked().iter().any(|line| line.contains("--cuda-lib")), "there is no such folder");
}

#[test]
fn what_is_missing_is_told_with_a_remedy() {
    let machine = Machine::new();
    let told = |output: &Output, status: i32, words: &[&str]| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    told(&machine.run(&[]), 2, &["usage"]);
    told(&machine.run(&["one"]), 2, &["usage"]);
    told(&machine.run(&["nowhere.tar.gz", "OUT"]), 3, &["no bundle nowhere.tar.gz", "--pack"]);
    fs::write(machine.path("torn.tar.gz"), "torn").unwrap();
    told(&machine.run(&["torn.tar.gz", "OUT"]), 3, &["torn.tar.gz is no bundle", "--pack"]);
    fs::create_dir_all(machine.path("USED/record")).unwrap();
    told(&machine.run(&["torn.tar.gz", "USED"]), 3, &["holds a record already", "another folder"]);
    machine.program("bin/nvidia-smi", "exit 9");
    told(&machine.run(&["torn.tar.gz", "OUT"]), 3, &["no NVIDIA GPU here", "remedy"]);
}
