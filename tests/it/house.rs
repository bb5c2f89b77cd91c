//! The rules of the house, held by tests: unsafe code, banned calls, sizes, dependencies, words,
//! documents. Those of the import graph are in `structure.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file in `src`, in lines.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, as a path from the root, with its text.
pub(crate) fn sources(folder: &str) -> Vec<(String, String)> {
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
pub(crate) fn code_of(line: &str) -> String {
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
        ("stdout()", &["src/cli/output/out.rs", "src/cli/output/terminal.rs", "src/cli/typed.rs"]),
        (
            "stderr()",
            &[
                "src/cli/output/out.rs",
                "src/cli/output/terminal.rs",
                "src/cli/service/logging/mod.rs",
                "src/cli/output/progress.rs",
            ],
        ),
        (concat!("fs::", "write("), &[]),
        (concat!("File::", "create"), &[]),
        (".create(", &[]),
        (".create_new(", &["src/base/files.rs"]),
        ("tempdir", &["src/base/private.rs"]),
        ("UnixListener::bind", &["src/http/inner.rs"]),
        ("set_hook(", &["src/cli/service/panics.rs"]),
        ("process::exit(", &["src/cli/service/signals.rs"]),
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
fn the_files_that_documents_name_exist() {
    const FOLDERS: [&str; 8] =
        ["src/", "tests/", "perf/", "docs/", "deploy/", "benches/", "python/", "proto/"];
    let files = prose_files();
    if files.is_empty() {
        return crate::support::skip("files that documents name: not a git checkout");
    }
    let (mut faults, mut found) = (Vec::new(), 0);
    for (path, text) in files.into_iter().filter(|(path, _)| path.ends_with(".md")) {
        for named in text.split('`').skip(1).step_by(2) {
            let is_file = FOLDERS.iter().any(|folder| named.starts_with(folder))
                && !named.contains(|letter: char| " <*{$".contains(letter));
            found += usize::from(is_file);
            if is_file && !root().join(named).exists() {
                faults.push(format!("{path}: there is no {named}"));
            }
        }
        for linked in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let is_file =
                !linked.is_empty() && !linked.contains(|letter: char| ": ".contains(letter));
            let folder = root().join(&path).parent().unwrap().to_owned();
            if is_file && !folder.join(linked).exists() {
                faults.push(format!("{path}: the link {linked} leads nowhere"));
            }
        }
    }
    assert!(found > 100, "{found} names of files");
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

/// Every crate that a build with `features` compiles into the library, as name and version.
fn crates(features: &[&str]) -> std::collections::BTreeSet<String> {
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .args(features)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let name = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    tree.lines().filter(|line| !line.is_empty()).map(name).collect()
}

#[test]
fn there_is_no_async_runtime_in_the_program() {
    let crates = crates(&[]);
    let has = |name: &str| crates.iter().any(|found| found.split(' ').next() == Some(name));
    assert!(has("prost") && crates.len() > 50, "the tree is there: {crates:?}");
    for runtime in ["tokio", "async-std", "smol", "async-executor", "futures-executor"] {
        assert!(!has(runtime), "{runtime} is a dependency");
    }
}

#[test]
fn the_library_needs_at_most_half_of_the_crates_of_the_program() {
    let (program, library) = (crates(&[]), crates(&["--no-default-features"]));
    assert!(
        2 * library.len() <= program.len(),
        "{} of {} crates: {library:?}",
        library.len(),
        program.len()
    );
}

/// Words that a reader has to decode: an actor without a name, or a word of this project only. The
/// field's words are: the caller, the server, pipeline, loop iteration, rotation, fault-injection
/// point, pending again.
const OPAQUE_WORDS: [&str; 14] = [
    concat!("who", "ever"),
    concat!("no", "body"),
    concat!("some", "body"),
    concat!("some", "one"),
    "way",
    "ways",
    "turn",
    "turns",
    "regroup",
    "seam",
    "seams",
    "owed",
    "who meets",
    concat!("for ", "want of"),
];

/// The comment in a line of `path`; prose in Markdown, without its code.
fn prose_of<'a>(path: &str, line: &'a str) -> &'a str {
    let mark = match path.rsplit('.').next() {
        Some("md") => return line,
        Some("rs") => "//",
        Some("lua") => "--",
        _ => "# ",
    };
    // The slashes of a URL begin no comment.
    let mut marks = line.match_indices(mark).filter(|(at, _)| !line[..*at].ends_with(':'));
    marks.next().map_or("", |(at, _)| &line[at..])
}

