//! `ingest` of folders with mixed content.

use std::fs;

use framepress::internals::image::Format;
use framepress::internals::wire::proto::ProcessedFrame;
use prost::Message;

use super::{complains, framepress, says};
use crate::support::{INPUT, OUTPUT, RedisServer, Sample};

#[test]
fn one_bad_file_in_a_folder_costs_that_file() {
    let server = RedisServer::start();
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let good = Sample::colour(48, 32, 1).encode(Format::Jpeg);
    put("frame1.jpg", &good);
    put("frame2.jpg", b"this is no picture");
    put("frame3.jpg", &good);
    put("frame4.png", b"");
    put("frame10.jpg", &good);
    put("._frame1.jpg", b"of another system");
    put(".hidden.png", b"not meant to be seen");
    fs::create_dir(folder.path().join("frame5.jpg")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("frame6.jpg")).unwrap();
    let source = folder.path().to_str().unwrap();
    let arguments = ["ingest", "--redis-url", &url, "--camera", "c", "--source", source];
    let said = complains(1, &[&arguments[..], &["--fps", "0"]].concat());
    assert_eq!(server.len(INPUT), 3, "{said}");
    for part in ["skipped frame2.jpg: ", "skipped frame4.png: ", "2 files were skipped"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(!said.contains("frame1.jpg") && !said.contains("hidden"), "{said}");

    // Pictures that must be re-encoded are decoded, so truncated ones are detected.
    put("frame2.jpg", &good[..good.len() / 2]);
    put("frame4.png", &Sample::colour(48, 32, 1).encode(Format::Png));
    let said = complains(1, &[&arguments[..], &["--fps", "0", "--format", "raw"]].concat());
    assert_eq!(server.len(INPUT), 3 + 4, "{said}");
    assert!(said.contains("skipped frame2.jpg") && said.contains("1 file was skipped"), "{said}");

    fs::remove_file(folder.path().join("frame2.jpg")).unwrap();
    says(0, &[&arguments[..], &["--fps", "0"]].concat());
    assert_eq!(server.len(INPUT), 3 + 4 + 4);
}

#[test]
fn a_folder_without_a_good_file_ends_even_in_a_loop() {
    let server = RedisServer::start();
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.jpg", "b.jpg", "c.webp"] {
        fs::write(folder.path().join(name), b"no picture").unwrap();
    }
    let source = folder.path().to_str().unwrap();
    let arguments = ["ingest", "--redis-url", &url, "--camera", "c", "--source", source, "--loop"];
    let said = complains(1, &[&arguments[..], &["--fps", "0"]].concat());
    assert!(said.contains("3 files were skipped"), "{said}");
    assert_eq!(said.matches("skipped a.jpg").count(), 1, "{said}");
}

#[test]
fn an_entry_that_cannot_be_saved_costs_that_entry() {
    let server = RedisServer::start();
    let url = server.url();
    let sample = Sample::colour(48, 32, 1);
    let add = |camera: &str, frame: &dyn Fn(&mut ProcessedFrame)| {
        let mut message = ProcessedFrame {
            camera_id: camera.into(),
            frame_id: "f".into(),
            original_image: Some(sample.image(Format::Jpeg)),
            ..Default::default()
        };
        frame(&mut message);
        let command = redis::cmd("XADD")
            .arg(OUTPUT)
            .arg("*")
            .arg("data")
            .arg(message.encode_to_vec())
            .to_owned();
        let _: String = server.ask(&command);
    };
    let long = "k".repeat(250);
    add(&format!("{long}1"), &|_| {});
    add(&format!("{long}2"), &|_| {});
    add("raw", &|frame| {
        let image = frame.original_image.as_mut().unwrap();
        image.compression_format = "raw".into();
    });
    add("last", &|_| {});
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("saved");
    let arguments = ["inspect", "--redis-url", &url, "--save", target.to_str().unwrap()];
    let output = framepress(&arguments, &[]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("1 entry was not saved"), "{error}");
    let mut names: Vec<_> = fs::read_dir(&target)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[0].starts_with("kkk") && names[1].starts_with("kkk"), "{names:?}");
    assert!(names[2].starts_with("last-"), "{names:?}");
    let stem = |name: &str| name.split_once('~').unwrap().1.split('-').next().unwrap().to_owned();
    assert_ne!(stem(&names[0]), stem(&names[1]), "of different cameras");
}
