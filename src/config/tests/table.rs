//! What is made of the table of keys: each entry is tried, and the files are written from it.

use super::*;
use crate::config::table::Key;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::Path;

/// The longest line of a generated file, in characters.
const COLUMNS: usize = 100;

/// Sections of one camera are in a list.
const OF_A_CAMERA: &str = "cameras[]";

/// A configuration that says `value` for `key` only.
fn saying(key: &Key, value: &Value) -> Map<String, Value> {
    let mut tree = json!({ key.name: value });
    for section in key.section.rsplit('.').filter(|section| !section.is_empty()) {
        tree = json!({ section: tree });
    }
    tree.as_object().unwrap().clone()
}

fn pointer(key: &Key) -> String {
    let section = key.section.split('.').filter(|section| !section.is_empty());
    section.chain([key.name]).map(|name| format!("/{name}")).collect()
}

#[test]
fn each_key_reads_and_writes_its_examples_and_refuses_other_values() {
    for key in Config::keys().iter().filter(|key| key.section != OF_A_CAMERA) {
        let name = format!("{}.{}", key.section, key.name);
        assert!(!key.description.is_empty() && !key.valid.is_empty(), "{name}");
        let is_secret = key.value_type.contains("secret");
        let is_file = key.name.ends_with("_file");
        assert!(key.examples.len() >= 2 || is_file, "{name}");
        for example in &key.examples {
            let text = Value::Object(saying(key, example)).to_string();
            match load_as("one.json", &text) {
                Ok(loaded) => {
                    let written = loaded.config.to_json();
                    let written = written.pointer(&pointer(key)).unwrap_or(&Value::Null);
                    assert!(written == example || is_secret, "{name}: {example} became {written}");
                    let changes = Config::builtin().take_live(&loaded.config);
                    let differs = *example != key.default;
                    let dotted = pointer(key)[1..].replace('/', ".");
                    assert_eq!(changes.taken.contains(&dotted), key.is_reloadable && differs);
                    assert_eq!(
                        changes.needs_restart.contains(&dotted),
                        !key.is_reloadable && differs
                    );
                }
                // A rule over several keys may want another one beside it, but the value is read.
                Err(error) => {
                    let text = error.to_string();
                    assert!(!text.contains(&format!("valid: {}", key.valid)), "{text}");
                }
            }
        }
        let wrong = Value::Object(saying(key, &json!({ "no": ["such", "value"] }))).to_string();
        let error = load_as("one.json", &wrong).unwrap_err().to_string();
        assert!(error.contains(key.name), "{name}: {error}");
    }
}

#[test]
fn names_are_distinct_and_sections_are_known() {
    let keys = Config::keys();
    assert!(keys.len() > 100, "{} keys", keys.len());
    for (index, key) in keys.iter().enumerate() {
        let same = |other: &Key| (other.section, other.name) == (key.section, key.name);
        assert_eq!(keys.iter().position(same), Some(index), "{}.{}", key.section, key.name);
        assert!(["0.1.0", "0.2.0"].contains(&key.since), "{}", key.since);
    }
}

#[test]
fn the_example_file_is_made_of_the_table() {
    let written = example();
    is_the_file("deploy/framepress.example.yaml", &written);
    assert_eq!(valid(&written), Config::builtin());
}

#[test]
fn the_reference_is_made_of_the_table() {
    is_the_file("docs/configuration.md", &reference());
}

/// `text` is what `path` holds. With FRAMEPRESS_WRITE=1 the file is written.
fn is_the_file(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("FRAMEPRESS_WRITE").is_some() {
        fs::write(&file, text).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == text, "{path} is not what the table of keys says; write it with: make docs");
}

/// The value as YAML, in one line.
fn yaml(value: &Value) -> String {
    crate::config::render::flow(value)
}

/// `text` in lines behind `prefix`.
fn wrapped(prefix: &str, text: &str) -> String {
    let mut lines = String::new();
    let mut line = prefix.to_owned();
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines += line.trim_end();
            lines.push('\n');
            line = prefix.to_owned();
        }
        line.push(' ');
        line += word;
    }
    lines + &line + "\n"
}

