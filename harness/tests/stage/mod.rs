//! A stage for end-to-end tests: a repository of its own in a temporary folder, with tiny workloads,
//! engines of `engine-echo` and of shell scripts, and the real `assay` run on it.
//!
//! Nothing here needs a model, a vocabulary, Python or a network. No wait is longer than it must be
//! and none decides a test: waits end when their condition holds, or the test fails saying what did
//! not come.

#![allow(dead_code)] // every test file uses its own part

use harness::record::{Record, SampleRow, Status};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use worker::{Identity, Memory, PROTOCOL, Reply, SampleReply, digest_ids};

/// Longer than any step takes on a busy machine; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `echo/count` answers to the workload `encode/letters`, as its own engine would say it.
pub const LETTERS: usize = 600;

const WORKLOADS: &str = r#"
analysis = "Small texts that are made from a seed."

[[workload]]
name = "encode/letters"
task = { kind = "encode" }
input = { text = "one-letter", bytes = 600 }
profiles = ["quick", "full"]

[[workload]]
name = "encode/many"
task = { kind = "encode" }
input = { text = "multilingual", bytes = 900, texts = 3 }
profiles = ["quick", "full"]
"#;

const CLAIMS: &str = r#"
document = "S0"
title = "A document of the tests"

[[claim]]
id = "S0-01"
quote = "a is ten times faster than b"
reading = "b takes at least ten times the time of a"
test = { kind = "engines", faster = ["a/count"], slower = ["b/count"], over = ["encode/*"], metric = "time", bounds = [10.0] }
"#;

/// A temporary repository.
pub struct Stage {
    folder: tempfile::TempDir,
    engines: String,
}

