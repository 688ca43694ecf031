//! The only file that starts processes: workers on the wire, and the commands of set-up.
//!
//! A worker is a child in a process group of its own (a Ctrl-C meant for the harness does not reach
//! it), with pipes for orders and replies and a thread that reads each. Dropping it kills the group.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use worker::{Identity, Memory, Order, PROTOCOL, Prepare, Reply, monotonic_ns};

/// Longest line a worker may send; a longer one is garbage.
const LONGEST_LINE: u64 = 64 << 20;
/// How much of a worker's stderr is kept for the reason of a crash.
const STDERR_KEPT: usize = 4096;

/// Set by Ctrl-C; every wait looks at it.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Why a worker gave no (usable) reply.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The process ended.
    #[error("the process ended ({how}){}", said(.stderr))]
    Crashed {
        /// Exit code or signal.
        how: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// No reply in time; the process was killed.
    #[error("no reply within {0:?}; the process was killed")]
    TimedOut(Duration),
    /// A line that is no reply.
    #[error("not a reply: {0}")]
    Garbled(String),
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

fn said(stderr: &str) -> String {
    match stderr.trim().lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("; its last words: {}", line.trim()),
        None => String::new(),
    }
}

/// What starts a worker.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments, placeholders filled in.
    pub command: Vec<String>,
    /// Variables on top of the harness's own.
    pub environment: BTreeMap<String, String>,
}

/// A live engine process and what it said of itself.
pub struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    replies: Receiver<Line>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    /// As introduced in `hello`.
    pub identity: Identity,
    /// From spawn to `hello`.
    pub boot_ns: u64,
    /// The ladder's first rung.
    pub memory: Memory,
}

enum Line {
    Text(String),
    TooLong,
    End,
}

