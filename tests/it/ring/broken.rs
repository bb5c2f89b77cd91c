//! Invalid rings and references: none ends or stalls the engine, and none makes it read elsewhere.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use framepress::internals::ring::{Reference, Ring, RingHeader, RingOptions, SlotHead};
use framepress::internals::wire::proto::{ImageData, ProcessedFrame};
use prost::Message;

use super::{pixels, ring, rings_folder};
use crate::support::{Fields, LONG, RedisServer, RunningEngine, data, wait_until};

const RGB: usize = 64 * 48 * 3;

/// How an entry ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Out,
    Overwritten,
    DeadLetter(&'static str, &'static str),
}

use End::{DeadLetter, Out, Overwritten};

fn gone(detail: &'static str) -> End {
    DeadLetter("ring_gone", detail)
}

/// An entry with a reference.
fn entry(frame_id: &str, reference: impl std::fmt::Display) -> Fields {
    let image = ImageData {
        width: 64,
        height: 48,
        channels: 3,
        compression_format: "rgb24".into(),
        ..ImageData::default()
    };
    let frame = ProcessedFrame {
        frame_id: frame_id.into(),
        camera_id: "cam".into(),
        original_image: Some(image),
        ..ProcessedFrame::default()
    };
    let mut fields = data(frame.encode_to_vec());
    fields.push(("ring".into(), reference.to_string().into_bytes()));
    fields
}

/// A new ring with one frame in slot 1.
fn sound(folder: &Path, name: &str) -> (Ring, Reference) {
    let mut made = Ring::create(&ring(folder, name, 3)).unwrap();
    let reference = made.write(1, &pixels(RGB, 1)).unwrap();
    (made, reference)
}

