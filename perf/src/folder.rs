//! The folder of a run: raw figures, plots, a text for each part, and the summary of all.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use framepress::internals::redis::Embedded;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Outcome;

/// Parts in the order of the summary.
const PARTS: [&str; 13] = [
    "floor",
    "bytes",
    "path",
    "peers",
    "migration",
    "latency",
    "scale",
    "distance",
    "soak",
    "profiles",
    "failover",
    "chaos",
    "pgo",
];

/// Shared by all measured runs.
#[derive(Args, Clone)]
pub struct RunArgs {
    /// The program to measure
    #[arg(long, default_value = "target/release/framepress")]
    pub bin: PathBuf,
    /// Folder of the run [default: perf/runs/<date>-<machine>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The machine's name in that folder [default: from its processor]
    #[arg(long, value_name = "NAME")]
    pub machine: Option<String>,
}

impl RunArgs {
    /// The folder, created if missing.
    pub fn folder(&self) -> Outcome<Folder> {
        let path = match &self.out {
            Some(path) => path.clone(),
            None => {
                let machine = self.machine.clone().unwrap_or_else(machine_name);
                Path::new("perf/runs").join(format!("{}-{machine}", said("date", &["-u", "+%F"])))
            }
        };
        Folder::open(path, &self.bin)
    }
}

/// Where a run is written.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder of a run of `bin`, created if missing.
    pub fn open(path: PathBuf, bin: &Path) -> Outcome<Folder> {
        fs::create_dir_all(&path)?;
        let folder = Folder { path };
        folder.write_setup(bin)?;
        Ok(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes the raw figures and the text of a part, and updates the summary.
    pub fn part(&self, name: &str, figures: &impl Serialize, text: &str) -> Outcome<()> {
        fs::write(self.path(&format!("{name}.json")), rows(figures)?)?;
        fs::write(self.path(&format!("{name}.md")), text)?;
        let mut summary = fs::read_to_string(self.path("setup.md"))?;
        for part in PARTS {
            if let Ok(text) = fs::read_to_string(self.path(&format!("{part}.md"))) {
                write!(summary, "\n{}\n", text.trim_end())?;
            }
        }
        fs::write(self.path("summary.md"), summary)?;
        println!("\n{text}");
        Ok(())
    }

    /// Writes the machine and the program versions when the first part begins.
    fn write_setup(&self, bin: &Path) -> Outcome<()> {
        let file = self.path("setup.json");
        if file.exists() {
            return Ok(());
        }
        let setup = setup(bin);
        fs::write(file, rows(&setup)?)?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut text = format!("# {name}\n\n| what | |\n| --- | --- |\n");
        for (key, value) in setup.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            writeln!(text, "| {} | {value} |", key.replace('_', " "))?;
        }
        text.push_str(
            "\nAbsolute figures are of this machine; ratios are of two sides measured alternately in \
             the same run.\n",
        );
        Ok(fs::write(self.path("setup.md"), text)?)
    }
}

/// Longest line of a value in a file of figures, in bytes.
const ROW_BYTES_MAX: usize = 400;

/// Figures as JSON with one row per line: a list or mapping that fits is on one line, a longer one has
/// a line for each of its parts. Numbers have six significant digits, and at least three decimals.
pub fn rows(figures: &impl Serialize) -> Outcome<String> {
    let pretty = serde_json::to_string_pretty(figures)?;
    let lines: Vec<String> = pretty.lines().map(rounded).collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let (mut text, mut at) = (String::new(), 0);
    while let Some(line) = lines.get(at) {
        let mut end = at;
        if line.ends_with(['{', '[']) {
            let inner = &lines[at + 1..];
            end += 1 + inner.iter().take_while(|inner| indent(inner) > indent(line)).count();
        }
        let whole = &lines[at..=end];
        let bytes: usize = whole.iter().map(|line| line.trim_start().len() + 1).sum();
        let (shown, next) =
            if bytes <= ROW_BYTES_MAX { (whole, end + 1) } else { (&whole[..1], at + 1) };
        text.extend(std::iter::repeat_n(' ', indent(line)));
        for (index, line) in shown.iter().enumerate() {
            let comma = index > 0 && shown[index - 1].ends_with(',');
            text.push_str(if comma { " " } else { "" });
            text.push_str(line.trim_start());
        }
        text.push('\n');
        at = next;
    }
    Ok(text)
}

/// A line of pretty JSON with its number rounded.
fn rounded(line: &str) -> String {
    let begin = match line.rfind("\": ") {
        Some(at) => at + 3,
        None => line.len() - line.trim_start().len(),
    };
    let (before, value) = line.split_at(begin);
    let (value, comma) = value.strip_suffix(',').map_or((value, ""), |value| (value, ","));
    let number = value.parse::<f64>().ok().filter(|number| value.contains('.') && *number != 0.0);
    let Some(number) = number else { return line.to_owned() };
    let scale = 10_f64.powi((5 - number.abs().log10().floor() as i32).max(3));
    format!("{before}{}{comma}", json!((number * scale).round() / scale))
}

fn setup(bin: &Path) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|rest| rest.trim_start_matches([' ', '\t', ':']).trim().to_owned())
            .unwrap_or_default()
    };
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let or_unknown = |text: String| if text.is_empty() { "not known".to_owned() } else { text };
    json!({
        "processor": line(&read("/proc/cpuinfo"), "model name"),
        "cores": cores(),
        "memory": line(&read("/proc/meminfo"), "MemTotal"),
        "system": said("uname", &["-sr"]),
        "governor": or_unknown(governor.trim().to_owned()),
        "transparent_huge_pages":
            or_unknown(read("/sys/kernel/mm/transparent_hugepage/enabled").trim().to_owned()),
        "load_average_at_start": read("/proc/loadavg").trim(),
        "redis": said(&Embedded::program().to_string_lossy(), &["--version"]),
        "program": said(&bin.to_string_lossy(), &["--version"]),
        "source": said("git", &["rev-parse", "--short", "HEAD"]),
        "rustc": said("rustc", &["--version"]),
        "python": said("python3", &["--version"]),
        "node": said("node", &["--version"]),
    })
}

/// Cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Output of a program, or a note that it is missing.
fn said(program: &str, args: &[&str]) -> String {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "missing".to_owned(),
    }
}

/// For example `amd-epyc-2core`: the first words of the processor's name.
fn machine_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let words: Vec<String> = model
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(3)
        .map(str::to_lowercase)
        .collect();
    let words = if words.is_empty() { vec!["machine".to_owned()] } else { words };
    format!("{}-{}core", words.join("-"), cores())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_a_line_for_each_row_and_stay_what_they_are() {
        let row = json!({ "fps": 446.0, "name": "x".repeat(150) });
        let figures = json!({ "rows": vec![row; 4], "empty": [] });
        let text = rows(&figures).unwrap();
        assert_eq!(text.lines().count(), 9, "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), figures);
        let figures =
            json!([3.569023569023569, 0.0005605381165919282, 1764480000.1234, 7, "1.23456789"]);
        let shown = "[3.56902, 0.000560538, 1764480000.123, 7, \"1.23456789\"]\n";
        assert_eq!(rows(&figures).unwrap(), shown);
    }
}
