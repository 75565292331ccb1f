//! Pinning threads to cores.
//!
//! By default threads are pinned only inside the mask that the process was given (by `taskset`, a container or an
//! operator). Cores that the user names may lie outside of it; they are checked against the machine before any
//! thread starts, so that a typing error is an error and not a slow program. Both work when the calling thread is
//! itself pinned: the process's mask is not read from the calling thread, and it is remembered before the engine
//! pins its first thread.

use std::sync::OnceLock;

/// Where the threads of a consumer group run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pinning {
    /// Wherever the scheduler likes. The default: a library must not take a core from the program around it unasked.
    #[default]
    Unpinned,
    /// On cores of the process's mask, the last one first, one after the other. Where the mask has one core only,
    /// unpinned.
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

impl Pinning {
    /// The core of each of `threads` threads, `None` for wherever the scheduler likes. Reads files of the system.
    ///
    /// # Errors
    /// A core that does not exist, or an empty list.
    pub fn place(&self, threads: usize) -> Result<Vec<Option<usize>>, AffinityError> {
        match self {
            Self::Unpinned => Ok(vec![None; threads]),
            Self::Auto => {
                let allowed = allowed_cores();
                if allowed.len() < 2 {
                    return Ok(vec![None; threads]);
                }
                Ok((0..threads).map(|thread| allowed.iter().rev().cycle().nth(thread).copied()).collect())
            }
            Self::Cores(cores) => {
                if cores.is_empty() {
                    return Err(AffinityError::NoCores);
                }
                for &core in cores {
                    check_core(core)?;
                }
                Ok((0..threads).map(|thread| Some(cores[thread % cores.len()])).collect())
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

/// The cores that this process was given, in ascending order. Remembered from the first call, which the engine
/// makes before it pins anything.
pub fn allowed_cores() -> &'static [usize] {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(|| {
        // The status of the process is that of its first thread, not of the one that happens to ask.
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
    })
}

/// Pins the calling thread to a core, in the process's mask or out of it.
///
/// # Errors
/// The machine has no such core, or the system refuses.
pub fn pin_current_thread(core: usize) -> Result<(), AffinityError> {
    let _ = allowed_cores();
    check_core(core)?;
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
        let before = allowed_cores().to_vec();
        std::thread::spawn(move || {
            pin_current_thread(before[0]).expect("a core of our own mask");
            assert_eq!(allowed_cores(), before);
            let last = *before.last().expect("a core");
            assert_eq!(Pinning::Cores(vec![last]).place(1), Ok(vec![Some(last)]));
            pin_current_thread(last).expect("moving a pinned thread");
        })
        .join()
        .expect("pinning from a pinned thread");
    }
}
