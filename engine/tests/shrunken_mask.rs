//! The process's mask is read when it is needed: it may have shrunk since.
//!
//! This program has one test: it changes the mask of its first thread, which stands for the process, and
//! takes the system call away that pins threads, for good.
#![cfg(all(target_os = "linux", not(miri), not(ringmain_loom)))]

mod seccomp_support;

use ringmain::affinity::{AffinityError, Pinning, Placement, allowed_cores};
use ringmain::broker::{Broker, BrokerBuildError, Dispatcher};
use ringmain::ring::BuildError;
use seccomp_support::refuse;
use std::io::Error;
use std::time::Duration;

/// Lets the first thread of this process run on these cores alone.
fn set_mask(cores: &[usize]) {
    let process = std::process::id() as libc::pid_t;
    // SAFETY: a set of cores is plain bits, of which none set is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &core in cores {
        // SAFETY: the system has named the core, so it fits into a set.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: the call reads as many bytes as the set has.
    let outcome = unsafe { libc::sched_setaffinity(process, size_of_val(&set), &raw const set) };
    assert_eq!(outcome, 0, "{}", Error::last_os_error());
}

fn build(pinning: Pinning) -> Result<Broker, BrokerBuildError> {
    Broker::builder().dispatcher(Dispatcher::new("pinned").pinning(pinning)).build()
}

#[test]
fn auto_follows_the_mask_and_falls_back_where_a_core_is_refused() {
    let before = allowed_cores();
    let [first, .., last] = before[..] else {
        eprintln!("skipped: it takes two cores to take one away");
        return;
    };
    let preferred = |core| Ok(vec![Placement::Preferred(core)]);
    assert_eq!(Pinning::Auto.place(1), preferred(last));

    set_mask(&[first]);
    assert_eq!(allowed_cores(), [first]);
    assert_eq!(Pinning::Auto.place(2), Ok(vec![Placement::Anywhere; 2]));
    set_mask(&before);
    assert_eq!(Pinning::Auto.place(1), preferred(last), "the core came back");

    // As when the core is taken away between the look at the mask and the start of the thread.
    refuse(libc::SYS_sched_setaffinity, libc::EINVAL);
    let broker = build(Pinning::Auto).expect("a thread that prefers a core runs without it too");
    let report = broker.shutdown(Duration::from_secs(30));
    assert!(report.expect("not on a consumer").ledger.is_balanced());
    let error = build(Pinning::Cores(vec![last])).expect_err("a core that was named is required");
    assert!(
        matches!(
            error,
            BrokerBuildError::Ring {
                reason: BuildError::Affinity { reason: AffinityError::Refused { core }, .. },
                ..
            } if core == last
        ),
        "{error}"
    );
}