impl Worker {
    /// Starts the process and waits for its `hello`.
    pub fn spawn(launch: &Launch, patience: Duration) -> Result<Worker, Fault> {
        let mut command = Command::new(&launch.command[0]);
        command
            .args(&launch.command[1..])
            .envs(&launch.environment)
            .env("ASSAY_SPAWNED_NS", monotonic_ns().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|error| Fault::Crashed {
            how: format!("cannot start {}: {error}", launch.command[0]),
            stderr: String::new(),
        })?;
        let (to, replies) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || read_lines(stdout, &to));
        }
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(pipe) = child.stderr.take() {
            let kept = Arc::clone(&stderr);
            std::thread::spawn(move || keep_tail(pipe, &kept));
        }
        let orders = child.stdin.take();
        let mut worker = Worker {
            child,
            orders,
            replies,
            stderr,
            identity: Identity::default(),
            boot_ns: 0,
            memory: Memory::default(),
        };
        match worker.next(patience)? {
            Reply::Hello { protocol: PROTOCOL, identity, since_spawn_ns, memory } => {
                worker.identity = identity;
                worker.boot_ns = since_spawn_ns;
                worker.memory = memory;
                Ok(worker)
            }
            Reply::Hello { protocol, .. } => Err(Fault::Garbled(format!(
                "it speaks protocol {protocol}, this harness speaks {PROTOCOL}; rebuild it"
            ))),
            other => Err(Fault::Garbled(format!("{other:?} instead of hello"))),
        }
    }

    /// The process id, for the record.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends an order. A worker that is gone shows at the next [`Worker::next`].
    pub fn tell(&mut self, order: &Order) {
        if let (Some(pipe), Ok(mut line)) = (self.orders.as_mut(), serde_json::to_string(order)) {
            line.push('\n');
            let _ = pipe.write_all(line.as_bytes()).and_then(|()| pipe.flush());
        }
    }

    /// Waits for the next reply.
    pub fn next(&mut self, patience: Duration) -> Result<Reply, Fault> {
        let deadline = Instant::now() + patience;
        loop {
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err(Fault::Interrupted);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.replies.recv_timeout(left.min(Duration::from_millis(100))) {
                Ok(Line::Text(line)) => {
                    return serde_json::from_str(&line)
                        .map_err(|error| Fault::Garbled(format!("{error} in: {}", shorten(&line))));
                }
                Ok(Line::TooLong) => {
                    return Err(Fault::Garbled(format!("a line of over {LONGEST_LINE} bytes")));
                }
                Ok(Line::End) | Err(RecvTimeoutError::Disconnected) => return Err(self.obituary()),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    self.kill();
                    return Err(Fault::TimedOut(patience));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Tells an order and waits for the one reply it brings.
    pub fn ask(&mut self, order: &Order, patience: Duration) -> Result<Reply, Fault> {
        self.tell(order);
        self.next(patience)
    }

    /// One run of a job and its answer, unmeasured: the answer's bytes and the last logits, by way of
    /// files in `scratch`. Whatever is no answer is [`Fault::Garbled`] with the reply in it.
    pub fn once(
        &mut self,
        prepare: Prepare,
        scratch: &Path,
        patience: Duration,
    ) -> Result<(Vec<u8>, Vec<f32>), Fault> {
        match self.ask(&Order::Prepare(prepare), patience)? {
            Reply::Ready { .. } => {}
            other => return Err(Fault::Garbled(format!("{other:?} to prepare"))),
        }
        self.tell(&Order::Measure { samples: 1, limit_ns: 0 });
        loop {
            match self.next(patience)? {
                Reply::Sample(_) => {}
                Reply::Done { .. } => return self.explain(scratch, patience),
                other => return Err(Fault::Garbled(format!("{other:?} while measuring"))),
            }
        }
    }

    /// Has it write down its last answer, and reads that: the answer's bytes and the last logits.
    pub fn explain(&mut self, scratch: &Path, patience: Duration) -> Result<(Vec<u8>, Vec<f32>), Fault> {
        let (answer, logits) = (scratch.join("answer.bin"), scratch.join("logits.bin"));
        let _ = std::fs::remove_file(&logits);
        let order = Order::Explain { answer: answer.clone(), logits: logits.clone() };
        match self.ask(&order, patience)? {
            Reply::Done { .. } => {}
            other => return Err(Fault::Garbled(format!("{other:?} to explain"))),
        }
        let bytes =
            std::fs::read(&answer).map_err(|error| Fault::Garbled(format!("no answer file: {error}")))?;
        let floats = std::fs::read(&logits).unwrap_or_default();
        let floats = floats.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        Ok((bytes, floats))
    }

    fn obituary(&mut self) -> Fault {
        self.orders = None;
        let mut status = None;
        for _ in 0..50 {
            status = self.child.try_wait().ok().flatten();
            if status.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let how = status
            .map_or_else(|| "it closed its replies and was killed".to_string(), |status| describe(&status));
        self.kill();
        let stderr =
            self.stderr.lock().map(|kept| kept.iter().copied().collect()).unwrap_or_else(|_| Vec::new());
        Fault::Crashed { how, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }

    fn kill(&mut self) {
        self.orders = None;
        kill_group(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tell(&Order::Quit);
        self.orders = None;
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}

/// Kills a process group by way of the standard `kill` command: this crate forbids unsafe code.
fn kill_group(pid: u32) {
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).stderr(Stdio::null()).status();
}

fn describe(status: &ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".into(),
    }
}

fn shorten(line: &str) -> String {
    let head: String = line.chars().take(120).collect();
    if head.len() < line.len() { format!("{head}…") } else { head }
}

fn read_lines(pipe: impl Read, to: &Sender<Line>) {
    let mut reader = BufReader::new(pipe);
    loop {
        let mut bytes = Vec::new();
        match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => {
                let _ = to.send(Line::End);
                return;
            }
            Ok(_) if bytes.last() != Some(&b'\n') && bytes.len() as u64 == LONGEST_LINE => {
                let _ = to.send(Line::TooLong);
                return;
            }
            Ok(_) => {
                let text = String::from_utf8_lossy(&bytes).trim_end().to_string();
                if to.send(Line::Text(text)).is_err() {
                    return;
                }
            }
        }
    }
}

fn keep_tail(mut pipe: impl Read, kept: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0u8; 1024];
    while let Ok(read) = pipe.read(&mut buffer) {
        let Ok(mut tail) = kept.lock() else { return };
        if read == 0 {
            return;
        }
        tail.extend(&buffer[..read]);
        let over = tail.len().saturating_sub(STDERR_KEPT);
        tail.drain(..over);
    }
}

/// Runs a command of set-up to its end, its output going where ours goes. `why` opens the error.
pub fn run(
    command: &[String],
    environment: &BTreeMap<String, String>,
    folder: &Path,
    why: &str,
) -> Result<()> {
    let [program, arguments @ ..] = command else { bail!("{why}: an empty command") };
    let status = Command::new(program)
        .args(arguments)
        .envs(environment)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .with_context(|| format!("{why}: cannot start `{program}` (is it installed and on PATH?)"))?;
    anyhow::ensure!(status.success(), "{why}: `{}` ended with {}", command.join(" "), describe(&status));
    Ok(())
}

/// Runs a command and returns what it printed, trimmed; `None` if it cannot or fails.
pub fn output(command: &[&str], folder: &Path) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let out =
        Command::new(program).args(arguments).current_dir(folder).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
}