/// A finished `assay`.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Stage {
    /// With `a/count`, the reference of encode, and nobody else.
    pub fn new() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let vocabulary = root.join(".assay/vocabulary/gpt2");
        for path in ["harness/workloads", "harness/engines/x", "harness/claims", "target/release"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::create_dir_all(&vocabulary).unwrap();
        fs::write(vocabulary.join("tokenizer.json"), "{}").unwrap();
        fs::write(root.join("harness/workloads/w.toml"), WORKLOADS).unwrap();
        fs::write(root.join("harness/claims/s0.toml"), CLAIMS).unwrap();
        symlink(echo(), root.join("target/release/engine-echo")).unwrap();
        let mut stage = Stage { folder, engines: String::new() };
        stage.engine_with("a/count", &["{bin}/engine-echo", "count"], "reference_for = [\"encode\"]");
        stage
    }

    /// Adds an engine of `engine-echo`.
    pub fn echo(mut self, name: &str, variant: &str) -> Stage {
        self.engine_with(name, &["{bin}/engine-echo", variant], "");
        self
    }

    /// Adds an engine that is a shell script, with [`Replies`] to say.
    pub fn script(mut self, name: &str, body: &str) -> Stage {
        let path = self.root().join(format!("{}.sh", name.replace('/', "-")));
        fs::write(&path, body).unwrap();
        self.engine_with(name, &["/bin/sh", &path.to_string_lossy()], "");
        self
    }

    /// Adds an engine with lines of TOML besides the usual ones.
    pub fn engine_with(&mut self, name: &str, run: &[&str], more: &str) {
        self.engines.push_str(&format!(
            "[[engine]]\nname = {name:?}\nrun = {run:?}\nrole = \"contestant\"\ntasks = [\"encode\"]\n\
             language = \"rust\"\nnote = \"for a test\"\n{more}\n\n"
        ));
        self.write("harness/engines/x/engine.toml", &self.engines);
    }

    /// Adds a family of its own, whole.
    pub fn family(self, folder: &str, toml: &str) -> Stage {
        self.write(&format!("harness/engines/{folder}/engine.toml"), toml);
        self
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the repository.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The real `assay` with this repository as its own.
    pub fn assay(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_assay"));
        command.args(arguments);
        self.at_home(command)
    }

    /// Any program with this repository as `assay` sees it.
    pub fn at_home(&self, mut command: Command) -> Command {
        command
            .env("ASSAY_ROOT", self.root())
            .env_remove("ASSAY_RESULTS")
            .env_remove("CARGO_TARGET_DIR")
            .current_dir(self.root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `assay` to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.assay(arguments).output().unwrap().into()
    }

    /// `assay measure` into `record`, one heat of one round unless `more` says otherwise.
    pub fn measure(&self, more: &[&str]) -> Finished {
        self.run(&[&self.measure_words(), more].concat())
    }

    /// The words of [`Stage::measure`].
    pub fn measure_words(&self) -> [&'static str; 9] {
        ["measure", "--out", "record", "--seed", "1", "--turn-limit-ms", "20", "--sample-limit-ms", "20000"]
    }

    pub fn record_path(&self) -> PathBuf {
        self.root().join("record")
    }

    /// The record of [`Stage::measure`].
    pub fn record(&self) -> Record {
        Record::read(&self.record_path()).unwrap()
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Finished {
        Finished {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Finished {
    /// Asserts the exit status and hands itself on.
    #[track_caller]
    pub fn expect(self, code: i32) -> Finished {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Asserts that one line of stderr says all of `words`.
    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        assert!(
            self.err.lines().any(|line| words.iter().all(|word| line.contains(word))),
            "no line says {words:?}:\n{}",
            self.err
        );
    }
}

/// Rows of one engine.
pub fn rows<'a>(record: &'a Record, engine: &str) -> Vec<&'a SampleRow> {
    record.samples.iter().filter(|row| row.engine == engine).collect()
}

/// Rows of one engine with one status.
pub fn rows_that<'a>(record: &'a Record, engine: &str, status: Status) -> Vec<&'a SampleRow> {
    rows(record, engine).into_iter().filter(|row| row.status == status).collect()
}

/// Asserts that an engine has every row that a run without faults gives: for each heat and workload
/// the verifying one and at least one for each of a round's two turns.
#[track_caller]
pub fn assert_undisturbed(record: &Record, engine: &str) {
    let settings = &record.run.settings;
    let mine = rows(record, engine);
    assert!(mine.iter().all(|row| row.status == Status::Ok), "{engine}: {mine:#?}");
    for workload in &record.run.workloads {
        for heat in 0..settings.heats {
            for round in 0..=settings.rounds {
                let here: Vec<_> = mine
                    .iter()
                    .filter(|row| row.workload == workload.name && row.heat == heat && row.round == round)
                    .collect();
                let turns: std::collections::BTreeSet<u32> = here.iter().map(|row| row.turn).collect();
                let wanted = if round == 0 { 1 } else { 2 };
                assert_eq!(turns.len(), wanted, "{engine} on {}, heat {heat} round {round}", workload.name);
            }
        }
    }
}

/// A running `assay` that is killed when the test ends, whatever happens.
pub struct Running(pub Child);

impl Running {
    pub fn start(mut command: Command) -> Running {
        Running(command.spawn().unwrap())
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Finished {
        let mut out = String::new();
        let mut err = String::new();
        // Both pipes hold far more than these runs print.
        let status = wait_for("the end of assay", || self.0.try_wait().unwrap());
        use std::io::Read;
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Finished { code: status.code(), out, err }
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal by name to one process.
pub fn signal(name: &str, pid: u32) {
    let words = format!("kill -{name} {pid}");
    let status = Command::new("/bin/sh").args(["-c", &words]).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{words}");
}

/// True while the process runs (a zombie that nobody collects does not).
pub fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// Looks until `look` finds something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lines that a script can say, one JSON object each, in single quotes for a shell.
pub struct Replies;

impl Replies {
    /// `printf` of a reply.
    pub fn say(reply: &Reply) -> String {
        format!("printf '%s\\n' '{}'\n", serde_json::to_string(reply).unwrap())
    }
    pub fn hello() -> String {
        Self::hello_in(PROTOCOL)
    }
    pub fn hello_in(protocol: u32) -> String {
        let identity = Identity { engine: "x/script".into(), language: "sh".into(), ..Identity::default() };
        Self::say(&Reply::Hello { protocol, identity, since_spawn_ns: 1, memory: Memory::default() })
    }
    pub fn ready() -> String {
        Self::say(&Reply::Ready {
            prepare_ns: 1,
            since_spawn_ns: 2,
            memory: Memory::default(),
            threads_seen: 1,
        })
    }
    pub fn done() -> String {
        Self::say(&Reply::Done { memory: Memory::default(), threads_seen: 1 })
    }
    /// A sample with the answer of `encode/letters`.
    pub fn sample() -> String {
        let ids = vec![u32::from(b'a'); LETTERS];
        let sample = SampleReply {
            first: true,
            wall_ns: 1000,
            cpu_ns: 1000,
            units: LETTERS as u64,
            digest: digest_ids(&ids),
            ..SampleReply::default()
        };
        Self::say(&Reply::Sample(sample))
    }
    /// Reads one order into `$order`; the script ends where there is none.
    pub fn read() -> &'static str {
        "read -r order || exit 0\n"
    }
    /// Writes the answer where an `explain` order in `$order` wants it.
    pub fn explain() -> String {
        let text = "a\\000\\000\\000".repeat(LETTERS);
        format!(
            "path=${{order#*'\"answer\":\"'}}; path=${{path%%'\"'*}}\nprintf '{text}' > \"$path\"\n{}",
            Self::done()
        )
    }
    /// Everything up to the first measured turn: hello, ready, one verified sample.
    pub fn verified() -> String {
        let read = Self::read();
        [Self::hello(), read.into(), Self::ready(), read.into(), Self::sample(), Self::done(), read.into()]
            .concat()
            + &Self::explain()
    }
}

/// The real `engine-echo`, built once in this test's own profile.
fn echo() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let profile_folder = Path::new(env!("CARGO_BIN_EXE_assay")).parent().unwrap();
        let profile = match profile_folder.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--locked", "--quiet", "-p", "engine-echo", "--profile", profile])
            .arg("--target-dir")
            .arg(profile_folder.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        profile_folder.join("engine-echo")
    })
}
