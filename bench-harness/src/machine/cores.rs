//! Which thread runs on which core.

use ringmain::affinity;

use crate::error::Error;

/// The core of each of `threads` threads, publishers first, then consumers; `None` for wherever the
/// scheduler likes.
///
/// Cores that the user named are used in their order, and again from the start when there are more
/// threads. Else every thread gets a core of its own from the process's mask; where there are too
/// few, none is pinned, because two spinning threads that must share a core each wait for the
/// other's whole time slice.
pub(crate) fn place(named: Option<&[usize]>, threads: usize) -> Vec<Option<usize>> {
    match named {
        Some(cores) => (0..threads).map(|thread| Some(cores[thread % cores.len()])).collect(),
        None => {
            let allowed = affinity::allowed_cores();
            if allowed.len() < threads {
                return vec![None; threads];
            }
            allowed[..threads].iter().copied().map(Some).collect()
        }
    }
}

/// How many cores the process was given; at least one.
pub(crate) fn allowed() -> usize {
    affinity::allowed_cores().len().max(1)
}

/// Pins the calling thread, or leaves it be.
pub(crate) fn pin(core: Option<usize>) -> Result<(), Error> {
    let Some(core) = core else { return Ok(()) };
    affinity::pin_current_thread(core).map_err(|error| Error::Usage(format!("--cores: {error}")))
}

/// Whether two threads can run at the same time where they are placed.
pub(crate) fn run_side_by_side(first: Option<usize>, second: Option<usize>) -> bool {
    match (first, second) {
        (Some(first), Some(second)) => first != second,
        _ => allowed() > 1,
    }
}

/// Checks a list of cores as the user wrote it: `0,2,3`.
pub(crate) fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let online = affinity::online_cores();
    let known = || format!("this machine's cores are {}", ranges(&online));
    let mut cores = Vec::new();
    for word in text.split(',') {
        let core = word
            .trim()
            .parse::<usize>()
            .map_err(|_| format!("'{word}' is not a core; name cores by number, as in 0,1; {}", known()))?;
        if !online.contains(&core) {
            return Err(format!("core {core} does not exist; {}", known()));
        }
        if cores.contains(&core) {
            return Err(format!("core {core} is named twice"));
        }
        cores.push(core);
    }
    Ok(cores)
}

/// A sorted list of numbers, shortened: `0-3,8`.
pub(crate) fn ranges(cores: &[usize]) -> String {
    let mut parts = Vec::new();
    for run in cores.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [only] => parts.push(only.to_string()),
            [first, .., last] => parts.push(format!("{first}-{last}")),
            [] => {}
        }
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_get_cores_of_their_own_or_none_at_all() {
        let allowed = affinity::allowed_cores();
        let placed = place(None, allowed.len());
        assert_eq!(placed, allowed.iter().copied().map(Some).collect::<Vec<_>>());
        assert_eq!(place(None, allowed.len() + 1), vec![None; allowed.len() + 1]);
    }

    #[test]
    fn named_cores_are_used_in_their_order_and_again() {
        assert_eq!(place(Some(&[5, 3]), 3), [Some(5), Some(3), Some(5)]);
    }

    #[test]
    fn a_list_is_refused_for_what_is_wrong_with_it() {
        let refusal = |text: &str| parse_list(text).expect_err(text);
        assert!(refusal("999999").contains("core 999999 does not exist"));
        assert!(refusal("").contains("'' is not a core"));
        assert!(refusal("-1").contains("'-1' is not a core"));
        let first = affinity::online_cores()[0];
        assert!(refusal(&format!("{first},{first}")).contains("named twice"));
        assert_eq!(parse_list(&first.to_string()), Ok(vec![first]));
    }

    #[test]
    fn neighbouring_numbers_are_written_as_a_range() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[]), "");
    }
}