/// The opaque words in `prose`, which may hold code in backticks.
fn opaque_words(prose: &str) -> Vec<&'static str> {
    let text: String = prose.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
    let words: Vec<_> = text.split(|letter: char| !letter.is_alphanumeric()).collect();
    let is_there = |opaque: &&str| {
        let wanted: Vec<_> = opaque.split(' ').collect();
        words.windows(wanted.len()).any(|window| window == wanted)
    };
    OPAQUE_WORDS.into_iter().filter(is_there).collect()
}

/// Every tracked text file, as a path from the root, with its text; none outside a git checkout.
pub(crate) fn tracked_files() -> Vec<(String, String)> {
    let known = std::process::Command::new("git").arg("ls-files").current_dir(root()).output();
    let known = known.map(|known| String::from_utf8_lossy(&known.stdout).into_owned());
    let text = |path: &str| Some((path.to_owned(), fs::read_to_string(root().join(path)).ok()?));
    known.unwrap_or_default().lines().filter_map(text).collect()
}

/// The files with prose.
fn prose_files() -> Vec<(String, String)> {
    let kinds =
        [".rs", ".md", ".py", ".sh", ".toml", ".yaml", ".yml", ".lua", "Makefile", ".ci/run"];
    let has_prose = |path: &str| kinds.iter().any(|kind| path.ends_with(kind));
    tracked_files().into_iter().filter(|(path, _)| has_prose(path)).collect()
}

/// The opaque words among the parts of the names in a line of code.
fn opaque_parts(code: &str) -> Vec<&'static str> {
    let spaced = code.split(|letter: char| !letter.is_alphanumeric()).map(|part| {
        let mut spaced = String::new();
        for (before, letter) in std::iter::once(' ').chain(part.chars()).zip(part.chars()) {
            let begins = letter.is_uppercase() && before.is_lowercase();
            spaced.extend(begins.then_some(' '));
            spaced.push(letter);
        }
        spaced
    });
    opaque_words(&spaced.collect::<Vec<_>>().join(" "))
}

#[test]
fn names_have_no_opaque_words() {
    assert_eq!(opaque_parts("let UnderWay(by_turns) = always;"), ["way", "turns"]);
    let mut faults = Vec::new();
    let files = ["src", "tests", "perf/src", "benches"].into_iter().flat_map(sources);
    for (path, text) in files.filter(|(path, _)| path != "tests/it/house.rs") {
        for (number, line) in text.lines().enumerate() {
            for word in opaque_parts(&code_of(line)) {
                faults.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn comments_and_documents_have_no_opaque_words() {
    // The test can fail: it finds such a word in a comment, and not in code.
    let found = |line| opaque_words(prose_of("a.rs", line));
    assert_eq!(found("let way = 1; // It takes its turn, in a way."), ["way", "turn"]);
    assert_eq!(found("let turn = way; // `seam`"), Vec::<&str>::new());
    let files = prose_files();
    if files.is_empty() {
        eprintln!("skipped: words of comments and documents: not a git checkout");
        return;
    }
    assert!(files.len() > 500, "{} files", files.len());
    let mut faults = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| path != "tests/it/house.rs") {
        let mut is_code = false;
        for (number, line) in text.lines().enumerate() {
            is_code ^= path.ends_with(".md") && line.trim_start().starts_with("```");
            if is_code {
                continue;
            }
            for word in opaque_words(prose_of(path, line)) {
                faults.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn commit_subjects_are_short_and_finished() {
    let log = std::process::Command::new("git")
        .args(["log", "--max-count=50", "--no-merges", "--format=%s"])
        .current_dir(root())
        .output();
    let log = log.map(|log| String::from_utf8_lossy(&log.stdout).into_owned()).unwrap_or_default();
    let is_bad = |subject: &&str| {
        let subject = subject.to_lowercase();
        subject.len() >= 72 || subject.split_whitespace().next() == Some("wip")
    };
    let bad: Vec<_> = log.lines().filter(is_bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
