//! A message as JSON: golden files pin the form, every limit holds for what is read, nothing read
//! makes it panic, and no error quotes what it was reading.

#![forbid(unsafe_code)]
#![cfg(feature = "serde")]

use proptest::prelude::*;
use ringmain::message::{
    CorrelationId, Headers, JsonError, JsonMessage, MessageId, Origin, Payload, Priority, PublisherId,
    TRACEPARENT,
};
use std::time::{Duration, SystemTime};

/// Stands in payloads and header values, and must turn up nowhere else.
const SECRET: &str = "hunter2";

/// 0000-01-01T00:00:00Z and 9999-12-30T22:00:00Z in seconds from the epoch.
const FIRST_SECOND: i64 = -62_167_219_200;
const LAST_SECOND: i64 = 253_402_207_200;

fn id(origin: u64, publisher: u32, sequence: u64) -> MessageId {
    MessageId::new(Origin::from_u64(origin).expect("not zero"), PublisherId::new(publisher), sequence)
}

fn at(seconds: i64, nanoseconds: u32) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let second =
        if seconds < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance };
    second + Duration::from_nanos(nanoseconds.into())
}

fn headers(pairs: &[(&str, &[u8])]) -> Headers {
    let mut headers = Headers::new();
    for (key, value) in pairs {
        headers.insert(key, value).expect("within the limits");
    }
    headers
}

fn plain() -> JsonMessage {
    JsonMessage {
        id: id(0xfeed, 3, 10),
        topic: "orders.eu.created".into(),
        published_at: at(1_769_851_800, 1),
        payload: Payload::new(b"a text").expect("small"),
        headers: Headers::new(),
        correlation: None,
        parent: None,
        priority: Priority::Normal,
        attempt: 1,
        expires_at: None,
    }
}

