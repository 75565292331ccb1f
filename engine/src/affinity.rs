//! Pinning threads to cores.
//!
//! By default threads are pinned only inside the mask that the process has (from `taskset`, a container or
//! an operator). The mask is read whenever it is needed, because it may shrink while the process runs.
//! Cores that the user names may lie outside of it; they are checked against the machine before any
//! thread starts, so that a typing error is an error and not a slow program.
//!
//! On Linux the mask of the process is that of its first thread. All works too when the calling thread
//! is itself pinned, and when the first thread was pinned by this module, which remembers the mask that
//! it had.

use crate::sync::thread;
use std::sync::OnceLock;

/// Where the threads of a consumer group run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pinning {
    /// Wherever the scheduler likes. The default: a library must not take a core from the program around it unasked.
    #[default]
    Unpinned,
    /// On cores of the process's mask, the last one first, one after the other. Where the mask has one
    /// core only, unpinned. So is a thread whose core is taken away before it starts.
    Auto,
    /// On these cores, in this order and again from the start when there are more threads than cores. They may lie
    /// outside the process's mask.
    Cores(Vec<usize>),
}

/// A thread cannot be pinned as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AffinityError {
    /// The machine has no such core.
    #[error("core {core} does not exist on this machine; its cores are {online}")]
    NoSuchCore {
        /// The core that was asked for.
        core: usize,
        /// The cores there are, as a list of ranges.
        online: String,
    },
    /// An empty list of cores.
    #[error("an empty list of cores; name at least one, or choose Pinning::Unpinned")]
    NoCores,
    /// The system said no.
    #[error("the system refused to run this thread on core {core}; is it outside a container's cpuset?")]
    Refused {
        /// The core that was asked for.
        core: usize,
    },
}

/// Where one thread runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// Wherever the scheduler likes.
    #[default]
    Anywhere,
    /// On this core, if the system lets it.
    Preferred(usize),
    /// On this core and no other.
    Required(usize),
}

impl Placement {
    /// Puts the calling thread there.
    ///
    /// # Errors
    /// The core is required, and [`pin_current_thread`] refuses it.
    pub(crate) fn apply(self) -> Result<(), AffinityError> {
        match self {
            Self::Anywhere => Ok(()),
            Self::Preferred(core) => {
                let _ = pin_current_thread(core);
                Ok(())
            }
            Self::Required(core) => pin_current_thread(core),
        }
    }
}

impl Pinning {
    /// Returns the place of each of `threads` threads. Reads files of the system.
    ///
    /// # Errors
    /// A core that does not exist, or an empty list.
    pub fn place(&self, threads: usize) -> Result<Vec<Placement>, AffinityError> {
        match self {
            Self::Unpinned => Ok(vec![Placement::Anywhere; threads]),
            Self::Auto => {
                let allowed = allowed_cores();
                if allowed.len() < 2 {
                    return Ok(vec![Placement::Anywhere; threads]);
                }
                Ok(allowed.into_iter().rev().cycle().take(threads).map(Placement::Preferred).collect())
            }
            Self::Cores(cores) => {
                if cores.is_empty() {
                    return Err(AffinityError::NoCores);
                }
                for &core in cores {
                    check_core(core)?;
                }
                Ok(cores.iter().copied().cycle().take(threads).map(Placement::Required).collect())
            }
        }
    }
}

/// Checks that the machine has this core and that it is online.
///
/// # Errors
/// [`AffinityError::NoSuchCore`] with the cores there are.
pub fn check_core(core: usize) -> Result<(), AffinityError> {
    let online = online_cores();
    if online.contains(&core) {
        return Ok(());
    }
    Err(AffinityError::NoSuchCore { core, online: format_ranges(&online) })
}

/// The cores of the machine that are online, whether this process may use them or not, in ascending order.
pub fn online_cores() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    if let Some(cores) =
        std::fs::read_to_string("/sys/devices/system/cpu/online").ok().and_then(|text| parse_ranges(&text))
    {
        return cores;
    }
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

