//! The software catalogue of a Debian-like system (AppStream DEP-11): an application's icon, summary and description, and
//! its main categories of the freedesktop menu specification. Multi-label. Splits are made.
//!
//! A folder holds `*Components*.yml` or `.yml.gz`, with icons in `icons/…/64x64/`; the system's own place is
//! `/var/lib/swcatalog` (icons) with the catalogue among apt's lists. Licences vary by application: nothing of it is shown
//! in reports. Of YAML only what these catalogues use is read.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::{Answer, Draft, Found, Layout, Part, image_and_text};
use crate::{DataError, Dataset, ReadOptions, Task};

pub(super) static LAYOUT: Layout = Layout {
    name: "appstream",
    about: "a DEP-11 catalogue (*Components*.yml.gz) with icons/…/64x64/*.png; multi-label by menu category",
    paper: "freedesktop.org AppStream; Debian DEP-11",
    detect: |folder| {
        let found = catalogues(folder);
        found.first().map(|file| format!("it holds {}", file.strip_prefix(folder).unwrap_or(file).display()))
    },
    read,
};

/// The main categories of the menu specification.
const CATEGORIES: [&str; 11] = [
    "AudioVideo",
    "Development",
    "Education",
    "Game",
    "Graphics",
    "Network",
    "Office",
    "Science",
    "Settings",
    "System",
    "Utility",
];

/// The most bytes that one catalogue may unpack to.
const MOST: u64 = 1 << 30;

/// Files below `folder`, three levels deep, that `wanted` accepts; in order of name.
fn below(folder: &Path, depth: usize, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && depth > 0 {
            found.extend(below(&path, depth - 1, wanted));
        } else if wanted(&name) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn catalogues(folder: &Path) -> Vec<PathBuf> {
    below(folder, 2, &|name| name.contains("Components") && (name.ends_with(".yml") || name.ends_with(".yml.gz")))
}

fn read(folder: &Path, options: &ReadOptions) -> Result<Dataset, DataError> {
    let mut draft = Draft::new(folder, LAYOUT.name, options);
    draft.task = Some(Task::MultiLabel);
    draft.classes = Some(CATEGORIES.map(str::to_owned).to_vec());
    let mut icons: HashMap<String, PathBuf> = HashMap::new();
    for icon in below(folder, 4, &|name| name.ends_with(".png")) {
        let size = icon.parent().and_then(Path::file_name).is_some_and(|n| n == "64x64");
        let name = icon.file_name().map(|n| n.to_string_lossy().into_owned());
        if let (Some(name), Ok(path), true) = (name, icon.strip_prefix(folder), size) {
            icons.entry(name).or_insert_with(|| path.to_owned());
        }
    }
    let mut other = 0;
    for path in catalogues(folder) {
        for (number, entry) in unpacked(&path)?.split("\n---").enumerate() {
            let application = block(entry, 0, "Type").is_some_and(|t| t.trim() == "desktop-application");
            let Some(id) = block(entry, 0, "ID").filter(|_| application) else {
                other += 1;
                continue;
            };
            let place = format!("{}: entry {}", path.display(), number + 1);
            let text = ["Summary", "Description"].iter().filter_map(|key| block(entry, 0, key));
            let text: Vec<String> = text.filter_map(|t| block(&t, 2, "C")).map(|t| plain(&t)).collect();
            let categories = block(entry, 0, "Categories").unwrap_or_default();
            let categories = categories.lines().filter_map(|line| line.trim().strip_prefix("- "));
            let labels: Vec<String> = categories.filter(|c| CATEGORIES.contains(c)).map(str::to_owned).collect();
            if labels.is_empty() {
                draft.sieve.bad(place, format!("{}: none of the main categories", id.trim()))?;
                continue;
            }
            let icon = block(entry, 0, "Icon").and_then(|icon| {
                let names = icon.lines().filter_map(|l| l.trim().trim_start_matches("- ").strip_prefix("name: "));
                names.filter_map(|name| icons.get(name.trim())).next().cloned()
            });
            draft.found.push(Found {
                place,
                id: id.trim().to_owned(),
                parts: image_and_text(icon.map(|path| Part::Path(path.display().to_string())), Some(text.join(" "))),
                answer: Answer::Classes(labels),
                split: None,
                group: None,
            });
        }
    }
    draft.notes.push(format!("{other} entries that are no desktop application were passed over"));
    draft.finish(options.split_seed)
}

fn unpacked(path: &Path) -> Result<String, DataError> {
    let file = crate::open_regular(path).map_err(|e| DataError::io(path, e))?;
    let mut text = String::new();
    let read = match path.extension().is_some_and(|e| e == "gz") {
        true => MultiGzDecoder::new(file).take(MOST).read_to_string(&mut text),
        false => file.take(MOST).read_to_string(&mut text),
    };
    read.map_err(|e| DataError::io(path, e))?;
    Ok(text)
}

/// What stands under a key at an indentation: the rest of its line and all deeper lines after it (and list items at the
/// same depth).
fn block(text: &str, indent: usize, key: &str) -> Option<String> {
    let start = format!("{}{key}:", " ".repeat(indent));
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&start));
    let first = lines.next()?[start.len()..].trim().to_owned();
    let deeper = |line: &&str| {
        let depth = line.len() - line.trim_start().len();
        line.trim().is_empty() || depth > indent || line[depth..].starts_with("- ") && depth == indent
    };
    let mut all = vec![first];
    all.extend(lines.take_while(deeper).map(str::to_owned));
    Some(all.join("\n"))
}

/// A YAML scalar that may be quoted or folded over lines and may hold markup, as running text.
fn plain(scalar: &str) -> String {
    let scalar = scalar.trim();
    let scalar = scalar.strip_prefix(">-").or_else(|| scalar.strip_prefix("|-")).unwrap_or(scalar).trim();
    let quoted = |mark: char| scalar.strip_prefix(mark).and_then(|s| s.strip_suffix(mark));
    let scalar = match (quoted('\''), quoted('"')) {
        (Some(inner), _) => inner.replace("''", "'"),
        (_, Some(inner)) => inner.replace("\\\n", "").replace("\\n", " ").replace("\\\"", "\"").replace("\\ ", " "),
        _ => scalar.to_owned(),
    };
    let mut out = String::with_capacity(scalar.len());
    let mut inside = false;
    for c in scalar.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                out.push(' ');
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    let out = out.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}
