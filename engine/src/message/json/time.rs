//! Times as RFC 3339 writes them: UTC and nine decimals when written, any of its texts and no other when read.

use jiff::Timestamp;
use serde::ser;
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

/// 0000-01-01T00:00:00Z, the first moment whose year has four digits and no sign.
const FIRST: Timestamp = Timestamp::constant(-62_167_219_200, 0);

pub(crate) fn to_text<E: ser::Error>(member: &str, time: SystemTime) -> Result<String, E> {
    match Timestamp::try_from(time) {
        Ok(timestamp) if timestamp >= FIRST => Ok(format!("{timestamp:.9}")),
        _ => Err(E::custom(format_args!(
            "`{member}` lies outside 0000-01-01T00:00:00Z to {}, which is all that RFC 3339 can write",
            Timestamp::MAX
        ))),
    }
}

/// A text is no RFC 3339 time, or one that a [`SystemTime`] here cannot hold.
pub(crate) struct NotATime;

impl fmt::Display for NotATime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no RFC 3339 time that can be represented, such as 2026-01-31T09:30:00.000000001Z")
    }
}

/// Reads a time that [`to_text`] has written, or any other RFC 3339 time.
pub(crate) fn from_text(text: &str) -> Result<SystemTime, NotATime> {
    if !has_the_shape_of_rfc_3339(text.as_bytes()) {
        return Err(NotATime); // jiff alone would take more
    }
    let timestamp: Timestamp = text.parse().map_err(|_| NotATime)?;
    if timestamp < FIRST {
        return Err(NotATime);
    }
    let since_epoch = timestamp.as_duration();
    let distance: Duration = since_epoch.unsigned_abs();
    let time = if since_epoch.is_negative() {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.ok_or(NotATime)
}

/// Whether it is `yyyy-mm-ddThh:mm:ss`, then maybe `.` and 1 to 9 digits, then `Z` or `+hh:mm` or `-hh:mm`.
fn has_the_shape_of_rfc_3339(text: &[u8]) -> bool {
    let follows = |text: &[u8], shape: &[u8]| {
        text.len() == shape.len()
            && text.iter().zip(shape).all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                b'T' | b'Z' => byte.eq_ignore_ascii_case(shape),
                b'+' => matches!(byte, b'+' | b'-'),
                _ => byte == shape,
            })
    };
    let Some((seconds, rest)) = text.split_at_checked(19) else { return false };
    let offset = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
    };
    follows(seconds, b"0000-00-00T00:00:00") && (follows(offset, b"Z") || follows(offset, b"+00:00"))
}

/// A time, read as strictly as it is written.
pub(super) struct Rfc3339(pub(super) SystemTime);

impl FromStr for Rfc3339 {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        from_text(text).map(Self)
    }
}
