//! Driving the built program: scratch files, runs with a deadline, and what they answered.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// No run of these tests takes nearly as long.
const LIMIT: Duration = Duration::from_secs(60);

/// How long something may take that is promised within so many seconds. Where all is slowed down, as under a sanitizer,
/// the environment variable `RINGMAIN_SLOWDOWN` says how many times.
pub(crate) fn within_seconds(promised: u64) -> Duration {
    let slowdown = std::env::var("RINGMAIN_SLOWDOWN").map(|times| times.parse().expect("a whole number"));
    Duration::from_secs(promised * slowdown.unwrap_or(1))
}

/// A directory of its own for one test; taken away at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// An empty directory of that name.
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path of UTF-8").to_owned()
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.join(name), content).expect("a scratch file");
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a run answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on standard output"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on standard error"),
        }
    }
}

impl Answer {
    /// A refusal with this code: a reason on standard error, nothing on standard output.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, reasons: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "standard output must stay empty: {self:?}");
        for reason in reasons {
            assert!(self.stderr.contains(reason), "'{reason}' is not in: {}", self.stderr);
        }
    }
}

/// The program with these arguments, its streams piped.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmain-bench"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Answer {
    program(arguments).output().expect("the program starts").into()
}

/// Waits for a run whose standard output nobody reads; how long it took.
pub(crate) fn wait(child: &mut Child) -> (Option<i32>, Duration) {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return (status.code(), started.elapsed());
        }
        if started.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("still running after {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
