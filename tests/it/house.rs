//! The rules of the house, held by a test: floors, unsafe code, banned calls, sizes, dependencies.

use std::fs;
use std::path::{Path, PathBuf};

/// Floor of each room; a room names only rooms below it.
const FLOORS: [(&str, u8); 17] = [
    ("base", 0),
    ("metrics", 1),
    ("frame", 2),
    ("wire", 3),
    ("image", 3),
    ("analysis", 3),
    ("redis", 3),
    ("ring", 3),
    ("stage", 4),
    ("camera", 4),
    ("config", 4),
    ("engine", 5),
    ("ingest", 5),
    ("bridge", 5),
    ("http", 6),
    ("processor", 6),
    ("cli", 7),
];

/// Longest file in `src`, in lines.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, as a path from the root, with its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
            if path.is_dir() && !hidden {
                collect(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let folder = root().join(folder);
    if !folder.exists() {
        return Vec::new();
    }
    let mut paths = Vec::new();
    collect(&folder, &mut paths);
    paths.sort();
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// A line without its comment and its text in quotes; good enough for code that rustfmt has seen.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut in_text = false;
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        if !in_text && line[at..].starts_with("//") {
            break;
        }
        if letter == '"' && before != '\\' && before != '\'' {
            in_text = !in_text;
        } else if !in_text {
            code.push(letter);
        }
        before = letter;
    }
    code
}

fn floor_of(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

#[test]
fn a_room_uses_only_rooms_below_its_own() {
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let room = path["src/".len()..].split('/').next().unwrap().trim_end_matches(".rs");
        if ["main", "lib"].contains(&room) {
            continue;
        }
        let Some(own) = floor_of(room) else {
            faults.push(format!("{path}: the room {room} has no floor; see the top of this test"));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let code = code_of(line);
            for used in code.split("crate::").skip(1) {
                let end = used.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
                let used = &used[..end.unwrap_or(used.len())];
                let allowed = used == room || floor_of(used).is_some_and(|floor| floor < own);
                if !used.is_empty() && !allowed {
                    faults.push(format!("{path}:{}: {room} uses {used}", number + 1));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn unsafe_code_is_explained_and_stays_in_its_rooms() {
    let mut faults = Vec::new();
    for (path, text) in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = code_of(line);
            let declared = ["unsafe fn", "unsafe extern"].iter().any(|kind| code.contains(kind));
            let done = ["unsafe {", "unsafe impl"].iter().any(|kind| code.contains(kind));
            if !declared && !done {
                continue;
            }
            let at = format!("{path}:{}", index + 1);
            let at_home = path.starts_with("src/image/")
                || ["src/base/threads.rs", "src/base/children.rs"].contains(&&*path);
            // A global allocator is unsafe by its trait; the program itself has none of its own.
            let measures = path.starts_with("benches/") || path.starts_with("tests/allocations/");
            if !at_home && !measures {
                faults.push(format!(
                    "{at}: unsafe code outside src/image, base/threads.rs and base/children.rs"
                ));
            }
            // The comment stands right above the statement, which may have begun some lines before.
            let above = &lines[index.saturating_sub(8)..=index];
            if done && !above.iter().any(|line| line.contains("SAFETY:")) {
                faults.push(format!("{at}: no SAFETY comment"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn nothing_banned_is_called() {
    // Each with the only file that may have it.
    let banned = [
        ("unbounded(", ""),
        (concat!("thread::", "spawn"), "src/base/threads.rs"),
        (concat!("thread::", "Builder"), "src/base/threads.rs"),
        (concat!("todo", "!"), ""),
        (concat!("unimplemented", "!"), ""),
        (concat!("dbg", "!"), ""),
        (concat!("#[", "ignore"), ""),
        (concat!("Instant::", "now"), "src/metrics/clock.rs"),
        (concat!("SystemTime::", "now"), "src/metrics/clock.rs"),
    ];
    let mut faults = Vec::new();
    for (path, text) in ["src", "tests"].into_iter().flat_map(sources) {
        for (number, line) in text.lines().enumerate() {
            let code = code_of(line);
            for (word, home) in banned {
                let called = code.find(word).is_some_and(|at| {
                    let before = code[..at].chars().next_back();
                    !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
                });
                if called && path != home {
                    faults.push(format!("{path}:{}: {word}", number + 1));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn text_reaches_a_terminal_a_file_or_a_folder_through_its_door_only() {
    // Each with the files that may have it.
    let doors: [(&str, &[&str]); 14] = [
        (concat!("print", "ln!"), &[]),
        (concat!("eprint", "ln!"), &[]),
        (concat!("print", "!("), &[]),
        (concat!("eprint", "!("), &[]),
        ("stdout()", &["src/cli/out.rs", "src/cli/terminal.rs", "src/cli/typed.rs"]),
        (
            "stderr()",
            &[
                "src/cli/out.rs",
                "src/cli/terminal.rs",
                "src/cli/logging/mod.rs",
                "src/cli/progress.rs",
            ],
        ),
        (concat!("fs::", "write("), &[]),
        (concat!("File::", "create"), &[]),
        (".create(", &[]),
        (".create_new(", &["src/base/files.rs"]),
        ("tempdir", &["src/base/private.rs"]),
        ("UnixListener::bind", &["src/http/inner.rs"]),
        ("set_hook(", &["src/cli/panics.rs"]),
        ("process::exit(", &["src/cli/signals.rs"]),
    ];
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        // Tests stand at the end of a file or in files of their own.
        if path.contains("/tests") {
            continue;
        }
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
        for (number, line) in lines.enumerate() {
            let code = code_of(line);
            for (word, homes) in doors {
                let called = code.find(word).is_some_and(|at| {
                    let before = code[..at].chars().next_back();
                    !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
                });
                if called && !homes.contains(&&*path) {
                    faults.push(format!("{path}:{}: {word}", number + 1));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = sources("src")
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {long:?}");
}

#[test]
fn there_is_no_async_runtime_in_the_program() {
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let packages: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(packages.contains(&"prost") && packages.len() > 50, "the tree is there: {tree}");
    for runtime in ["tokio", "async-std", "smol", "async-executor", "futures-executor"] {
        assert!(!packages.contains(&runtime), "{runtime} is a dependency");
    }
}
