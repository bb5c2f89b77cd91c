//! Python and Node packages of the peers, in a separate folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const PYTHON: &str = "perf/peers/python";
const NODE: &str = "perf/peers/node";
/// Marks a finished installation, and holds its package list.
const COMPLETE: &str = "complete";

/// The installed programs.
#[derive(Default)]
pub struct Environment {
    /// The interpreter.
    pub python: Option<String>,
    /// The script, in the folder of its packages.
    pub node: Option<String>,
}

impl Environment {
    /// Installs missing packages; returns a line for each program that is not available.
    pub fn prepare(folder: &Path) -> (Environment, Vec<String>) {
        let mut skipped = Vec::new();
        let mut noted = |what: &str, done: Result<String, String>| match done {
            Ok(path) => Some(path),
            Err(why) => {
                skipped.push(format!("{what}: {why}"));
                None
            }
        };
        let python = noted("the Python peers", python(&folder.join("python")));
        let node = noted("the Node peer", node(&folder.join("node")));
        (Environment { python, node }, skipped)
    }
}

/// The interpreter, with the packages of the Python peers.
pub fn python(folder: &Path) -> Result<String, String> {
    let requirements = format!("{PYTHON}/requirements.txt");
    let interpreter = folder.join("bin/python").to_string_lossy().into_owned();
    let wanted = fs::read_to_string(&requirements).map_err(|error| error.to_string())?;
    if fs::read_to_string(folder.join(COMPLETE)).is_ok_and(|done| done == wanted) {
        return Ok(interpreter);
    }
    println!("installing Python packages into {}", folder.display());
    let target = folder.to_string_lossy();
    run(Command::new("python3").args(["-m", "venv", "--clear", &target]))?;
    run(Command::new(&interpreter).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
        &requirements,
    ]))?;
    fs::write(folder.join(COMPLETE), wanted).map_err(|error| error.to_string())?;
    Ok(interpreter)
}

/// Installs the packages of the lock file; the script finds them in its folder.
fn node(folder: &Path) -> Result<String, String> {
    let read = |name: &str| {
        fs::read_to_string(format!("{NODE}/{name}")).map_err(|error| format!("{name}: {error}"))
    };
    let lock = read("package-lock.json")?;
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).map_err(|error| error.to_string())
    };
    if !fs::read_to_string(folder.join(COMPLETE)).is_ok_and(|done| done == lock) {
        println!("installing Node packages into {}", folder.display());
        write("package.json", &read("package.json")?)?;
        write("package-lock.json", &lock)?;
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder))?;
        write(COMPLETE, &lock)?;
    }
    write("peer.js", &read("peer.js")?)?;
    Ok(folder.join("peer.js").to_string_lossy().into_owned())
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name} cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    Err(format!("{name} ended with {}: {}", output.status, last.join(" / ")))
}
