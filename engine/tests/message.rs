//! What messages are made of: every limit at its boundary, what storage is kept and what given up, which texts stand
//! for what, and that nothing shows content where only names and lengths belong.

#![forbid(unsafe_code)]

use proptest::prelude::*;
use ringmain::message::{
    HeaderError, Headers, IntoPayload, MessageId, Origin, ParseMessageIdError, Payload, PayloadTooLarge,
    Priority, PublisherId, TRACEPARENT,
};
use std::{
    borrow::Cow,
    collections::HashSet,
    io::{self, Write as _},
    sync::Arc,
};

/// Stands in payloads and header values, and must turn up nowhere else.
const SECRET: &str = "hunter2";

fn id(origin: u64, publisher: u32, sequence: u64) -> MessageId {
    MessageId::new(Origin::from_u64(origin).expect("not zero"), PublisherId::new(publisher), sequence)
}

fn payload(len: usize) -> Payload {
    Payload::new(&vec![7; len]).expect("within the limit")
}

mod payloads {
    use super::*;

    #[test]
    fn a_payload_is_72_bytes() {
        assert_eq!(size_of::<Payload>(), 72);
    }

    #[test]
    fn content_up_to_64_bytes_takes_no_heap_and_one_more_does() {
        assert_eq!(payload(0).heap_bytes(), 0);
        assert_eq!(payload(Payload::INLINE).heap_bytes(), 0);
        assert!(payload(Payload::INLINE + 1).heap_bytes() > Payload::INLINE);
    }

    #[test]
    fn the_largest_payload_is_taken_and_one_byte_more_is_refused() {
        let largest = vec![1; Payload::MAX_LEN];
        let too_large = vec![1; Payload::MAX_LEN + 1];
        let refused = PayloadTooLarge { len: 65_537, limit: 65_536 };

        assert_eq!(Payload::new(&largest).expect("at the limit").as_slice(), largest);
        assert_eq!(Payload::new(&too_large), Err(refused));
        assert_eq!(Payload::try_from(&too_large[..]), Err(refused));
        assert_eq!(Payload::try_from(too_large.clone()), Err(refused));
        assert_eq!(Payload::try_from("a".repeat(Payload::MAX_LEN + 1).as_str()), Err(refused));

        let mut payload = payload(3);
        assert_eq!(payload.set(&largest), Ok(()));
        assert_eq!(payload.as_slice(), largest);
        assert!(payload.heap_bytes() <= Payload::MAX_LEN);
    }

    #[test]
    fn a_refused_set_leaves_the_old_content() {
        let mut payload = Payload::new(b"old").expect("small");
        assert!(payload.set(&vec![1; Payload::MAX_LEN + 1]).is_err());
        assert_eq!(payload.as_slice(), b"old");
    }

    #[test]
    fn appending_reaches_the_limit_and_not_past_it() {
        let mut payload = payload(Payload::MAX_LEN - 1);
        assert_eq!(
            payload.extend_from_slice(&[1, 2]),
            Err(PayloadTooLarge { len: Payload::MAX_LEN + 1, limit: Payload::MAX_LEN })
        );
        assert_eq!(payload.len(), Payload::MAX_LEN - 1, "a refused append appended something");
        assert_eq!(payload.extend_from_slice(&[1]), Ok(()));
        assert_eq!(payload.len(), Payload::MAX_LEN);
        assert!(payload.extend_from_slice(&[1]).is_err());
        assert_eq!(payload.extend_from_slice(&[]), Ok(()));
    }

    #[test]
    fn the_error_says_both_sizes() {
        let text = PayloadTooLarge { len: 70_000, limit: Payload::MAX_LEN }.to_string();
        assert!(text.contains("70000") && text.contains("65536"), "{text}");
    }

