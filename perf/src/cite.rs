//! `cite`: inserts the tables of a run into a text, so that no figure is copied by hand.
//!
//! The text between `<!-- run: PART -->` and `<!-- /run -->` becomes that part of the run. Sections
//! whose part the run lacks stay unchanged.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::Outcome;

const OPEN: &str = "<!-- run: ";
const CLOSE: &str = "<!-- /run -->";

#[derive(Args)]
pub struct CiteArgs {
    /// Folder of the run
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Texts to fill
    #[arg(required = true)]
    texts: Vec<PathBuf>,
}

pub fn run(args: &CiteArgs) -> Outcome<bool> {
    let name = args.run.to_string_lossy().trim_end_matches('/').to_owned();
    for path in &args.texts {
        let before = fs::read_to_string(path)?;
        let after = fill(&before, |part| {
            let text = fs::read_to_string(args.run.join(format!("{part}.md"))).ok()?;
            // One level below the surrounding heading; links lead into the run's folder.
            let text = text.replace("## ", "### ").replace("](", &format!("]({name}/"));
            Some(format!("{}\n\nFrom [{name}]({name}/summary.md).", text.trim_end()))
        })?;
        fs::write(path, after)?;
    }
    Ok(true)
}

fn fill(text: &str, of: impl Fn(&str) -> Option<String>) -> Outcome<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        let (before, after) = rest.split_at(at + OPEN.len());
        let (part, after) = after.split_once(" -->\n").ok_or("a place without an end")?;
        let (old, after) = after.split_once(CLOSE).ok_or("a place without an end")?;
        filled.push_str(&format!("{before}{part} -->\n"));
        match of(part) {
            Some(new) => filled.push_str(&format!("{new}\n")),
            None => filled.push_str(old),
        }
        filled.push_str(CLOSE);
        rest = after;
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn places_are_filled_again_and_again_and_others_stay() {
        let text =
            "a\n<!-- run: one -->\nold\n<!-- /run -->\n<!-- run: two -->\nkept\n<!-- /run -->\nz";
        let of = |part: &str| (part == "one").then(|| "new".to_owned());
        let filled = fill(text, of).unwrap();
        assert_eq!(filled, text.replace("old", "new"));
        assert_eq!(fill(&filled, of).unwrap(), filled);
        assert!(fill("<!-- run: one -->\nno end", of).is_err());
    }
}