/// The mask that the first thread had before it was pinned by this module. Elsewhere than on Linux, the
/// mask that was there before any thread was.
static BEFORE_PINNING: OnceLock<Vec<usize>> = OnceLock::new();

/// The cores that this process may use at present, in ascending order. Reads a file of the system; where
/// the first thread was pinned by [`pin_current_thread`], starts a thread that tries which of the cores
/// the process had then it still may use.
pub fn allowed_cores() -> Vec<usize> {
    BEFORE_PINNING.get().map_or_else(mask, |before| still_allowed(before))
}

/// The present mask of the process's first thread.
fn mask() -> Vec<usize> {
    // This is the status of the first thread, not of the one that happens to ask.
    #[cfg(target_os = "linux")]
    if let Some(cores) = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        parse_ranges(line)
    }) {
        return cores;
    }
    match core_affinity::get_core_ids() {
        Some(ids) if !ids.is_empty() => ids.into_iter().map(|core| core.id).collect(),
        _ => online_cores(),
    }
}

/// Those of the cores on which a thread of this process may run; all, where none can be tried.
fn still_allowed(cores: &[usize]) -> Vec<usize> {
    let tried = cores.to_vec();
    let mut allowed = Vec::new();
    if cfg!(target_os = "linux") {
        let may_run = |core: &usize| core_affinity::set_for_current(core_affinity::CoreId { id: *core });
        let trial = move || tried.into_iter().filter(may_run).collect();
        let thread = thread::Builder::new().name("rm-cores".to_owned()).spawn(trial);
        allowed = thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
    }
    if allowed.is_empty() { cores.to_vec() } else { allowed }
}

/// Whether pinning the calling thread changes what [`mask`] tells.
fn is_told_by_mask() -> bool {
    // The link reads `PROCESS/task/THREAD`.
    let link = std::fs::read_link("/proc/thread-self").ok();
    let numbers = link.as_deref().and_then(|link| link.to_str()).and_then(|link| link.split_once("/task/"));
    numbers.is_none_or(|(process, thread)| process == thread)
}

/// Pins the calling thread to a core, in the process's mask or out of it.
///
/// # Errors
/// The machine has no such core, or the system refuses.
pub fn pin_current_thread(core: usize) -> Result<(), AffinityError> {
    check_core(core)?;
    if is_told_by_mask() {
        BEFORE_PINNING.get_or_init(mask);
    }
    if core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        Ok(())
    } else {
        Err(AffinityError::Refused { core })
    }
}

/// Parses the kernel's list format: `0-3,8,10-11`.
#[cfg(any(target_os = "linux", test))]
fn parse_ranges(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        match part.split_once('-') {
            Some((first, last)) => cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?),
            None => cores.push(part.parse().ok()?),
        }
    }
    Some(cores)
}

/// The reverse of [`parse_ranges`].
fn format_ranges(cores: &[usize]) -> String {
    cores
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [only] => only.to_string(),
            run => format!("{}-{}", run[0], run[run.len() - 1]),
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_survive_a_round_trip() {
        for text in ["0", "0-3", "0-3,8,10-11", "5,7,9"] {
            assert_eq!(format_ranges(&parse_ranges(text).expect("a list")), text);
        }
        assert_eq!(parse_ranges("0-x"), None);
    }

    #[test]
    fn a_core_that_does_not_exist_is_named_beside_those_that_do() {
        let error = check_core(999).expect_err("this machine has no core 999");
        assert!(error.to_string().contains("core 999 does not exist"), "{error}");
        assert!(error.to_string().contains(&format_ranges(&online_cores())), "{error}");
    }

    #[test]
    fn a_pinned_thread_still_sees_the_cores_of_its_process() {
        let before = allowed_cores();
        std::thread::spawn(move || {
            pin_current_thread(before[0]).expect("a core of our own mask");
            assert_eq!(allowed_cores(), before);
            let last = *before.last().expect("a core");
            assert_eq!(Pinning::Cores(vec![last]).place(1), Ok(vec![Placement::Required(last)]));
            pin_current_thread(last).expect("moving a pinned thread");
        })
        .join()
        .expect("pinning from a pinned thread");
    }
}
