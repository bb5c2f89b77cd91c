use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::screen::{Screen, Sort};
use crate::cli::client::Figures;

fn latency(scale: f64) -> serde_json::Value {
    json!({ "p50": 4.5 * scale, "p90": 7.6 * scale, "p99": 17.2 * scale, "p999": 20.0 * scale,
            "max": 82.9 * scale })
}

fn figures(cameras: usize) -> Figures {
    let queue = json!({ "depth": 12, "pending_count": 3, "lag": 2, "consumer_count": 1,
                        "throughput_fps": 60.0, "memory_usage_bytes": 1_048_576 });
    let stages = ["read", "queue_wait", "decode", "analyse", "encode", "commit"];
    let stages: serde_json::Map<_, _> =
        stages.iter().map(|stage| (stage.to_string(), latency(0.1))).collect();
    let cameras = (0..cameras).map(|number| {
        json!({ "camera_id": format!("camera-{number}"), "status": "active",
                "frames_processed": 1000 - number, "frames_rejected": number,
                "frames_dropped": 0, "quality_score": 0.7, "vehicle_density": 0.25,
                "congestion_level": "free_flow", "processing_time_ms": 3.5 })
    });
    Figures {
        unready: None,
        metrics: json!({
            "version": "0.1.0", "uptime_seconds": 3725.0, "active_streams": 4,
            "performance_metrics": { "throughput_fps": 60.0, "error_count": 0,
                                     "latency_ms": latency(1.0), "stages": stages },
            "serialization_metrics": { "avg_compression_ratio": 0.059 },
            "queue_metrics": { "input": queue, "output": queue, "dead_letter": queue },
            "conservation": { "read": 1200, "out": 1190, "rejected": 1, "dead_lettered": 2,
                              "shed": 3, "lost": 0, "in_flight": 4, "balanced": true },
            "connections": { "reconnects": 0 },
        }),
        cameras: cameras.collect(),
    }
}

fn screen(figures: Figures) -> Screen {
    let mut screen = Screen::new("http://127.0.0.1:8080", Sort::Name, true);
    screen.take(Ok(figures));
    screen
}

/// The lines shown on a terminal of this size.
fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    buffer
        .content
        .chunks(width.into())
        .map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>())
        .map(|row| row.trim_end().to_owned())
        .collect()
}

#[test]
fn a_terminal_of_80_by_24_shows_everything() {
    let lines = drawn(&screen(figures(40)), 80, 24);
    let whole = lines.join("\n");
    for part in [
        "framepress 0.1.0  http://127.0.0.1:8080  up 1 h 2 min",
        "* ready",
        "60.0 frames/s in, 60.0 out   ratio 0.059",
        "  end to end       4.5      7.6     17.2     20.0     82.9",
        "  queue wait       0.5",
        "  input             12        3        2          1     60.0    1.00 MiB",
        "read 1200 = out 1190 + rejected 1 + dead 2 + shed 3 + lost 0 + in work 4",
        "(it adds up)",
        "camera-0         active     1000       0       0    0.70    0.25 free_flow   3.5",
        "more",
    ] {
        assert!(whole.contains(part), "no {part:?} in\n{whole}");
    }
}

#[test]
fn frames_handed_over_are_in_the_sum() {
    let shown = |overwritten: u64| {
        let mut figures = figures(1);
        figures.metrics["conservation"]["handed_over"] = json!(7);
        figures.metrics["conservation"]["lost"] = json!(overwritten);
        figures.metrics["conservation"]["overwritten"] = json!(overwritten);
        screen(figures).text(120)
    };
    let text = shown(0);
    assert!(text.contains("+ lost 0 + handed over 7 + in work 4 (it adds up)"), "{text}");
    let text = shown(2);
    assert!(text.contains("+ lost 2 (2 overwritten) + handed over 7"), "{text}");
}

#[test]
fn frame_rings_are_shown_with_what_was_overwritten() {
    let mut figures = figures(1);
    assert!(!screen(figures.clone()).text(80).contains("frame rings"));
    let rings = (0..6).map(|number| {
        json!({ "name": format!("ring-{number}"), "slots": 8, "slot_bytes": 3_110_912,
                "waiting": 2, "frames": 1200, "overwritten": number })
    });
    figures.metrics["rings"] = rings.collect();
    let text = screen(figures).text(80);
    assert!(text.contains("frame rings, and 2 more"), "{text}");
    let line = "  ring-3: 8 slots of 2.97 MiB, 2 waiting; 1200 frames read, 3 overwritten";
    assert!(text.contains(line), "{text}");
    assert!(!text.contains("ring-4"), "{text}");
}

#[test]
fn a_small_terminal_shows_what_matters_most() {
    let lines = drawn(&screen(figures(2)), 40, 12);
    let whole = lines.join("\n");
    assert_eq!(lines[1], "* ready", "{whole}");
    for part in ["60.0 frames/s  4 in work  0 errors", "end to end       4.5     17.2     82.9"] {
        assert!(whole.contains(part), "no {part:?} in\n{whole}");
    }
    assert!(whole.contains("input             12        3        2"), "{whole}");
    assert!(whole.contains("dead"), "{whole}");
}

#[test]
fn no_size_is_too_small() {
    for (width, height) in [(1, 1), (10, 2), (39, 7), (79, 23), (300, 100)] {
        drawn(&screen(figures(30)), width, height);
    }
}

#[test]
fn an_engine_that_is_gone_is_said_so_and_its_last_figures_stay() {
    let mut screen = screen(figures(1));
    screen.take(Err("no answer from http://127.0.0.1:8080: Connection refused".into()));
    let lines = drawn(&screen, 80, 24);
    assert!(lines[1].starts_with("* gone: figures are 0 s old; no answer"), "{lines:?}");
    assert!(lines.join("\n").contains("read 1200"), "{lines:?}");
    screen.take(Ok(Figures { unready: Some("reader 0: no route".into()), ..figures(1) }));
    assert_eq!(drawn(&screen, 80, 24)[1], "* not ready: reader 0: no route");
}

#[test]
fn a_screen_without_figures_says_that_it_asks() {
    let screen = Screen::new("http://127.0.0.1:8080", Sort::Name, false);
    assert_eq!(drawn(&screen, 80, 24)[1], "* asking ...");
}

#[test]
fn the_order_of_the_cameras_can_be_changed() {
    let mut screen = screen(figures(3));
    let first = |screen: &Screen| {
        let text = screen.text(80);
        let after = text.split("traffic").nth(1).unwrap().to_owned();
        after.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    assert_eq!(first(&screen), "camera-0");
    screen.next_sort();
    screen.next_sort();
    assert_eq!(first(&screen), "camera-2", "most trouble first");
}

#[test]
fn names_from_outside_cannot_steer_the_terminal() {
    let mut hostile = figures(1);
    hostile.cameras[0]["camera_id"] = "cam\u{1b}[2J\n".into();
    let text = screen(hostile).text(100);
    assert!(text.contains("cam?[2J?") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn plain_text_has_no_colours_and_no_line_too_long() {
    for width in [40, 80, 100] {
        let text = screen(figures(50)).text(width);
        assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
        assert!(text.contains("camera-49"), "all of them:\n{text}");
    }
}