/// What is said about a key above its line in the example file.
fn remark(key: &Key) -> String {
    let mut text = key.description.replace('`', "");
    // What the value itself shows needs no words.
    let is_plain = ["switch", "switch or null", "name", "path or null"];
    if !is_plain.contains(&key.value_type.as_str()) && !key.value_type.contains("secret") {
        let unit = match key.unit {
            Some("s") => " seconds",
            Some("pixels") => " pixels",
            _ => "",
        };
        write!(text, " Valid: {}{unit}.", key.valid).unwrap();
    }
    text + now(key)
}

fn now(key: &Key) -> &'static str {
    if key.is_reloadable { " (now)" } else { "" }
}

/// Whether the key is written only instead of another one.
fn is_alternative(key: &Key) -> bool {
    Config::builtin().to_json().pointer(&pointer(key)).is_none()
}

fn example() -> String {
    let mut text = String::from(
        "# Every key with its built-in value. What is left out has this value, so a real configuration\n\
         # is short; see framepress.yaml beside the service for one.\n\
         #\n\
         # Any key may also be given in the environment, as in REDIS_QUEUE__COMPRESSION_QUALITY=70, which\n\
         # wins over this file. (now) marks keys that a running engine takes over when it reads the file\n\
         # again: systemctl reload framepress, or a SIGHUP.\n\
         #\n\
         # This file is made of the table of keys in src/config/table.\n",
    );
    let mut open: Vec<&str> = Vec::new();
    for key in Config::keys().iter().filter(|key| key.section != OF_A_CAMERA) {
        let path: Vec<_> = key.section.split('.').filter(|name| !name.is_empty()).collect();
        for (depth, name) in path.iter().enumerate() {
            if open.get(depth) != Some(name) {
                open.truncate(depth);
                open.push(name);
                writeln!(text, "{}{name}:", "  ".repeat(depth)).unwrap();
            }
        }
        open.truncate(path.len());
        let indent = "  ".repeat(path.len());
        text += &wrapped(&format!("{indent}#"), &remark(key));
        match is_alternative(key) {
            true => writeln!(text, "{indent}# {}: PATH", key.name).unwrap(),
            false => writeln!(text, "{indent}{}: {}", key.name, yaml(&key.default)).unwrap(),
        }
    }
    text
}

fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\nEvery key of the configuration file, made of the table in \
         [src/config/table](../src/config/table/mod.rs). Any key may also be given in the environment: \
         its sections and its name in capitals with two underscores between, as in \
         `REDIS_QUEUE__COMPRESSION_QUALITY=70`. Flags win over the environment, the environment wins over \
         the file. `framepress check --show-config` prints the values in force.\n\n\
         A running engine takes a new value over at a reload (`systemctl reload framepress`, or SIGHUP) \
         where the column *reload* says yes.\n",
    );
    let mut section = None;
    for key in Config::keys() {
        if section != Some(key.section) {
            section = Some(key.section);
            let title = match key.section {
                "" => "Without a section".to_owned(),
                OF_A_CAMERA => "One entry of `cameras`".to_owned(),
                name => format!("`{name}`"),
            };
            write!(text, "\n## {title}\n\n").unwrap();
            if key.section == OF_A_CAMERA {
                text += "And every key of `ingest.defaults`, for this camera only.\n\n";
            }
            text += "| key | type | default | valid | unit | what it does | reload | since |\n\
                     | --- | --- | --- | --- | --- | --- | --- | --- |\n";
        }
        let cell = |text: &str| text.replace('|', "\\|");
        writeln!(
            text,
            "| `{}` | {} | `{}` | {} | {} | {} | {} | {} |",
            key.name,
            cell(&key.value_type),
            cell(&yaml(&key.default)),
            cell(&key.valid),
            key.unit.unwrap_or(""),
            cell(&key.description),
            if key.is_reloadable { "yes" } else { "no" },
            key.since,
        )
        .unwrap();
    }
    text
}
