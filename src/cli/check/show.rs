//! Formats findings for a terminal and as JSON.

use serde_json::{Value, json};

use super::finding::{Finding, Severity};
use crate::base::text;
use crate::config::ConfigError;

/// Version of the JSON form; raised when a field changes its meaning or is removed.
const SCHEMA: u32 = 1;

/// Maximum line width in characters.
const WIDTH: usize = 100;

/// Widths of the columns before the text.
const SEVERITY: usize = 9;
const AREA: usize = 15;
const INDENT: usize = SEVERITY + AREA;

/// The findings as text. The worst come last, next to the prompt.
pub(super) fn text(findings: &[Finding], coloured: bool) -> String {
    let mut text = String::new();
    for severity in Severity::ALL.into_iter().rev() {
        let of_this = findings.iter().filter(|finding| finding.severity == severity);
        for (index, finding) in of_this.enumerate() {
            if index == 0 && !text.is_empty() {
                text.push('\n');
            }
            let name = format!("{:<SEVERITY$}", severity.name());
            text.push_str(&paint(severity, &name, coloured));
            text.push_str(&format!("{:<AREA$}", finding.area()));
            wrap(&mut text, &finding.what, INDENT);
            for (label, part) in [("why", &finding.why), ("do", &finding.remedy)] {
                if !part.is_empty() {
                    text.push_str(&format!("{:INDENT$}{label:<5}", ""));
                    wrap(&mut text, part, INDENT + 5);
                }
            }
        }
    }
    text.push_str(&format!("\n{}\n", summary(findings, coloured)));
    text
}

fn summary(findings: &[Finding], coloured: bool) -> String {
    let parts = Severity::ALL.into_iter().map(|severity| {
        let count = count(findings, severity);
        let plural = if count == 1 || severity == Severity::Ok { "" } else { "s" };
        let part = format!("{count} {}{plural}", severity.name());
        if count == 0 { part } else { paint(severity, &part, coloured) }
    });
    parts.collect::<Vec<_>>().join(", ")
}

pub(super) fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

fn paint(severity: Severity, text: &str, coloured: bool) -> String {
    let colour = match severity {
        Severity::Ok => "32",
        Severity::Note => "36",
        Severity::Warning => "33",
        Severity::Error => "1;31",
    };
    if coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Appends `words` in lines of at most `WIDTH` characters; all but the first are indented.
fn wrap(text: &mut String, words: &str, indent: usize) {
    let words = text::line(words);
    let mut column = indent;
    for (index, word) in words.split(' ').enumerate() {
        let len = word.chars().count();
        if index > 0 && column + 1 + len > WIDTH {
            text.push_str(&format!("\n{:indent$}", ""));
            column = indent;
        } else if index > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += len;
    }
    text.push('\n');
}

/// The findings as JSON; see docs/check.md.
pub(super) fn json(findings: &[Finding], endpoint: Option<&str>, exit_code: u8) -> Value {
    let counts: serde_json::Map<String, Value> = Severity::ALL
        .into_iter()
        .map(|severity| (severity.name().to_owned(), count(findings, severity).into()))
        .collect();
    json!({
        "schema": SCHEMA,
        "framepress": env!("CARGO_PKG_VERSION"),
        "redis": endpoint,
        "exit_code": exit_code,
        "counts": counts,
        "findings": findings,
        "configuration_faults": [],
    })
}

/// A wrong configuration as JSON; nothing else was checked.
pub(super) fn faults_json(error: &ConfigError) -> Value {
    let faults: Vec<Value> = error
        .faults
        .iter()
        .map(|fault| {
            json!({
                "key": fault.key,
                "value": fault.value,
                "origin": fault.origin.to_string(),
                "message": fault.message,
            })
        })
        .collect();
    let mut whole = json(&[], None, 2);
    whole["configuration_faults"] = faults.into();
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("machine.cores", "2 cores may be used"),
            Finding::warning("memory.policy", "word ".repeat(30).trim_end())
                .why("Redis may evict a whole stream")
                .mend("CONFIG SET maxmemory-policy noeviction"),
        ]
    }

    #[test]
    fn lines_are_wrapped_and_aligned_and_the_worst_comes_last() {
        let text = text(&findings(), false);
        let indent = " ".repeat(INDENT);
        let (ok, warning) = text.split_once("\n\n").unwrap();
        assert_eq!(ok, "ok       machine        2 cores may be used");
        assert!(warning.starts_with("warning  memory         word word"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains(&format!("\n{indent}word")), "continued below its begin: {text}");
        assert!(text.contains(&format!("\n{indent}why  Redis may")), "{text}");
        assert!(text.contains(&format!("\n{indent}do   CONFIG SET")), "{text}");
        assert!(text.ends_with("\n0 errors, 1 warning, 0 notes, 1 ok\n"), "{text}");
    }

    #[test]
    fn colour_is_only_where_it_is_asked_for() {
        assert!(!text(&findings(), false).contains('\x1b'));
        assert!(text(&findings(), true).contains("\x1b[33mwarning  \x1b[0m"));
    }
}
