//! Where the images are that a table names: beside it, in a folder beside it, with or without their ending.

use std::path::Path;

use serde_json::Value;

use super::table::{Row, word};

/// Paths that are tried before a place is settled on.
const TRIED: usize = 50;
/// Endings of image files.
pub(super) const ENDINGS: [&str; 9] = ["jpg", "jpeg", "png", "gif", "bmp", "webp", "tif", "tiff", "avif"];

/// What to put before and after the paths of a table.
#[derive(Default)]
pub(super) struct Located {
    before: String,
    after: String,
}

/// Whether a name ends as an image file does.
pub(super) fn is_image(name: &str) -> bool {
    name.trim().rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.iter().any(|e| ending.eq_ignore_ascii_case(e)))
}

impl Located {
    /// Where most of the first images of a column are found; where none is, they are taken as they are written.
    pub(super) fn find<'a>(folder: &Path, column: impl Iterator<Item = &'a Value>, rows: &'a [Row]) -> Self {
        let paths: Vec<(&str, String)> =
            column.zip(rows).filter_map(|(cell, row)| Some((row.base.as_str(), word(cell)?))).take(TRIED).collect();
        let hits = |place: &Self| {
            paths.iter().filter(|(base, path)| folder.join(unix(&place.path(base, path))).is_file()).count()
        };
        let plain = Self::default();
        if paths.is_empty() || hits(&plain) > 0 {
            return plain;
        }
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut folders: Vec<String> =
            entries.filter(|e| e.path().is_dir()).map(|e| format!("{}/", e.file_name().to_string_lossy())).collect();
        folders.sort();
        folders.insert(0, String::new());
        let endings = || std::iter::once(String::new()).chain(ENDINGS.map(|e| format!(".{e}")));
        let places = folders.iter().flat_map(|before| endings().map(|after| Self { before: before.clone(), after }));
        let (mut most, mut best) = (0, plain);
        for place in places {
            let found = hits(&place);
            if found > most {
                (most, best) = (found, place);
            }
        }
        best
    }

    pub(super) fn path(&self, base: &str, path: &str) -> String {
        format!("{base}{}{path}{}", self.before, self.after)
    }

    /// What was found out, if anything.
    pub(super) fn said(&self) -> Option<String> {
        (!self.before.is_empty() || !self.after.is_empty())
            .then(|| format!("images are read as `{}`", self.path("", "NAME")))
    }
}

/// A path with Windows' separators as this system has them.
pub(super) fn unix(path: &str) -> String {
    path.replace('\\', "/")
}
