//! Driving the built program: scratch files, runs with a deadline, and what they answered.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// No run of these tests takes nearly as long.
const LIMIT: Duration = Duration::from_secs(60);

/// How many times slower all is: under a sanitizer, what the environment variable
/// `RINGMAIN_SLOWDOWN` says.
pub(crate) fn slowdown() -> u32 {
    std::env::var("RINGMAIN_SLOWDOWN").map_or(1, |times| times.parse().expect("a whole number"))
}

/// How long something may take that is promised within so many seconds.
pub(crate) fn within_seconds(promised: u64) -> Duration {
    Duration::from_secs(promised) * slowdown()
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
    // Its standard error ends when it does.
    let mut stderr = child.stderr.take().expect("standard error is piped");
    let (ended, has_ended) = mpsc::channel();
    std::thread::spawn(move || {
        let mut complaints = Vec::new();
        let _ = stderr.read_to_end(&mut complaints);
        let _ = ended.send(());
    });
    if has_ended.recv_timeout(LIMIT).is_err() {
        let _ = child.kill();
        panic!("still running after {LIMIT:?}");
    }
    (child.wait().expect("our child").code(), started.elapsed())
}

/// Sends a signal to a run that is under way; how it ended, and how long after.
#[cfg(unix)]
pub(crate) fn interrupt(child: &mut Child, signal: &str) -> (Option<i32>, Duration) {
    send_signal(child, signal);
    wait(child)
}

/// Sends a signal to a run that is under way.
#[cfg(unix)]
pub(crate) fn send_signal(child: &mut Child, signal: &str) {
    assert!(child.try_wait().expect("our child").is_none(), "ended before it got SIG{signal}");
    let kill = format!("kill -{signal} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
}

/// Stops a run that is under way for a while.
#[cfg(unix)]
pub(crate) fn stop_for(child: &mut Child, pause: Duration) {
    send_signal(child, "STOP");
    std::thread::sleep(pause);
    send_signal(child, "CONT");
}

/// Waits until a run shows this sign of being under way. The system tells no one when a thread of
/// another process starts or works, so this looks again and again, until the limit.
#[cfg(target_os = "linux")]
pub(crate) fn until(child: &mut Child, sign: impl Fn(&Seen) -> bool) {
    let started = Instant::now();
    loop {
        let seen = Seen::of(child.id());
        if sign(&seen) {
            return;
        }
        assert!(child.try_wait().expect("our child").is_none(), "ended before it was under way: {seen:?}");
        if started.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("not under way after {LIMIT:?}: {seen:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the system tells of a running program.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Seen {
    /// The processor time of all its threads, ended ones included.
    pub(crate) worked: Duration,
    threads: Vec<(String, Duration)>,
}

#[cfg(target_os = "linux")]
impl Seen {
    fn of(process: u32) -> Self {
        let folder = PathBuf::from(format!("/proc/{process}"));
        let tasks = std::fs::read_dir(folder.join("task")).into_iter().flatten().flatten();
        Self {
            worked: Self::name_and_work(&folder).map_or(Duration::ZERO, |(_, worked)| worked),
            // A thread may end while one looks.
            threads: tasks.filter_map(|task| Self::name_and_work(&task.path())).collect(),
        }
    }

    /// From a line such as `12 (a name) S …`, in which the 14th and the 15th word count hundredths
    /// of a second.
    fn name_and_work(folder: &Path) -> Option<(String, Duration)> {
        let line = std::fs::read_to_string(folder.join("stat")).ok()?;
        let (before, after) = line.rsplit_once(')')?;
        let ticks = after.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
        Some((before.split_once('(')?.1.to_owned(), Duration::from_millis(10 * ticks.sum::<u64>())))
    }

    /// How many threads bear this name.
    pub(crate) fn threads(&self, name: &str) -> usize {
        self.threads.iter().filter(|(its, _)| its == name).count()
    }

    /// How long the threads of this name have worked.
    pub(crate) fn work_of(&self, name: &str) -> Duration {
        self.threads.iter().filter(|(its, _)| its == name).map(|(_, worked)| *worked).sum()
    }
}
