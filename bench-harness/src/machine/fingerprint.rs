//! What the figures were taken on.

use std::sync::OnceLock;

use ringmain::affinity;
use serde::Serialize;

use super::cores;

/// A machine and the program on it, as far as the system tells.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<String>,
    /// All cores, as a list of ranges.
    pub(crate) cores_online: String,
    /// Those that this process was given.
    pub(crate) process_mask: String,
    /// Whether the processor says that it is a virtual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) virtual_machine: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Option<String>,
    pub(crate) os: String,
    pub(crate) architecture: &'static str,
    /// How the first core's frequency is governed, where the system lets one know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) governor: Option<String>,
    pub(crate) rustc: &'static str,
    /// The profile of the build; figures of a debug build say nothing.
    pub(crate) profile: &'static str,
    pub(crate) version: &'static str,
}

/// Looks at the machine before any thread is pinned. Later calls cost nothing.
pub(crate) fn remember() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(look)
}

/// Whether this is a build whose figures mean something.
pub(crate) fn is_release_build() -> bool {
    !cfg!(debug_assertions)
}

fn look() -> Machine {
    let processor = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line =
            processor.as_ref()?.lines().find(|line| line.split(':').next().map(str::trim) == Some(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    Machine {
        cpu: field("model name"),
        cores_online: cores::ranges(&affinity::online_cores()),
        process_mask: cores::ranges(&affinity::allowed_cores()),
        virtual_machine: field("flags").map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        kernel: read("/proc/sys/kernel/osrelease"),
        os: distribution().unwrap_or_else(|| std::env::consts::OS.to_owned()),
        architecture: std::env::consts::ARCH,
        governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        rustc: env!("RINGMAIN_BENCH_RUSTC"),
        profile: env!("RINGMAIN_BENCH_PROFILE"),
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// The name that a Linux distribution gives itself.
fn distribution() -> Option<String> {
    let release = read("/etc/os-release")?;
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// A small text of the system; `None` where there is none.
fn read(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_names_cores_compiler_and_profile() {
        let machine = remember();
        assert!(!machine.cores_online.is_empty() && !machine.process_mask.is_empty(), "{machine:?}");
        assert!(machine.rustc.starts_with("rustc "), "{}", machine.rustc);
        assert!(["debug", "release"].contains(&machine.profile), "{}", machine.profile);
    }
}
