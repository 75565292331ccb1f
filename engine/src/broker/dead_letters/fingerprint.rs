//! Fingerprints: what failures have in common when their numbers and ids are looked away from.
//!
//! The hash is FNV-1a of 64 bits. Nothing rests on its being hard to collide: who can choose error
//! texts can at most have two groups shown as one.

use crate::broker::account::term::FailureKind;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// What tells one sort of failure from another: the same for letters of the same [`FailureKind`] whose
/// last errors say the same but for numbers and ids. It is the same in each process and on each
/// machine.
///
/// An error's text is read so:
///
/// 1. A UUID, `8-4-4-4-12` hexadecimal digits that stand alone, counts as `#`.
/// 2. A word is a longest run of ASCII letters and digits. One of hexadecimal digits alone counts as
///    `#` if a decimal digit is among them or if it has 8 or more; so does `0x` and such digits.
/// 3. In any other word each run of decimal digits counts as `#`.
/// 4. A single `.` or `,` between two `#` goes, with one of the two: `1.5`, `1,000` and `10.0.0.7` are
///    numbers.
/// 5. Of what this makes, the first [`Fingerprint::SIGNIFICANT_BYTES`] bytes count. All else counts as
///    it stands. No text counts as an empty one.
///
/// ```
/// use ringmain::broker::FailureKind;
/// use ringmain::broker::dead_letters::Fingerprint;
///
/// let of = |text| Fingerprint::of(FailureKind::Handler, Some(text));
/// assert_eq!(of("order 17 not found"), of("order 18 not found"));
/// assert_eq!(of("order a3f9 not found"), of("order 18 not found"));
/// assert_ne!(of("order 17 not found"), of("order 17 not paid"));
/// assert_ne!(of("late"), Fingerprint::of(FailureKind::Panic, Some("late")));
/// assert_eq!(of("late").to_string().parse(), Ok(of("late")));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// How much of a text counts, once its numbers and ids are replaced.
    ///
    /// It is less than [what is kept of a text](super::Attempt::MAX_ERROR_BYTES), so that how long an
    /// id is does not decide how much of a long text counts.
    pub const SIGNIFICANT_BYTES: usize = 160;

    /// Returns the fingerprint of a failure of this kind, with this text.
    pub fn of(kind: FailureKind, error: Option<&str>) -> Self {
        let text = without_ids(error.unwrap_or_default());
        // No label and no UTF-8 text has a byte of 0xff, so that the two cannot run into one another.
        let bytes = kind.as_str().bytes().chain([0xff]).chain(text);
        Self(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// Returns the fingerprint of this number, such as one that was stored.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Returns its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Its sixteen hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = ParseIntError;

    /// Reads what Display writes.
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// The part of a text that counts. Steps are those of [`Fingerprint`].
fn without_ids(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut counts = Vec::with_capacity(rest.len());
    while let Some(&first) = rest.first() {
        let word = word_at_start(rest);
        let read = if word == 0 {
            counts.push(first);
            1
        } else if begins_with_uuid(rest) {
            push_number(&mut counts);
            UUID_BYTES
        } else if is_id(&rest[..word]) {
            push_number(&mut counts);
            word
        } else {
            push_word(&mut counts, &rest[..word]);
            word
        };
        rest = &rest[read..];
    }
    counts.truncate(Fingerprint::SIGNIFICANT_BYTES);
    counts
}

fn word_at_start(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count()
}

const UUID_BYTES: usize = 36;

fn begins_with_uuid(text: &[u8]) -> bool {
    let Some((uuid, rest)) = text.split_at_checked(UUID_BYTES) else { return false };
    word_at_start(rest) == 0
        && uuid.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Step 2.
fn is_id(word: &[u8]) -> bool {
    let all_hexadecimal = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    if let Some(digits) = word.strip_prefix(b"0x") {
        return all_hexadecimal(digits);
    }
    all_hexadecimal(word) && (word.len() >= 8 || word.iter().any(u8::is_ascii_digit))
}

/// Step 3.
fn push_word(counts: &mut Vec<u8>, word: &[u8]) {
    for (index, byte) in word.iter().enumerate() {
        if !byte.is_ascii_digit() {
            counts.push(*byte);
        } else if index == 0 || !word[index - 1].is_ascii_digit() {
            push_number(counts);
        }
    }
}

/// Step 4.
fn push_number(counts: &mut Vec<u8>) {
    if counts.ends_with(b"#.") || counts.ends_with(b"#,") {
        counts.pop();
    } else {
        counts.push(b'#');
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        String::from_utf8(without_ids(text)).unwrap()
    }

    #[test]
    fn numbers_and_ids_are_looked_away_from() {
        for (text, counts) in [
            ("", ""),
            ("order 17 not found", "order # not found"),
            ("order 1 234,567.89 not found", "order # # not found"),
            ("order_17, part 3.", "order_#, part #."),
            ("took 1.5ms of 20ms", "took #ms of #ms"),
            ("worker17b of http2", "worker#b of http#"),
            ("host 10.0.0.7:8080 is down", "host #:# is down"),
            ("id 550e8400-e29b-41d4-a716-446655440000!", "id #!"),
            ("id abcdefab-abcd-abcd-abcd-abcdefabcdef", "id #"),
            ("id abcd-abcd", "id abcd-abcd"),
            ("hash a3f9c2 of DEADBEEF", "hash # of #"),
            ("a bad face at 0xfaceg, 0xface and 0x", "a bad face at #xfaceg, # and #x"),
            ("at 2026-01-31T09:30:00Z", "at #-#-#T#:#:#Z"),
            ("öl7 é12 ☃", "öl# é# ☃"),
        ] {
            assert_eq!(read(text), counts, "{text}");
        }
    }

    #[test]
    fn a_uuid_that_is_part_of_a_longer_word_is_none() {
        let uuid = "abcdefab-abcd-abcd-abcd-abcdefabcdef";
        assert_eq!(read(uuid), "#");
        assert_eq!(read(&format!("{uuid}zz")), "#-abcd-abcd-abcd-abcdefabcdefzz");
        assert_eq!(read(&uuid[..35]), "#-abcd-abcd-abcd-#");
    }

    #[test]
    fn the_length_of_an_id_does_not_decide_how_much_of_a_long_text_counts() {
        let of = |id: &str| {
            let text = format!("order {id}: {}", "no such order; ".repeat(30));
            Fingerprint::of(FailureKind::Handler, Some(&text[..256]))
        };
        assert_eq!(of("7"), of("550e8400-e29b-41d4-a716-446655440000"));
    }

    #[test]
    fn a_fingerprint_is_the_same_in_each_version() {
        // Worked out by another implementation, which gives the test vectors of FNV-1a's authors.
        let of = |kind, text| Fingerprint::of(kind, text).to_string();
        assert_eq!(of(FailureKind::Handler, Some("order 17 not found")), "1d1b9dfa568180e4");
        assert_eq!(of(FailureKind::Panic, None), "7f8d1230fadbca11");
    }
}
