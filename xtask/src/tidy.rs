//! `cargo xtask ci --only tidy`: rules of this code that no lint knows.

mod unsafes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Lines of a file at most.
const LINES: usize = 500;

/// Names of our own making that gave way to the field's words.
const RETIRED: &[&str] = &[
    "Sight", "Eye", "Look", "Seen", "Shown", "Piece", "Bank", "Place", "Course", "Judge", "Answers", "Panel", "Survey",
    "Lessons", "speak", "Moment", "Round", "Card",
];

/// Phrases that no English speaker would write, in code and pages.
const PHRASES: &[&str] = &["from nothing", "told apart", "unlearned descriptor"];

/// Where fields of JSON may be looked up by name: files that others write.
const FOREIGN: &[&str] = &["crates/trainer/src/commands/predict.rs"];

/// Checks every source file and page.
pub(crate) fn check(_: &Path) -> Result<()> {
    let mut problems = Vec::new();
    let pages = ["README.md", "CONTRIBUTING.md"].map(|page| Ok(vec![crate::root().join(page)]));
    let folders = ["crates", "xtask", "docs"].map(|folder| files(&crate::root().join(folder)));
    for found in folders.into_iter().chain(pages) {
        for path in found? {
            let name = path.strip_prefix(crate::root()).unwrap_or(&path).display().to_string();
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
            problems.extend(problems_of(&name, &text));
        }
    }
    problems.extend(unsafes::problems(&files(&crate::root().join("crates"))?)?);
    if !problems.is_empty() {
        bail!("{} problems:\n{}", problems.len(), problems.join("\n"));
    }
    Ok(())
}

/// All sources and pages below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let (path, kind) = entry.and_then(|e| Ok((e.path(), e.file_type()?)))?;
        if kind.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "md") && !path.ends_with("xtask/src/tidy.rs") {
            found.push(path);
        }
    }
    Ok(found)
}

fn problems_of(name: &str, text: &str) -> Vec<String> {
    let is_source = name.ends_with(".rs");
    let mut problems = Vec::new();
    if is_source && text.lines().count() > LINES {
        problems.push(format!("{name}: {} lines; at most {LINES}", text.lines().count()));
    }
    let looked_up = is_source && name.starts_with("crates/trainer/src") && !FOREIGN.contains(&name);
    let mut tests = false;
    for (line, number) in text.lines().zip(1..) {
        let mut add = |what: String| problems.push(format!("{name}:{number}: {what}"));
        tests |= line.contains("#[cfg(test)]");
        if is_source && !line.trim_start().starts_with("//") {
            let code = without_strings(line);
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            for word in code.split(|c| !is_word(c)).filter(|word| RETIRED.contains(word)) {
                add(format!("`{word}` is a word of our own making: take the field's"));
            }
            if looked_up && !tests && looks_up(line) {
                add("a field of JSON looked up by its name: read it into a type".to_owned());
            }
        }
    }
    // Line breaks and comment marks may stand between the words.
    let flat = text.replace(['/', '!'], " ").split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    problems
        .extend(PHRASES.iter().filter(|phrase| flat.contains(**phrase)).map(|phrase| format!("{name}: “{phrase}”")));
    problems
}

/// A line without what stands in double quotes.
fn without_strings(line: &str) -> String {
    line.replace("\\\"", "").split('"').step_by(2).collect::<Vec<_>>().join("\"")
}

/// Whether something is indexed by a text, as in `json["score"]`.
fn looks_up(line: &str) -> bool {
    let before = line.match_indices("[\"").filter_map(|(at, _)| line[..at].chars().next_back());
    before.into_iter().any(|c| c.is_alphanumeric() || c == '_' || c == ')' || c == ']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_what_breaks_it_and_nothing_else() {
        let name = "crates/trainer/src/a.rs";
        for bad in [
            "struct Judge;",
            "let x = json[\"score\"];",
            "let x = f()[\"score\"];",
            "// trained from nothing",
            &"\n".repeat(501),
        ] {
            assert_eq!(problems_of(name, bad).len(), 1, "{bad}");
        }
        for good in ["let x = \"Judge\";", "// Judge", "key!(\"lr\"[\"learning_rate\"])", "[\"a\", \"b\"]", "Judged"] {
            assert!(problems_of(name, good).is_empty(), "{good}");
        }
    }
}