/// Writes into the file of a ring behind its producer's back.
fn scribble(folder: &Path, name: &str, at: u64, bytes: &[u8]) {
    let path = folder.join(format!("{name}.ring"));
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Sends each entry alone, beside a valid one, to one running engine.
#[track_caller]
fn check(folder: &Path, cases: Vec<(&'static str, Fields, End)>) {
    let server = RedisServer::start();
    let dir = folder.display().to_string();
    let flags = [("ring.dir", &*dir), ("limits.max_payload_bytes", "100000")];
    let engine = RunningEngine::start(&server, &flags);
    let (_own, sound) = sound(folder, "sound");
    for (name, fields, end) in cases {
        let before = engine.account();
        server.add(&fields);
        server.add(&entry("sound", &sound));
        server.wait_until_done();
        // The server knows that a frame has ended before the engine counts it.
        wait_until("everything is counted", LONG, || engine.account().in_flight == 0);
        let after = engine.account();
        let sound = 1;
        let told = |out, overwritten, dead| {
            (before.out + out, before.overwritten + overwritten, before.dead_lettered + dead)
        };
        let expected = match end {
            Out => told(1 + sound, 0, 0),
            Overwritten => told(sound, 1, 0),
            DeadLetter(..) => told(sound, 0, 1),
        };
        let got = (after.out, after.overwritten, after.dead_lettered);
        let letters = server.dead_letters();
        let detail = letters.last().map(|letter| letter.text("detail")).unwrap_or_default();
        assert_eq!(got, expected, "{name}: {detail}");
        if let DeadLetter(reason, words) = end {
            let last = letters.last().unwrap();
            assert_eq!(last.text("reason"), reason, "{name}: {detail}");
            assert!(detail.contains(words), "{name}: {detail}");
        }
    }
    engine.stop();
}

#[test]
fn references_that_lie_are_refused() {
    let folder = rings_folder();
    let (_ring, good) = sound(folder.path(), "cam");
    let lie = |change: fn(&mut Reference)| {
        let mut reference = good.clone();
        change(&mut reference);
        entry("lie", reference)
    };
    let text = |from: &str, to: &str| entry("lie", good.to_string().replacen(from, to, 1));
    let undecodable = DeadLetter("undecodable", "the field ring is not a reference");
    let mut with_pixels = entry("lie", &good);
    let mut message = ProcessedFrame::decode(&with_pixels[0].1[..]).unwrap();
    message.original_image.as_mut().unwrap().compressed_data = pixels(RGB, 1);
    with_pixels[0].1 = message.encode_to_vec();
    let mut no_frame = entry("lie", &good);
    no_frame[0].1 = b"nothing that is a frame".to_vec();
    let mut no_data = entry("lie", &good);
    no_data.remove(0);
    let cases = vec![
        ("good", entry("good", &good), Out),
        ("its hash is given", lie(|it| it.hash = xxhash_rust::xxh3::xxh3_64(&pixels(RGB, 1))), Out),
        ("another hash", lie(|it| it.hash = 1), Overwritten),
        ("an older generation", lie(|it| it.generation = 0), Overwritten),
        ("a later generation", lie(|it| it.generation = 4), Overwritten),
        ("another slot", lie(|it| it.slot = 0), Overwritten),
        ("another length", lie(|it| it.length -= 4), Overwritten),
        ("no pixels", lie(|it| it.length = 0), Overwritten),
        ("a slot that is not there", lie(|it| it.slot = 3), gone("has 3 slots")),
        ("the last slot there can be", lie(|it| it.slot = u32::MAX), gone("has 3 slots")),
        ("longer than a slot", lie(|it| it.length = 20_000), gone("not slot 1 with 20000 bytes")),
        ("too long", lie(|it| it.length = 100_001), DeadLetter("too_large", "max_payload_bytes")),
        ("endless", lie(|it| it.length = u64::MAX), DeadLetter("too_large", "max_payload_bytes")),
        ("another epoch", lie(|it| it.epoch ^= 1), gone("replaced by another one")),
        ("another name", lie(|it| it.name = "other".into()), gone("No such file")),
        ("a path", text("cam/", "../cam/"), DeadLetter("undecodable", "not a reference")),
        (
            "a name that leads up",
            text("cam", ".."),
            DeadLetter("undecodable", "not that of a ring"),
        ),
        ("an odd generation", text("/2/", "/3/"), DeadLetter("undecodable", "odd")),
        ("nothing", entry("lie", ""), undecodable),
        ("pixels in both", with_pixels, DeadLetter("undecodable", "in data and in a frame ring")),
        ("no frame", no_frame, DeadLetter("undecodable", "not a ProcessedFrame")),
        ("no data", no_data, DeadLetter("undecodable", "no field data")),
    ];
    check(folder.path(), cases);
}

#[test]
fn files_that_are_no_rings_are_refused() {
    let folder = rings_folder();
    let root = folder.path();
    let outside = rings_folder();
    let (_other, elsewhere) = sound(outside.path(), "elsewhere");
    let path = |name: &str| root.join(format!("{name}.ring"));
    symlink(outside.path().join("elsewhere.ring"), path("elsewhere")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let named = |name: &str| entry("lie", Reference { name: name.into(), ..elsewhere.clone() });
    let changed = |name: &'static str, change: &dyn Fn(&Path)| {
        let (ring, reference) = sound(root, name);
        change(&path(name));
        drop(ring);
        entry("lie", reference)
    };
    let set_len = |len: u64| {
        move |path: &Path| {
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap()
        }
    };
    let header = |change: fn(&mut RingHeader)| {
        move |path: &Path| {
            let mut bytes = [0; 64];
            let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
            file.read_exact_at(&mut bytes, 0).unwrap();
            let mut header = RingHeader::decode(&bytes).unwrap();
            change(&mut header);
            file.write_all_at(&header.encode(), 0).unwrap();
        }
    };
    let mut cases = vec![
        ("a link", named("elsewhere"), gone("symbolic links")),
        ("a folder", named("folder"), gone("not a regular file")),
        ("a socket", named("socket"), gone("No such device")),
        ("a pipe", named("pipe"), gone("not a regular file")),
        ("empty", changed("empty", &set_len(0)), gone("fill whole buffer")),
        ("cut short", changed("cut", &set_len(9000)), gone("it has 9000 bytes")),
        ("too long", changed("long", &set_len(1 << 20)), gone("it has 1048576 bytes")),
        ("more slots", changed("slots", &header(|it| it.slots = 4)), gone("its header declares")),
        ("too many slots", changed("many", &header(|it| it.slots = 1)), gone("it has 1 slots")),
        ("odd room", changed("room", &header(|it| it.room += 1)), gone("room for")),
        ("endless room", changed("endless", &header(|it| it.room = u64::MAX)), gone("room for")),
        ("another boot", changed("boot", &header(|it| it.boot_id ^= 1)), gone("another machine")),
        (
            "no ring",
            changed("none", &|path| fs::write(path, [0; 9000]).unwrap()),
            gone("signature of a ring"),
        ),
    ];
    let stranger = |path: &Path| std::os::unix::fs::chown(path, Some(12_345), None).unwrap();
    if rustix::process::geteuid().is_root() {
        cases.push(("a stranger's", changed("strange", &stranger), gone("another account")));
    } else {
        crate::support::skip("only the superuser can give a file to another account");
    }
    check(root, cases);
}

#[test]
fn a_folder_to_which_everybody_may_write_is_not_trusted() {
    let folder = rings_folder();
    let (_ring, reference) = sound(folder.path(), "cam");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let server = RedisServer::start();
    let dir = folder.path().display().to_string();
    let engine = RunningEngine::start(&server, &[("ring.dir", &dir)]);
    server.add(&entry("lie", reference));
    server.wait_until_done();
    let detail = server.dead_letters()[0].text("detail");
    assert!(detail.contains("everybody may write to its folder"), "{detail}");
    engine.stop();
}

#[test]
fn no_ring_is_made_where_a_stranger_could_read_or_replace_it() {
    let folder = rings_folder();
    let refused = || {
        framepress::internals::ring::Ring::create(&ring(folder.path(), "cam", 4))
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(refused().contains("everybody may write to it"));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o2755)).unwrap();
    if !rustix::process::geteuid().is_root() {
        return crate::support::skip("only the superuser can give a folder to another account");
    }
    // Another user of the machine made the folder first, in a world-writable parent.
    std::os::unix::fs::chown(folder.path(), Some(12_345), Some(12_345)).unwrap();
    assert!(refused().contains("belongs to another account (user id 12345)"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_ring_may_change_while_it_is_open() {
    let folder = rings_folder();
    let root = folder.path();
    let server = RedisServer::start();
    let dir = root.display().to_string();
    let engine = RunningEngine::start(&server, &[("ring.dir", &dir)]);
    let ends = |reference: &Reference| {
        let before = engine.account();
        server.add(&entry("frame", reference));
        server.wait_until_done();
        wait_until("everything is counted", LONG, || engine.account().in_flight == 0);
        let after = engine.account();
        [
            after.out - before.out,
            after.overwritten - before.overwritten,
            after.dead_lettered - before.dead_lettered,
        ]
    };
    let (mut ring, first) = sound(root, "cam");
    assert_eq!(ends(&first), [1, 0, 0]);

    // The producer died while it wrote.
    let slot = ring.header().slot_at(1).unwrap();
    let writing = SlotHead { generation: 3, length: RGB as u64, hash: 0 };
    scribble(root, "cam", slot, &writing.encode());
    assert_eq!(ends(&first), [0, 1, 0]);
    let after = ring.write(1, &pixels(RGB, 2)).unwrap();
    assert_eq!(ends(&after), [1, 0, 0]);

    // The generation counter is at its maximum.
    let last = SlotHead { generation: u64::MAX - 1, length: RGB as u64, hash: 0 };
    scribble(root, "cam", slot, &last.encode());
    let reference = Reference { generation: u64::MAX - 1, ..after.clone() };
    assert_eq!(ends(&reference), [1, 0, 0]);
    assert_eq!(ends(&after), [0, 1, 0]);

    // Another producer's ring of the same name replaces it.
    drop(ring);
    let (next, other) = sound(root, "cam");
    assert_eq!(ends(&other), [1, 0, 0]);
    assert_eq!(ends(&after), [0, 0, 1], "the file of that frame is gone");
    drop(next);

    // The file is truncated while the reader uses it, and then removed.
    let path = root.join("cam.ring");
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert_eq!(ends(&other), [0, 0, 1]);
    fs::remove_file(&path).unwrap();
    let (_again, again) = sound(root, "cam");
    assert_eq!(ends(&again), [1, 0, 0]);
    engine.stop();
}

#[test]
fn a_slot_that_is_written_all_the_time_never_shows_a_mixture() {
    let folder = rings_folder();
    let server = RedisServer::start();
    let dir = folder.path().display().to_string();
    let flags = [("ring.dir", &*dir), ("redis_queue.enable_compression", "false")];
    let engine = RunningEngine::start(&server, &flags);
    let mut made = Ring::create(&ring(folder.path(), "cam", 2)).unwrap();
    for number in 0..400_usize {
        let value = (number % 251) as u8;
        let reference = made.write(0, &[value; RGB]).unwrap();
        server.add(&entry(&format!("frame-{number}"), reference));
    }
    server.wait_until_done();
    for output in server.outputs() {
        let number: usize = output.frame.frame_id["frame-".len()..].parse().unwrap();
        let pixels = output.frame.original_image.unwrap().compressed_data;
        assert!(pixels.iter().all(|&pixel| pixel == (number % 251) as u8), "frame {number}");
    }
    let account = engine.stop();
    assert_eq!(account.out + account.overwritten, 400, "{account:?}");
    assert!(account.out > 0);
}

/// A small tmpfs; dropping the value unmounts it.
struct Small(tempfile::TempDir);

impl Small {
    /// `None`, with a message, if mounting is not allowed.
    fn mount() -> Option<Small> {
        let folder = tempfile::tempdir().unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,mode=0750", "framepress-test"])
            .arg(folder.path())
            .output();
        if mount.is_ok_and(|made| made.status.success()) {
            return Some(Small(folder));
        }
        crate::support::skip("a small tmpfs cannot be mounted here");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_ring_finds_room_where_the_one_that_it_replaces_lies() {
    let Some(small) = Small::mount() else { return };
    let options =
        |frame_bytes_max| RingOptions { frame_bytes_max, ..ring(small.0.path(), "cam", 2) };
    let first = Ring::create(&options(700_000)).unwrap();
    let held = Ring::create(&options(700_000)).unwrap_err().to_string();
    assert!(held.contains("has a producer already"), "{held}");
    drop(first);
    let second = Ring::create(&options(800_000)).unwrap();
    drop(second);
    let full = Ring::create(&options(2_000_000)).unwrap_err().to_string();
    assert!(full.contains("No space left"), "{full}");
}