    #[test]
    fn a_retained_buffer_is_used_again() {
        let mut payload = payload(Payload::MAX_RETAINED);
        let (address, size) = (payload.as_ptr(), payload.heap_bytes());
        assert_eq!(size, Payload::MAX_RETAINED);
        for len in [65, 1, 0, 64, 4_000, Payload::MAX_RETAINED] {
            payload.set(&vec![9; len]).expect("small");
            assert_eq!((payload.as_ptr(), payload.heap_bytes(), payload.len()), (address, size, len));
        }
        payload.clear();
        assert_eq!((payload.as_ptr(), payload.heap_bytes(), payload.len()), (address, size, 0));
        payload.clone_from(&super::payload(2_000));
        assert_eq!((payload.as_ptr(), payload.heap_bytes(), payload.len()), (address, size, 2_000));
    }

    #[test]
    fn a_large_buffer_serves_large_content_again() {
        let mut payload = payload(60_000);
        let address = payload.as_ptr();
        payload.set(&[1; Payload::MAX_RETAINED + 1]).expect("large");
        assert_eq!(payload.as_ptr(), address);
    }

    #[test]
    fn a_large_buffer_is_given_up_for_content_that_does_not_need_it() {
        for len in [0, 1, Payload::INLINE, Payload::INLINE + 1, Payload::MAX_RETAINED] {
            let mut by_set = payload(Payload::MAX_RETAINED + 1);
            by_set.set(&vec![9; len]).expect("small");
            assert!(by_set.heap_bytes() <= Payload::MAX_RETAINED, "{} kept for {len}", by_set.heap_bytes());
            assert_eq!(by_set.as_slice(), vec![9; len]);

            let mut by_clone = payload(Payload::MAX_LEN);
            by_clone.clone_from(&by_set);
            assert!(
                by_clone.heap_bytes() <= Payload::MAX_RETAINED,
                "{} kept for {len}",
                by_clone.heap_bytes()
            );
            assert_eq!(by_clone, by_set);
        }
        let mut cleared = payload(Payload::MAX_RETAINED + 1);
        cleared.clear();
        assert_eq!((cleared.heap_bytes(), cleared.len()), (0, 0));
    }

    #[test]
    fn a_vector_hands_over_its_buffer_unless_it_is_larger_than_a_payload_may_keep() {
        let vector = vec![1; 1_000];
        let address = vector.as_ptr();
        assert_eq!(Payload::try_from(vector).expect("small").as_ptr(), address);

        for (len, capacity, most) in [
            (Payload::INLINE, Payload::INLINE + 100, 0),
            (1_000, Payload::MAX_RETAINED + 1, Payload::MAX_RETAINED),
            (5_000, Payload::MAX_LEN + 1, Payload::MAX_LEN),
        ] {
            let mut vector = Vec::with_capacity(capacity);
            vector.resize(len, 1);
            let payload = Payload::try_from(vector).expect("small");
            assert!(payload.heap_bytes() <= most, "{} kept for {len}", payload.heap_bytes());
            assert_eq!(payload.as_slice(), vec![1; len]);
        }
    }

    #[test]
    fn writing_appends_and_refuses_whole_what_does_not_fit() {
        let mut payload = Payload::default();
        write!(payload, "{}-{}", 1, 2).expect("fits");
        payload.flush().expect("nothing to do");
        assert_eq!(payload.as_str(), Some("1-2"));

        payload.set(&vec![0; Payload::MAX_LEN - 2]).expect("at the limit");
        let error = payload.write(&[1, 2, 3]).expect_err("past the limit");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<PayloadTooLarge>());
        assert_eq!(cause, Some(&PayloadTooLarge { len: Payload::MAX_LEN + 1, limit: Payload::MAX_LEN }));
        assert_eq!(payload.len(), Payload::MAX_LEN - 2);

        payload.write_all(&[1, 2]).expect("fills it");
        assert_eq!(payload.write_all(&[3]).map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
    }

    #[test]
    fn text_is_read_only_from_utf_8() {
        assert_eq!(Payload::try_from("é").expect("small").as_str(), Some("é"));
        assert_eq!(Payload::new(&[0xff]).expect("small").as_str(), None);
    }

    #[test]
    fn equality_is_that_of_the_content() {
        let mut spilled = payload(100);
        spilled.set(b"same").expect("small");
        assert_eq!(spilled, Payload::new(b"same").expect("small"));
        assert_ne!(spilled, Payload::new(b"other").expect("small"));
    }

