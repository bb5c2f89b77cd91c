use super::*;
use crate::base::Reason;
use crate::wire::open::{Scratch, open};
use proptest::prelude::*;

fn check(json: &str, expected: Result<(i32, i32, i32, &[u8]), Reason>) {
    let mut scratch = Scratch::default();
    let got = open(json.as_bytes(), 8, &mut scratch);
    match (got, expected) {
        (Ok(frame), Ok((width, height, channels, bytes))) => {
            let image = frame.image;
            assert_eq!((image.width, image.height, image.channels), (width, height, channels));
            assert_eq!(image.bytes, bytes, "{json}");
            let camera = camera_of(json.as_bytes());
            assert_eq!(camera.as_deref().unwrap_or(""), frame.camera_id, "{json}");
        }
        (Err(reject), Err(reason)) => assert_eq!(reject.reason, reason, "{json}: {reject}"),
        (got, expected) => panic!("{json}: got {got:?}, expected {expected:?}"),
    }
}

#[test]
fn pictures_are_unpacked_from_either_form() {
    check(r#"{"frame_id":"f","camera_id":"c","image_base64":"AQID"}"#, Ok((0, 0, 0, &[1, 2, 3])));
    check(r#"{"image_array":[[1,2],[3,4]],"camera_id":"\u0063"}"#, Ok((2, 2, 1, &[1, 2, 3, 4])));
    check(r#"{"image_array":[[[1,2,3]],[[4,5,6]]]}"#, Ok((1, 2, 3, &[1, 2, 3, 4, 5, 6])));
    check(
        r#" {"image_array":null,"image_base64":"AQID","x":{"camera_id":1}}"#,
        Ok((0, 0, 0, &[1, 2, 3])),
    );
}

#[test]
fn broken_frames_are_refused_with_a_reason() {
    for json in [
        "{",
        "{}",
        "[]",
        r#"{"image_base64":"A"}"#,
        r#"{"image":7}"#,
        r#"{"image_base64":7}"#,
        r#"{"image_array":[]}"#,
        r#"{"image_array":[[]]}"#,
        r#"{"image_array":[[1,2],[3]]}"#,
        r#"{"image_array":[[1,256]]}"#,
        r#"{"image_array":[[-1]]}"#,
        r#"{"image_array":[[256.5]]}"#,
        r#"{"image_array":[[NaN]]}"#,
        r#"{"image_array":[[[1,2]]]}"#,
        r#"{"image_array":[[[1,2,3,4]]]}"#,
        r#"{"image_array":[[1,[1,2,3]]]}"#,
        r#"{"image_array":"no"}"#,
        r#"{"camera_id":["a"],"image_base64":"AQID"}"#,
        r#"{"frame_id":true,"image_base64":"AQID"}"#,
        r#"{"image_base64":"AQID"} trailing"#,
    ] {
        check(json, Err(Reason::Undecodable));
    }
    check(r#"{"image_array":[[1,2,3,4,5,6,7,8,9]]}"#, Err(Reason::TooLarge));
}

#[test]
fn what_python_took_is_taken() {
    let bytes: Result<_, Reason> = Ok((0, 0, 0, &[1, 2, 3][..]));
    for json in [
        r#"{"camera_id":"a","camera_id":"b","image_base64":"AQID"}"#,
        r#"{"camera_id":"a","image_base64":"AQID","camera\u005fid":"b"}"#,
        r#"{"camera_id":"a","image_base64":"AQ\/=","camera_id":7,"image_base64":"AQID"}"#,
        r#"{"camera_id":17,"frame_id":1.50,"image":"AQID"}"#,
        r#"{"image":{"a":1},"camera_id":null,"image_base64":"AQID","image_array":null}"#,
        r#"{"image":"BBBB","image_base64":"AQID"}"#,
        r#"{"gps":NaN,"camera_id":"a","x":[Infinity,-Infinity],"image_base64":"AQID"}"#,
        r#"{"huge":1e999,"camera_id":"a","image_base64":"AQID","lone":"\ud800"}"#,
        "\u{feff}{\"camera_id\":\"a\",\"image_base64\":\"AQID\"}\0\0",
        "{\"camera_id\":\"a\",\"image_base64\":\"AQ\\nID\\r\\n\"}\n\0",
        r#"{"camera_id":"a","image_base64":"data:image/png;base64,AQID"}"#,
    ] {
        check(json, bytes);
    }
    check(r#"{"image_array":[[[1],[2.0]],[[3.7],[true]]]}"#, Ok((2, 2, 1, &[1, 2, 3, 1])));
    check(r#"{"image_array":[[9]],"image_array":[[[1,2.0,3]]]}"#, Ok((1, 1, 3, &[1, 2, 3])));
    let ids = |json: &str| {
        let mut scratch = Scratch::default();
        let frame = open(json.as_bytes(), 8, &mut scratch).unwrap();
        (frame.frame_id.to_string(), frame.camera_id.to_string())
    };
    let numbers = ids(r#"{"frame_id":123,"camera_id":1.50,"image":"AQID"}"#);
    assert_eq!(numbers, ("123".to_owned(), "1.50".to_owned()));
    assert_eq!(ids(r#"{"camera_id":"a","camera_id":"b","image":"AQID"}"#).1, "b");
    let utf16: Vec<u8> =
        r#"{"camera_id":"ä","image":"AQID"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut scratch = Scratch::default();
    assert_eq!(open(&utf16, 8, &mut scratch).unwrap().camera_id, "ä");
    assert_eq!(camera_of(&utf16).as_deref(), Some("ä"));
}

#[test]
fn times_are_numbers_or_iso_8601_and_others_are_told() {
    let time = |value: &str| {
        let json = format!(r#"{{"timestamp":{value},"image":"AQID"}}"#);
        let mut scratch = Scratch::default();
        let frame = open(json.as_bytes(), 8, &mut scratch).unwrap();
        (frame.timestamp, frame.is_time_unclear)
    };
    for value in ["1700000000.5", r#""1700000000.5""#, r#""2023-11-14T22:13:20.5Z""#] {
        assert_eq!(time(value), (Some(1_700_000_000.5), false), "{value}");
    }
    assert_eq!(time("null"), (None, false));
    for value in [r#""yesterday""#, "NaN", "1e999", "[1]", "true", r#""""#] {
        assert_eq!(time(value), (None, true), "{value}");
    }
}

proptest! {
    #[test]
    fn no_text_whatever_causes_a_panic(text in "[\\[\\]{},:\"0-9a-z_ ]{0,80}") {
        let text = format!("{{{text}");
        let mut scratch = Scratch::default();
        let _ = open(text.as_bytes(), 8, &mut scratch);
        let _ = camera_of(text.as_bytes());
    }
}
