//! The table of `unsafe` in `docs/reliability.md`, held against the code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const PAGE: &str = "docs/reliability.md";

/// What is wrong with the table.
pub(super) fn problems(sources: &[PathBuf]) -> Result<Vec<String>> {
    let mut counted = BTreeMap::<String, usize>::new();
    for source in sources.iter().filter(|source| source.extension().is_some_and(|end| end == "rs")) {
        let Ok(inside) = source.strip_prefix(crate::root().join("crates")) else { continue };
        let name = inside.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let text = std::fs::read_to_string(source).with_context(|| source.display().to_string())?;
        *counted.entry(name.unwrap_or_default()).or_default() += count(&text);
    }
    let page = crate::root().join(PAGE);
    let page = std::fs::read_to_string(Path::new(&page)).with_context(|| PAGE.to_owned())?;
    Ok(differences(&page, &counted))
}

/// How often the word stands in code, comments and texts aside.
fn count(text: &str) -> usize {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.map(|line| super::without_strings(line.split(" // ").next().unwrap_or(line)));
    code.map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| *word == "unsafe").count())
        .sum()
}

/// Rows of the page that are not what was counted.
fn differences(page: &str, counted: &BTreeMap<String, usize>) -> Vec<String> {
    let row = |(name, count): (&String, &usize)| format!("| `crates/{name}` | {count} |");
    let missing = counted.iter().filter(|(_, count)| **count > 0).map(row).filter(|row| !page.contains(row.as_str()));
    missing.map(|row| format!("{PAGE}: the table of `unsafe` lacks the row {row}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_counted_in_code_alone() {
        let text =
            "unsafe { a() } // unsafe\n    // unsafe\nlet a = \"unsafe\"; unsafe fn b() {}\n#![deny(unsafe_code)]\n";
        assert_eq!(count(text), 2);
    }

    #[test]
    fn a_row_that_is_missing_or_of_another_count_is_found() {
        let counted = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 0)]);
        assert!(differences("| `crates/a` | 2 |", &counted).is_empty());
        assert_eq!(differences("| `crates/a` | 3 |", &counted).len(), 1);
    }
}