    #[test]
    fn debug_output_is_the_length_alone() {
        assert_eq!(format!("{:?}", Payload::try_from(SECRET).expect("small")), "Payload(7 bytes)");
        assert_eq!(format!("{:#?}", payload(65)), "Payload(65 bytes)");
    }

    fn published(slot: &mut Payload, what: impl IntoPayload<Payload>) -> Result<(), PayloadTooLarge> {
        what.check()?;
        what.write_into(slot);
        Ok(())
    }

    #[test]
    fn every_source_is_written_in_place() {
        let mut slot = payload(1_000);
        let address = slot.as_ptr();
        let (vector, string) = (vec![1, 2], String::from("string"));
        published(&mut slot, &[5; 3][..]).expect("slice");
        assert_eq!(*slot, [5; 3]);
        published(&mut slot, [6; 4]).expect("array");
        assert_eq!(*slot, [6; 4]);
        published(&mut slot, "text").expect("text");
        assert_eq!(*slot, *b"text");
        published(&mut slot, &vector).expect("vector");
        assert_eq!(*slot, *vector);
        published(&mut slot, &string).expect("string");
        assert_eq!(*slot, *string.as_bytes());
        published(&mut slot, vec![8; 6]).expect("vector by value");
        assert_eq!(*slot, [8; 6]);
        published(&mut slot, format!("{}", 42)).expect("string by value");
        assert_eq!(*slot, *b"42");
        published(&mut slot, [12_u8; 5]).expect("array by value");
        assert_eq!(*slot, [12; 5]);
        published(&mut slot, Box::<[u8]>::from([9; 7])).expect("boxed bytes");
        assert_eq!(*slot, [9; 7]);
        published(&mut slot, Box::<str>::from("boxed")).expect("boxed text");
        assert_eq!(*slot, *b"boxed");
        published(&mut slot, Arc::<[u8]>::from([10; 8])).expect("shared bytes");
        assert_eq!(*slot, [10; 8]);
        published(&mut slot, Arc::<str>::from("shared")).expect("shared text");
        assert_eq!(*slot, *b"shared");
        published(&mut slot, Cow::from(&[11_u8; 9][..])).expect("bytes of either kind");
        assert_eq!(*slot, [11; 9]);
        published(&mut slot, Cow::from("either")).expect("text of either kind");
        assert_eq!(*slot, *b"either");
        assert_eq!(slot.as_ptr(), address, "a copy replaced the buffer");
        published(&mut slot, Payload::new(b"moved").expect("small")).expect("payload");
        assert_eq!(*slot, *b"moved");
    }

    #[test]
    fn every_source_is_checked_at_its_boundary() {
        const OVER: usize = Payload::MAX_LEN + 1;
        let refused = Err(PayloadTooLarge { len: OVER, limit: Payload::MAX_LEN });
        let (vector, string) = (vec![b'a'; OVER], "a".repeat(OVER));
        let array: &[u8; OVER] = vector.as_slice().try_into().expect("of that length");
        let mut slot = Payload::new(b"old").expect("small");

        assert_eq!(published(&mut slot, &vector[..]), refused);
        assert_eq!(published(&mut slot, array), refused);
        assert_eq!(published(&mut slot, *array), refused);
        assert_eq!(published(&mut slot, string.as_str()), refused);
        assert_eq!(published(&mut slot, &vector), refused);
        assert_eq!(published(&mut slot, &string), refused);
        assert_eq!(published(&mut slot, vector.clone()), refused);
        assert_eq!(published(&mut slot, string.clone()), refused);
        assert_eq!(published(&mut slot, Box::<[u8]>::from(&vector[..])), refused);
        assert_eq!(published(&mut slot, Box::<str>::from(&string[..])), refused);
        assert_eq!(published(&mut slot, Arc::<[u8]>::from(&vector[..])), refused);
        assert_eq!(published(&mut slot, Arc::<str>::from(&string[..])), refused);
        assert_eq!(published(&mut slot, Cow::from(&vector)), refused);
        assert_eq!(published(&mut slot, Cow::from(&string)), refused);
        assert_eq!(*slot, *b"old", "a refused source reached the slot");

        assert_eq!(published(&mut slot, &vector[1..]), Ok(()));
        assert_eq!(slot.len(), Payload::MAX_LEN);
    }

