//! A link with less bandwidth than the added frames need.

use framepress::internals::metrics::Counter;
use framepress::internals::wire::proto::ImageData;
use framepress_proxy::Link;
use redis::cmd;

use super::Far;
use crate::support::{INPUT, RedisServer, protobuf_of};

#[test]
fn frames_that_are_too_old_do_not_take_the_room_of_newer_ones() {
    let far = Far::with(RedisServer::start(), Link::default());
    let (width, height, channels) = (64, 64, 3);
    let compressed_data = vec![0; 64 * 64 * 3];
    let compression_format = "raw".to_owned();
    let raw = ImageData {
        compressed_data,
        width,
        height,
        channels,
        compression_format,
        ..Default::default()
    };
    let mut old_bytes = 0;
    for index in 1..=300 {
        let (_, frame) = protobuf_of(&format!("old-{index}"), "camera", raw.clone()).remove(0);
        old_bytes += frame.len() as u64;
        let mut add = cmd("XADD");
        // Added in 1970.
        add.arg(INPUT).arg(format!("{index}-1")).arg("data").arg(frame);
        let _: String = far.server.ask(&add);
    }
    far.server.add_frames("camera", 5);
    let engine = far.engine(&[("redis_queue.max_frame_age_ms", "30000")]);
    far.server.wait_for_outputs(5);
    far.server.wait_until_done();
    let answers = far.proxy.counts().answer_bytes;
    assert!(answers < old_bytes / 4, "{answers} bytes came, of {old_bytes} that are too old");
    assert_eq!(engine.count(Counter::ShedAtRead), 300);
    let cameras = engine.cameras();
    let account = engine.stop();
    assert_eq!((account.shed, account.out, account.lost), (300, 5, 0), "{account:?}");
    assert_eq!(cameras.status("camera").unwrap().frames_shed_at_read, 300);
}
