//! Bytes that may be a scenario of `ringmain-bench simulate`. Reading and checking them never panics; whatever is
//! refused is refused with a message of one line, of bounded length, that names the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmain_bench::check_scenario;

/// More than a message needs, which may quote much of a scenario, with what cannot be shown written out.
const LONGEST: usize = 10_000;

fuzz_target!(|bytes: &[u8]| {
    if let Err(refusal) = check_scenario(bytes) {
        assert!(refusal.starts_with("scenario.toml"), "{refusal:?}");
        assert!(refusal.len() < LONGEST && !refusal.contains('\n'), "{refusal:?}");
    }
});