    /// What [`IntoPayload`] asks of its caller; a slot that kept its old content would publish another's message.
    #[test]
    fn too_much_written_without_a_check_is_caught_in_debug_builds_and_leaves_no_old_content() {
        let mut slot = Payload::new(b"old").expect("small");
        let too_large = vec![0; Payload::MAX_LEN + 1];
        let written =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (&too_large).write_into(&mut slot)));
        assert_eq!(written.is_err(), cfg!(debug_assertions));
        if written.is_ok() {
            assert!(slot.is_empty());
        }
    }

    #[test]
    fn any_type_is_published_as_itself() {
        fn write<P>(slot: &mut P, what: impl IntoPayload<P>) {
            assert_eq!(what.check(), Ok(()));
            what.write_into(slot);
        }
        let mut slot = (1, String::from("old"));
        write(&mut slot, (2, String::from("new")));
        assert_eq!(slot, (2, String::from("new")));
    }

    /// A step in the life of a slot.
    #[derive(Clone, Debug)]
    enum Step {
        Set(usize),
        Append(usize),
        CopyOf(usize),
        From(usize, usize),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let len = || prop_oneof![0..200_usize, 4_000..4_200_usize, 65_400..65_700_usize];
        let step = prop_oneof![
            len().prop_map(Step::Set),
            len().prop_map(Step::Append),
            (0..=Payload::MAX_LEN).prop_map(Step::CopyOf),
            (len(), len()).prop_map(|(len, spare)| Step::From(len, spare)),
            Just(Step::Clear),
        ];
        prop::collection::vec(step, 0..12)
    }

    proptest! {
        #[test]
        fn a_slot_holds_what_was_put_and_never_more_storage_than_allowed(steps in steps()) {
            let mut payload = Payload::default();
            let mut expected = Vec::new();
            for (mark, step) in (1_u8..).zip(steps) {
                match step {
                    Step::Set(len) => {
                        let content = vec![mark; len];
                        if payload.set(&content).is_ok() {
                            expected = content;
                        } else {
                            prop_assert!(len > Payload::MAX_LEN);
                        }
                    }
                    Step::Append(len) => {
                        if payload.extend_from_slice(&vec![mark; len]).is_ok() {
                            expected.resize(expected.len() + len, mark);
                        } else {
                            prop_assert!(expected.len() + len > Payload::MAX_LEN);
                        }
                    }
                    Step::CopyOf(len) => {
                        expected = vec![mark; len];
                        payload.clone_from(&Payload::new(&expected).expect("within the limit"));
                    }
                    Step::From(len, spare) => {
                        let mut vector = Vec::with_capacity(len + spare);
                        vector.resize(len, mark);
                        if let Ok(made) = Payload::try_from(vector) {
                            (payload, expected) = (made, vec![mark; len]);
                        } else {
                            prop_assert!(len > Payload::MAX_LEN);
                        }
                    }
                    Step::Clear => {
                        payload.clear();
                        expected.clear();
                    }
                }
                prop_assert!(payload.as_slice() == expected);
                let most = match expected.len() <= Payload::MAX_RETAINED {
                    true => Payload::MAX_RETAINED,
                    false => Payload::MAX_LEN,
                };
                prop_assert!(payload.heap_bytes() <= most, "{} kept for {}", payload.heap_bytes(), expected.len());
            }
        }
    }
}

mod headers {
    use super::*;

