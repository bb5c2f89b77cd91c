//! What the demo draws fits a terminal of 80 columns.

use std::process::{Command, Stdio};

use crate::support::skip;

/// The lines of a transcript, including redrawn ones, without terminal control sequences.
fn drawn(transcript: &str) -> Vec<String> {
    let mut text = String::new();
    let mut letters = transcript.chars();
    while let Some(letter) = letters.next() {
        if letter == '\x1b' {
            letters.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            text.push(letter);
        }
    }
    text.split(['\r', '\n']).map(String::from).collect()
}

#[test]
fn a_demo_fits_80_columns() {
    let command = format!(
        "stty cols 80 rows 24; {} demo --seconds 2 --cameras 2 --size 320x240",
        env!("CARGO_BIN_EXE_framepress")
    );
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .envs([("TERM", "xterm"), ("NO_COLOR", "1"), ("STATS__ADDR", "127.0.0.1:0")])
        // The demo prints the path of its Redis socket, which is below this folder.
        .env("TMPDIR", "/tmp")
        .stdin(Stdio::piped())
        .output();
    let Ok(output) = output else {
        return skip("no `script` to have a terminal; on Debian: apt-get install bsdutils");
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let lines = drawn(&said);
    assert!(lines.iter().any(|line| line.contains(" sent, ")), "the bar is drawn: {said}");
    let long: Vec<_> = lines.iter().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:#?}");
}