fn full() -> JsonMessage {
    JsonMessage {
        payload: Payload::new(&[0xff, 0x00, 0x80]).expect("small"),
        headers: headers(&[
            (TRACEPARENT, b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("digest", &[0xff, 0x00]),
            ("a-key-that-sorts-first", b""),
        ]),
        correlation: Some(CorrelationId::new("order-4711").expect("within the limits")),
        parent: Some(id(0xbeef, 0, 9)),
        priority: Priority::High,
        attempt: 4,
        expires_at: Some(at(1_769_851_860, 0)),
        ..plain()
    }
}

fn awkward() -> JsonMessage {
    JsonMessage {
        topic: "größe.\u{1f980}".into(),
        published_at: at(-1, 999_999_999),
        payload: Payload::try_from(r#"{"base64":"/wA="}"#).expect("small"),
        headers: headers(&[("quoted", b"\"\\\n\0\x7f"), ("\"key\"", "\u{2028}é".as_bytes())]),
        priority: Priority::Low,
        attempt: u16::MAX,
        expires_at: Some(at(LAST_SECOND, 999_999_999)),
        ..plain()
    }
}

#[track_caller]
fn is_the_form_of(golden: &str, message: &JsonMessage) {
    let written = serde_json::to_string_pretty(message).expect("it has a form");
    assert_eq!(written, golden.trim_end(), "the form has changed: programs that read the old one break");
    assert_eq!(JsonMessage::from_json(golden).as_ref(), Ok(message));
}

#[test]
fn the_form_of_a_plain_message_is_pinned() {
    is_the_form_of(include_str!("golden/message_plain.json"), &plain());
}

#[test]
fn the_form_of_a_full_message_is_pinned() {
    is_the_form_of(include_str!("golden/message_full.json"), &full());
}

#[test]
fn the_form_of_an_awkward_message_is_pinned() {
    is_the_form_of(include_str!("golden/message_awkward.json"), &awkward());
}

/// The plain message with one member replaced by other JSON text, or added.
fn plain_with(member: &str, value: &str) -> String {
    let members = [
        ("id", r#""000000000000feed-00000003-000000000000000a""#),
        ("topic", r#""orders.eu.created""#),
        ("published_at", r#""2026-01-31T09:30:00.000000001Z""#),
        ("payload", r#""a text""#),
    ];
    let kept = members.into_iter().filter(|(name, _)| *name != member);
    let members: Vec<_> =
        kept.chain([(member, value)]).map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn read(json: &str) -> Result<JsonMessage, JsonError> {
    JsonMessage::from_json(json)
}

#[track_caller]
fn refused(json: &str) -> String {
    match read(json) {
        Err(JsonError::Read { reason, .. }) => reason.into(),
        other => panic!("{json} was not refused but read: {other:?}"),
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    assert_eq!(read(&plain_with("headers", "{}")), Ok(plain()));
    assert_eq!(read(&plain_with("attempt", "1")), Ok(plain()));
    for option in ["correlation", "parent", "expires_at"] {
        assert_eq!(read(&plain_with(option, "null")), Ok(plain()));
    }
}

#[test]
fn what_is_required_is_missed_by_name() {
    for member in ["id", "topic", "published_at", "payload"] {
        let json = plain_with(member, "0").replace(&format!(",\"{member}\":0"), "");
        let reason = refused(&json);
        assert!(reason.contains(&format!("missing field `{member}`")), "{reason}");
    }
}

#[test]
fn unknown_and_repeated_members_are_refused() {
    let reason = refused(&plain_with("expire_at", "null"));
    assert!(reason.contains("expires_at") && !reason.contains("expire_at`"), "{reason}");
    for (member, value) in [("attempt", "1"), ("parent", "null"), ("payload", "\"\""), ("headers", "{}")] {
        let json = plain_with(member, value).replace('}', &format!(",\"{member}\":{value}}}"));
        let json = if member == "headers" {
            plain_with("x", "0").replace("\"x\":0", r#""headers":{},"headers":{}"#)
        } else {
            json
        };
        let reason = refused(&json);
        assert!(reason.contains(&format!("duplicate field `{member}`")), "{reason}");
    }
    let reason = refused(&plain_with("headers", r#"{"k":"1","l":"2","k":"1"}"#));
    assert!(reason.contains(r#"header "k" appears twice"#), "{reason}");
}

#[test]
fn bytes_are_a_string_or_an_object_of_base64_and_nothing_else() {
    let payload = |json: &str| read(&plain_with("payload", json)).map(|message| message.payload.to_vec());
    assert_eq!(payload(r#"{"base64":""}"#), Ok(vec![]));
    assert_eq!(payload(r#"{"base64":"YQ=="}"#), Ok(vec![b'a']), "text may stand as base64 too");
    assert_eq!(payload(r#""{\"base64\":\"YQ==\"}""#), Ok(br#"{"base64":"YQ=="}"#.to_vec()));
    for bad in [
        "1",
        "-1",
        "1.5",
        "true",
        "null",
        "[]",
        "[1]",
        "{}",
        r#"{"base64":1}"#,
        r#"{"base64":null}"#,
        r#"{"base64":["YQ=="]}"#,
        r#"{"Base64":"YQ=="}"#,
        r#"{"base64":"YQ==","base64":"YQ=="}"#,
        r#"{"base64":"YQ==","x":1}"#,
        r#"{"base64":"YQ"}"#,
        r#"{"base64":"YR=="}"#,
        r#"{"base64":"Y Q="}"#,
        r#"{"base64":"_wA="}"#,
    ] {
        let reason = refused(&plain_with("payload", bad));
        assert!(reason.contains("`payload`"), "{bad}: {reason}");
        let reason = refused(&plain_with("headers", &format!(r#"{{"k":{bad}}}"#)));
        assert!(reason.contains(r#"header "k""#), "{bad}: {reason}");
    }
}

#[test]
fn the_limits_of_payloads_hold_for_both_forms() {
    for len in [Payload::MAX_LEN - 1, Payload::MAX_LEN] {
        for byte in [b'a', 0xff] {
            let message = JsonMessage { payload: Payload::new(&vec![byte; len]).expect("fits"), ..plain() };
            let json = message.to_json().expect("it has a form");
            assert_eq!(read(&json), Ok(message));
        }
    }
    let text = format!("\"{}\"", "a".repeat(Payload::MAX_LEN + 1));
    // 65,537 bytes have 87,384 characters of base64, as the 65,536 allowed have.
    let base64 = format!(r#"{{"base64":"{}/wA="}}"#, "////".repeat(65_535 / 3));
    for json in [text, base64] {
        let reason = refused(&plain_with("payload", &json));
        assert!(reason.contains("65537") && reason.contains("65536"), "{reason}");
    }
    let far_too_long = format!(r#"{{"base64":"{}"}}"#, "////".repeat(100_000));
    let reason = refused(&plain_with("payload", &far_too_long));
    assert!(reason.contains("65536"), "{reason}");
}

#[test]
fn the_limits_of_headers_hold() {
    let refused_headers = |json: String| refused(&plain_with("headers", &format!("{{{json}}}")));
    let many = |count| (0..count).map(|n| format!("\"k{n}\":\"\"")).collect::<Vec<_>>().join(",");
    assert_eq!(
        read(&plain_with("headers", &format!("{{{}}}", many(64)))).map(|message| message.headers.len()),
        Ok(64)
    );
    assert!(refused_headers(many(65)).contains("65 headers"));
    assert!(refused_headers(format!("\"k\":\"{}\"", "v".repeat(4_097))).contains("4097"));
    assert!(refused_headers(format!("\"{}\":\"\"", "k".repeat(65))).contains("65 bytes"));
    assert!(refused_headers("\"\":\"\"".into()).contains("key"));
    assert!(refused_headers("\"a b\":\"\"".into()).contains("byte 1"));
    let large = ["a", "b", "c", "d"].map(|key| format!("\"{key}\":\"{}\"", "v".repeat(4_096))).join(",");
    assert!(refused_headers(large).contains("16388"));
}

#[test]
fn only_well_formed_topics_are_read() {
    for topic in ["", "a..b", "a.*", "a b"] {
        let reason = refused(&plain_with("topic", &format!("{topic:?}")));
        assert!(reason.contains("`topic`"), "{reason}");
    }
    let longest = format!("\"{}\"", "t".repeat(255));
    assert!(read(&plain_with("topic", &longest)).is_ok());
    let too_long = format!("\"{}\"", "t".repeat(256));
    assert!(refused(&plain_with("topic", &too_long)).contains("256"));
}

#[test]
fn numbers_ids_and_priorities_out_of_range_are_refused() {
    for (member, value) in [
        ("attempt", "65536"),
        ("attempt", "-1"),
        ("attempt", "1.5"),
        ("attempt", "\"1\""),
        ("attempt", "null"),
        ("priority", "\"High\""),
        ("priority", "0"),
        ("priority", "null"),
        ("id", "\"1\""),
        ("id", "null"),
        ("parent", "\"\""),
        ("correlation", "7"),
        ("correlation", "\"\""),
        ("correlation", "\"a b\""),
        ("headers", "[]"),
        ("headers", "null"),
        ("topic", "null"),
    ] {
        let reason = refused(&plain_with(member, value));
        assert!(reason.contains(&format!("`{member}`")), "{member}={value}: {reason}");
    }
}

#[test]
fn rfc_3339_times_are_read() {
    let time =
        |text: &str| read(&plain_with("published_at", &format!("{text:?}"))).map(|read| read.published_at);
    assert_eq!(time("1970-01-01T00:00:00Z"), Ok(at(0, 0)));
    assert_eq!(time("1970-01-01t00:00:00.5z"), Ok(at(0, 500_000_000)));
    assert_eq!(time("1970-01-01T01:30:00+01:30"), Ok(at(0, 0)));
    assert_eq!(time("1969-12-31T23:59:59.999999999Z"), Ok(at(-1, 999_999_999)));
    assert_eq!(time("2016-12-31T23:59:60Z"), time("2016-12-31T23:59:59Z"), "a leap second");
    assert_eq!(time("0000-01-01T00:00:00Z"), Ok(at(FIRST_SECOND, 0)));
    assert_eq!(time("9999-12-30T22:00:00.999999999Z"), Ok(at(LAST_SECOND, 999_999_999)));
}

#[test]
fn other_times_are_refused() {
    for text in [
        "",
        "now",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-01-01 00:00:00Z",
        "1970-01-01T00:00Z",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00.0000000001Z",
        "1970-01-01T00:00:00,5Z",
        "1970-01-01T00:00:00+01",
        "1970-01-01T00:00:00Z[UTC]",
        "1970-13-01T00:00:00Z",
        "1970-02-30T00:00:00Z",
        "1970-01-01T24:00:00Z",
        "-000001-12-31T23:59:59Z",
        "0000-01-01T00:00:00+00:01",
        "0000-01-01T00:00:59.5+00:01",
        "9999-12-31T00:00:00Z",
        "9999-12-30T22:00:01Z",
        "１970-01-01T00:00:00Z",
    ] {
        let reason = refused(&plain_with("published_at", &format!("{text:?}")));
        assert!(reason.contains("`published_at`"), "{text}: {reason}");
    }
}

#[test]
fn a_time_that_has_no_form_is_an_error_and_no_panic() {
    let extremes = [
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(i64::MAX as u64)),
        SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(i64::MAX as u64)),
        Some(at(FIRST_SECOND - 1, 999_999_999)),
        Some(at(LAST_SECOND + 1, 0)),
    ];
    for time in extremes.into_iter().flatten() {
        let published = JsonMessage { published_at: time, ..plain() };
        let expiring = JsonMessage { expires_at: Some(time), ..plain() };
        for (message, member) in [(published, "`published_at`"), (expiring, "`expires_at`")] {
            match message.to_json() {
                Err(JsonError::Write { reason }) => assert!(reason.contains(member), "{reason}"),
                other => panic!("{time:?} was written: {other:?}"),
            }
        }
    }
}

#[test]
fn no_error_quotes_what_was_read() {
    // As text, as a number, as base64 with a sign that does not belong, as a name, wherever a value could stand.
    let shapes = [
        "\"hunter2",
        "hunter2",
        "20772077",
        "-20772077",
        "2077.2077",
        "2077e2077",
        "[\"hunter2\"]",
        "[20772077]",
        r#"{"hunter2":1}"#,
        r#"{"base64":"hunter2"}"#,
        r#"{"base64":"hunter2~"}"#,
        r#"{"base64":"hunter2hunter2"}"#,
        r#"{"base64":20772077}"#,
        r#"{"base64":"aaaa","hunter2":20772077}"#,
        r#"{"base64":{"hunter2":20772077}}"#,
        r#""hunter2\x""#,
        r#""hunter2\ud800""#,
    ];
    let too_long = format!("\"{}\"", SECRET.repeat(10_000));
    let mut inputs = Vec::new();
    for shape in shapes.into_iter().chain([too_long.as_str()]) {
        inputs.push(plain_with("payload", shape));
        if !shape.starts_with('{') {
            inputs.push(plain_with("headers", shape)); // an object's names would be keys, which may be shown
        }
        inputs.push(plain_with("headers", &format!(r#"{{"k":{shape}}}"#)));
        inputs.push(plain_with("unknown", shape));
        inputs.push(shape.to_owned());
    }
    inputs.push(plain_with("hunter2", "1"));
    for json in inputs {
        let error = read(&json).expect_err(&json);
        let as_value = serde_json::from_str::<serde_json::Value>(&json).ok();
        let from_value = as_value.and_then(|value| serde_json::from_value::<JsonMessage>(value).err());
        let shown = format!("{error} {error:?} {from_value:?}");
        for secret in [SECRET, "2077", "~", "0x7e", "126"] {
            assert!(!shown.contains(secret), "{json:.200} is quoted: {shown}");
        }
    }
}

#[test]
fn debug_output_shows_no_content() {
    let message = JsonMessage {
        payload: Payload::try_from(SECRET).expect("small"),
        headers: headers(&[("k", SECRET.as_bytes())]),
        ..plain()
    };
    let shown = format!("{message:?} {message:#?}");
    assert!(!shown.contains(SECRET) && shown.contains("Payload(7 bytes)"), "{shown}");
}

#[test]
fn ids_and_priorities_are_strings_in_any_form() {
    let id = id(1, 2, 3);
    assert_eq!(serde_json::to_value(id).expect("a string"), id.to_string());
    assert_eq!(serde_json::from_value::<MessageId>(id.to_string().into()).expect("an id"), id);
    assert!(serde_json::from_str::<MessageId>("\"1\"").is_err());
    for &priority in Priority::ALL {
        assert_eq!(serde_json::to_value(priority).expect("a string"), priority.as_str());
        assert_eq!(serde_json::from_value::<Priority>(priority.as_str().into()).expect("a name"), priority);
    }
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..most), "\\PC{0,40}".prop_map(String::into_bytes)]
}

fn ids() -> impl Strategy<Value = MessageId> {
    (1..=u64::MAX, any::<u32>(), any::<u64>())
        .prop_map(|(origin, publisher, sequence)| id(origin, publisher, sequence))
}

fn times() -> impl Strategy<Value = SystemTime> {
    let seconds = prop_oneof![FIRST_SECOND..=LAST_SECOND, -2..=2_i64, Just(FIRST_SECOND), Just(LAST_SECOND)];
    (seconds, 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| at(seconds, nanoseconds))
}

prop_compose! {
    fn messages()(
        id in ids(),
        topic in "[^\\pC\\pZ.*#]{1,10}(\\.[^\\pC\\pZ.*#]{1,10}){0,4}",
        (published_at, expires_at) in (times(), prop::option::of(times())),
        payload in bytes(300),
        pairs in prop::collection::vec(("[!-~]{1,64}", bytes(60)), 0..10),
        (correlation, parent) in (prop::option::of("[!-~]{1,63}"), prop::option::of(ids())),

        priority in prop::sample::select(Priority::ALL),
        attempt in any::<u16>(),
    ) -> JsonMessage {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value): &(String, Vec<u8>)| (key.as_str(), value.as_slice()))
            .collect();
        JsonMessage {
            id, topic, published_at, parent,
            correlation: correlation.map(|text| CorrelationId::new(&text).expect("within the limits")),
            priority, attempt, expires_at,
            payload: Payload::new(&payload).expect("small"),
            headers: headers(&pairs),
        }
    }
}

proptest! {
    #[test]
    fn what_is_read_back_is_what_was_written(message in messages()) {
        let json = message.to_json().expect("it has a form");
        let back = JsonMessage::from_json(&json).expect("it was just written");
        prop_assert_eq!(&back, &message);
        prop_assert!(back.payload == message.payload && back.headers.iter().eq(message.headers.iter()));
        prop_assert_eq!(back.to_json(), Ok(json));
    }

    #[test]
    fn damaged_text_never_panics(message in messages(), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut json = message.to_json().expect("it has a form").into_bytes();
        let place = cut.index(json.len());
        prop_assert!(JsonMessage::from_json(&json[..place]).is_err(), "half a message was read as a whole");
        json[place] = byte;
        // It may by chance be a message still, and then must have a form itself.
        if let Ok(read) = JsonMessage::from_json(&json) {
            prop_assert_eq!(JsonMessage::from_json(read.to_json().expect("it has a form")), Ok(read));
        }
    }
}