    #[test]
    fn a_key_has_1_to_64_bytes() {
        let mut headers = Headers::new();
        assert_eq!(headers.insert("", "v"), Err(HeaderError::EmptyKey));
        assert_eq!(headers.insert("k", "v"), Ok(()));
        assert_eq!(headers.insert(&"k".repeat(64), "v"), Ok(()));
        assert!(matches!(
            headers.insert(&"k".repeat(65), "v"),
            Err(HeaderError::KeyTooLong { len: 65, limit: 64, .. })
        ));
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn a_key_is_printable_ascii_without_spaces() {
        let mut headers = Headers::new();
        let every: String = ('!'..='~').collect();
        for part in every.as_bytes().chunks(60) {
            let key = str::from_utf8(part).expect("ASCII");
            assert_eq!(headers.insert(key, ""), Ok(()));
        }
        for bad in [' ', '\t', '\n', '\0', '\u{7f}', 'é', '\u{200b}'] {
            let refused = headers.insert(&format!("ab{bad}c"), "v");
            assert!(
                matches!(refused, Err(HeaderError::KeyNotPrintable { position: 2, .. })),
                "{bad:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_value_has_up_to_4_kib() {
        let mut headers = Headers::new();
        assert_eq!(headers.insert("empty", ""), Ok(()));
        assert_eq!(headers.get("empty"), Some(&[][..]));
        assert_eq!(headers.insert("k", vec![0xff; 4_096]), Ok(()));
        let refused = headers.insert("k", vec![0; 4_097]);
        assert_eq!(refused, Err(HeaderError::ValueTooLong { key: "k".into(), len: 4_097, limit: 4_096 }));
        assert_eq!(headers.get("k"), Some(&[0xff; 4_096][..]), "a refused value replaced the old one");
    }

    #[test]
    fn there_are_up_to_64_headers() {
        let mut headers = Headers::new();
        for number in 0..64 {
            assert_eq!(headers.insert(&format!("k{number}"), "v"), Ok(()));
        }
        let refused = headers.insert("one-more", "v");
        assert_eq!(refused, Err(HeaderError::TooMany { key: "one-more".into(), count: 65, limit: 64 }));
        assert_eq!(headers.insert("k63", "replaced"), Ok(()), "a replacement adds no header");
        assert!(headers.remove("k0"));
        assert_eq!(headers.insert("one-more", "v"), Ok(()));
    }

    #[test]
    fn keys_and_values_have_up_to_16_kib_together() {
        let mut headers = Headers::new();
        for key in ["a", "b", "c"] {
            headers.insert(key, vec![0; 4_096]).expect("within the limit");
        }
        headers.insert("d", vec![0; 4_096 - 4]).expect("at the limit");
        assert_eq!(headers.total_bytes(), Headers::MAX_TOTAL_BYTES);

        let refused = |key: &str, total| {
            Err(HeaderError::TotalTooLarge { key: key.into(), total, limit: Headers::MAX_TOTAL_BYTES })
        };
        assert_eq!(headers.insert("e", ""), refused("e", 16_385));
        assert_eq!(headers.insert("d", vec![0; 4_096 - 3]), refused("d", 16_385));
        assert_eq!(headers.insert("a", vec![1; 4_096]), Ok(()), "a replacement frees what it replaces");
        assert_eq!(headers.insert("a", vec![1; 4_095]), Ok(()));
        assert_eq!(headers.insert("e", ""), Ok(()));
        assert_eq!(headers.total_bytes(), Headers::MAX_TOTAL_BYTES);
    }

    #[test]
    fn errors_say_what_was_asked_and_what_is_allowed_and_cut_long_keys() {
        let mut headers = Headers::new();
        let text = headers.insert("k", vec![0; 5_000]).expect_err("too long").to_string();
        assert!(text.contains("5000") && text.contains("4096") && text.contains(r#""k""#), "{text}");

        let text = headers.insert(&"é".repeat(100_000), "v").expect_err("too long").to_string();
        assert!(text.contains("200000") && text.contains("64"), "{text}");
        assert!(text.len() < 300, "a long key is repeated whole: {} bytes", text.len());

        let text = headers.insert("a\nb", "v").expect_err("a line break").to_string();
        assert!(!text.contains('\n'), "a key broke the line: {text}");
    }

    #[test]
    fn a_replaced_header_keeps_its_place() {
        let mut headers = Headers::new();
        for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("b", "longer than before")] {
            headers.insert(key, value).expect("small");
        }
        let expected: [(&str, &[u8]); 3] = [("a", b"1"), ("b", b"longer than before"), ("c", b"3")];
        assert!(headers.iter().eq(expected));
        assert!(headers.iter().rev().eq(expected.into_iter().rev()));
        assert_eq!(headers.iter().len(), 3);
    }

    #[test]
    fn keys_are_case_sensitive() {
        let mut headers = Headers::new();
        headers.insert(TRACEPARENT, "v").expect("small");
        assert!(headers.contains_key("traceparent"));
        assert_eq!(headers.get("Traceparent"), None);
    }

    #[test]
    fn text_is_read_only_from_utf_8() {
        let mut headers = Headers::new();
        headers.insert("text", "é").expect("small");
        headers.insert("bytes", [0xff]).expect("small");
        assert_eq!(headers.get_str("text"), Some("é"));
        assert_eq!(headers.get_str("bytes"), None);
        assert_eq!(headers.get_str("none"), None);
    }

    #[test]
    fn nothing_shows_a_value() {
        let mut headers = Headers::new();
        headers.insert("password", SECRET).expect("small");
        assert_eq!(format!("{headers:?}"), r#"{"password": 7 bytes}"#);
        let mut shown = vec![format!("{headers:#?}"), format!("{:?}", headers.iter())];
        let errors = [
            headers.insert("", SECRET),
            headers.insert("k k", SECRET),
            headers.insert(&"k".repeat(65), SECRET),
            headers.insert("k", SECRET.repeat(1_000)),
        ];
        for error in errors.map(|refused| refused.expect_err("refused")) {
            shown.push(format!("{error} {error:?}"));
        }
        for text in shown {
            assert!(!text.contains(SECRET), "{text}");
        }
    }

    fn a_few_keys() -> impl Strategy<Value = String> {
        prop_oneof![Just("a".into()), Just("bb".into()), Just("ccc".into()), "[!-~]{1,64}"]
    }

    proptest! {
        #[test]
        fn headers_behave_as_a_list_of_pairs(
            steps in prop::collection::vec(
                (a_few_keys(), prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..40))), 0..60)
        ) {
            let mut headers = Headers::new();
            let mut expected: Vec<(String, Vec<u8>)> = Vec::new();
            for (key, value) in steps {
                let place = expected.iter().position(|(known, _)| *known == key);
                match (value, place) {
                    (Some(value), place) => {
                        prop_assert_eq!(headers.insert(&key, &value), Ok(()));
                        match place {
                            Some(place) => expected[place].1 = value,
                            None => expected.push((key, value)),
                        }
                    }
                    (None, Some(place)) => {
                        prop_assert!(headers.remove(&key));
                        expected.remove(place);
                    }
                    (None, None) => prop_assert!(!headers.remove(&key)),
                }
                let pairs = expected.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
                prop_assert!(headers.iter().eq(pairs));
                prop_assert_eq!(headers.len(), expected.len());
                let bytes: usize = expected.iter().map(|(key, value)| key.len() + value.len()).sum();
                prop_assert_eq!(headers.total_bytes(), bytes);
                for (key, value) in &expected {
                    prop_assert_eq!(headers.get(key), Some(value.as_slice()));
                }
            }

            let mut rebuilt = Headers::new();
            for (key, value) in &headers {
                rebuilt.insert(key, value).expect("it was there");
            }
            prop_assert_eq!(&rebuilt, &headers, "equal lists of pairs are equal headers, whatever their past");
            let mut copy = Headers::new();
            copy.insert("old", "content").expect("small");
            copy.clone_from(&headers);
            prop_assert_eq!(&copy, &headers);
            headers.clear();
            prop_assert!(headers.is_empty() && headers == Headers::new());
        }
    }
}

mod ids {
    use super::*;

    #[test]
    fn the_text_has_a_fixed_width() {
        assert_eq!(id(1, 0, 0).to_string(), "0000000000000001-00000000-0000000000000000");
        assert_eq!(
            id(u64::MAX, u32::MAX, u64::MAX).to_string(),
            "ffffffffffffffff-ffffffff-ffffffffffffffff"
        );
        assert_eq!(id(1, 0, 0).to_string().len(), MessageId::TEXT_LEN);
        assert_eq!(format!("{:?}", id(1, 2, 3)), "MessageId(0000000000000001-00000002-0000000000000003)");
    }

    #[test]
    fn a_malformed_text_is_refused_for_what_is_wrong_where() {
        use ParseMessageIdError::*;
        let cases = [
            ("", Length { len: 0 }),
            ("0000000000000001-00000002-000000000000003", Length { len: 41 }),
            ("0000000000000001-00000002-00000000000000003", Length { len: 43 }),
            ("0000000000000001+00000002-0000000000000003", Dash { position: 16 }),
            ("0000000000000001-000000020-000000000000003", Dash { position: 25 }),
            ("000000000000000A-00000002-0000000000000003", Digit { position: 15 }),
            ("0000000000000001-+0000002-0000000000000003", Digit { position: 17 }),
            ("0000000000000001-00000002-000000000000000g", Digit { position: 41 }),
            ("0000000000000001-00000002-00000000000000é", Digit { position: 40 }),
            ("0000000000000000-00000002-0000000000000003", ZeroOrigin),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<MessageId>(), Err(error), "{text}");
        }
    }

    #[test]
    fn gaps_are_counted_within_one_publisher() {
        assert_eq!(id(1, 2, 4).missing_since(id(1, 2, 3)), Some(0));
        assert_eq!(id(1, 2, 9).missing_since(id(1, 2, 3)), Some(5));
        assert_eq!(id(1, 2, u64::MAX).missing_since(id(1, 2, 0)), Some(u64::MAX - 1));
        assert_eq!(id(1, 2, 3).missing_since(id(1, 2, 3)), None, "the same message");
        assert_eq!(id(1, 2, 3).missing_since(id(1, 2, 4)), None, "an earlier one");
        assert_eq!(id(1, 2, 4).missing_since(id(1, 3, 3)), None, "another publisher");
        assert_eq!(id(1, 2, 4).missing_since(id(2, 2, 3)), None, "another broker");
    }

    #[test]
    fn origins_differ_within_a_thread_and_between_threads() {
        let draw = || (0..500).map(|_| Origin::random()).collect::<Vec<_>>();
        let threads = [(); 4].map(|()| std::thread::spawn(draw));
        let mut seen: HashSet<Origin> = draw().into_iter().collect();
        for thread in threads {
            seen.extend(thread.join().expect("it drew"));
        }
        assert_eq!(seen.len(), 2_500);
        let (all, any) =
            seen.iter().fold((!0, 0), |(all, any), origin| (all & origin.get(), any | origin.get()));
        assert_eq!((all, any), (0, !0), "a bit of the origin never changes");
    }

    #[test]
    fn zero_is_no_origin() {
        assert_eq!(Origin::from_u64(0), None);
        assert_eq!(Origin::from_u64(9).map(Origin::get), Some(9));
    }

    fn ids() -> impl Strategy<Value = MessageId> {
        (1..=u64::MAX, any::<u32>(), any::<u64>())
            .prop_map(|(origin, publisher, sequence)| id(origin, publisher, sequence))
    }

    proptest! {
        #[test]
        fn a_text_stands_for_its_id_and_sorts_as_it_does(first in ids(), second in ids()) {
            prop_assert_eq!(first.to_string().parse(), Ok(first));
            prop_assert_eq!(first.cmp(&second), first.to_string().cmp(&second.to_string()));
            let parts = |id: MessageId| (id.origin().get(), id.publisher().get(), id.sequence());
            prop_assert_eq!(first.cmp(&second), parts(first).cmp(&parts(second)));
        }

        #[test]
        fn whatever_text_is_read_is_the_text_of_its_id(
            text in "[0-9a-fA-F+g-]{16}-[0-9a-f]{8}-[0-9a-f]{16}|\\PC{0,50}",
        ) {
            if let Ok(id) = text.parse::<MessageId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}

mod priorities {
    use super::*;
    use ringmain::message::ParsePriorityError;

    #[test]
    fn every_priority_has_one_name() {
        for &priority in Priority::ALL {
            assert_eq!(priority.to_string().parse(), Ok(priority));
            assert_eq!(Priority::ALL[priority.index()], priority);
        }
        for text in ["", "High", "urgent", "low "] {
            assert_eq!(text.parse::<Priority>(), Err(ParsePriorityError));
        }
    }

    #[test]
    fn a_priority_is_one_byte() {
        assert_eq!(size_of::<Priority>(), 1);
    }
}
