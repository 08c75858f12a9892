//! Which column of a table holds what: as named, else by names and content.

use std::collections::HashSet;

use serde_json::Value;

use super::located::is_image;
use super::table::{Table, word};
use crate::{Columns, DataError, Modality, Split};

/// Columns by what they hold.
#[derive(Default)]
pub(super) struct Roles {
    pub(super) id: Option<usize>,
    pub(super) image: Option<usize>,
    pub(super) texts: Vec<usize>,
    pub(super) label: Option<usize>,
    pub(super) split: Option<usize>,
    pub(super) group: Option<usize>,
    pub(super) target: Option<usize>,
    /// Other modalities, by their own names.
    pub(super) others: Vec<(&'static Modality, usize)>,
    /// Whether names alone decide, as in our own manifest.
    pub(super) strict: bool,
}

const IDS: &[&str] = &["id", "uid", "uuid", "sampleid", "itemid", "productid", "sku"];
const IMAGES: &[&str] = &[
    "image",
    "img",
    "imagepath",
    "imgpath",
    "imagefile",
    "filename",
    "imagename",
    "imgname",
    "photo",
    "photopath",
    "picture",
    "images",
    "imageid",
    "filepath",
    "file",
    "path",
];
const TEXTS: &[&str] = &[
    "text",
    "caption",
    "title",
    "name",
    "productname",
    "description",
    "sentence",
    "body",
    "summary",
    "plot",
    "review",
    "comment",
    "tweet",
    "headline",
    "content",
];
const LABELS: &[&str] = &[
    "label",
    "labels",
    "class",
    "classes",
    "category",
    "categories",
    "genre",
    "genres",
    "target",
    "y",
    "tags",
    "tag",
    "sentiment",
];
const SPLITS: &[&str] = &["split", "subset", "partition", "set"];
const GROUPS: &[&str] = &["group", "groupid"];

/// Rows that are looked at.
const LOOKED_AT: usize = 500;

fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

impl Roles {
    /// Finds the columns; without a label where `label` says that there may be none.
    ///
    /// # Errors
    /// A named column that is not there, or none that could be the label.
    pub(super) fn find(
        place: &str,
        table: &Table,
        columns: &Columns,
        known: &[&'static Modality],
        strict: bool,
        label: bool,
    ) -> Result<Self, DataError> {
        let search = Search { place, table, plain: table.names.iter().map(|n| plain(n)).collect(), strict };
        let mut roles = Self { strict, ..Self::default() };
        let named = |name: &Option<String>, role| name.as_deref().map(|n| search.named(n, role)).transpose();
        roles.image = named(&columns.image, "image")?;
        roles.label = named(&columns.label, "label")?;
        roles.split = named(&columns.split, "split")?;
        roles.group = named(&columns.group, "group")?;
        roles.target = named(&columns.target, "target")?;
        roles.texts = columns.text.iter().map(|n| search.named(n, "text")).collect::<Result<_, _>>()?;
        let other = |m: &&&'static Modality| !["image", "text"].contains(&m.name);
        let position = |m: &&'static Modality| Some((*m, search.table.names.iter().position(|n| n == m.name)?));
        roles.others = known.iter().filter(other).filter_map(position).collect();
        roles.id = search.by_name(IDS, &roles);
        roles.split = roles.split.or_else(|| search.by_name(SPLITS, &roles).filter(|&i| strict || search.splits(i)));
        roles.group = roles.group.or_else(|| search.by_name(GROUPS, &roles));
        if roles.target.is_none() && roles.label.is_none() {
            roles.label = search.by_name(LABELS, &roles);
        }
        roles.image = roles.image.or_else(|| search.image(&roles));
        if roles.texts.is_empty() {
            roles.texts = search.texts(&roles);
        }
        if roles.target.is_none() && roles.label.is_none() && label && !strict {
            roles.label = search.label(&roles);
        }
        if roles.texts.is_empty() && !strict {
            roles.texts = search.prose(&roles).into_iter().collect();
        }
        if roles.target.is_none() && roles.label.is_none() && label {
            return Err(search.none("label"));
        }
        Ok(roles)
    }

    fn all(&self) -> Vec<usize> {
        let single = [self.image, self.label, self.split, self.group, self.target, self.id];
        let others = self.others.iter().map(|(_, i)| *i);
        single.into_iter().flatten().chain(self.texts.iter().copied()).chain(others).collect()
    }

    /// What was found, in one line.
    pub(super) fn said(&self, table: &Table) -> String {
        let name = |i: usize| format!("`{}`", table.names[i]);
        let mut said = Vec::new();
        let texts: Vec<String> = self.texts.iter().map(|&i| name(i)).collect();
        let roles = [
            ("image", self.image.map(name)),
            ("text", (!texts.is_empty()).then(|| texts.join(" + "))),
            ("label", self.label.map(name)),
            ("target", self.target.map(name)),
            ("split", self.split.map(name)),
            ("group", self.group.map(name)),
            ("id", self.id.map(name)),
        ];
        said.extend(roles.into_iter().filter_map(|(role, name)| Some(format!("{role} {}", name?))));
        format!(
            "columns: {}{}",
            said.join(", "),
            self.unused(table).map_or_else(String::new, |u| format!("; not used: {u}"))
        )
    }

    /// The columns that nothing is read from.
    pub(super) fn unused(&self, table: &Table) -> Option<String> {
        let used = self.all();
        let rest = (0..table.names.len()).filter(|i| !used.contains(i)).map(|i| table.names[i].as_str());
        let rest: Vec<&str> = rest.filter(|n| !n.trim().is_empty()).collect();
        (!rest.is_empty()).then(|| rest.join(", "))
    }
}

/// A table whose columns are looked for.
struct Search<'a> {
    place: &'a str,
    table: &'a Table,
    plain: Vec<String>,
    strict: bool,
}

impl Search<'_> {
    fn none(&self, role: &'static str) -> DataError {
        DataError::NoColumn { place: self.place.to_owned(), role, columns: self.table.names.join(", ") }
    }

    fn named(&self, name: &str, role: &'static str) -> Result<usize, DataError> {
        let exact = self.table.names.iter().position(|n| n == name);
        let near = || self.table.names.iter().position(|n| n.trim().eq_ignore_ascii_case(name.trim()));
        exact.or_else(near).ok_or_else(|| DataError::UnknownColumn {
            place: self.place.to_owned(),
            name: name.to_owned(),
            role,
            columns: self.table.names.join(", "),
        })
    }

    /// The column with the earliest of some names.
    fn by_name(&self, names: &[&str], taken: &Roles) -> Option<usize> {
        let taken = taken.all();
        names.iter().find_map(|name| self.plain.iter().position(|p| p == name).filter(|i| !taken.contains(i)))
    }

    fn words(&self, i: usize) -> Vec<String> {
        self.table.column(i).filter_map(word).take(LOOKED_AT).collect()
    }

    /// Whether nearly all cells name splits.
    fn splits(&self, i: usize) -> bool {
        let words = self.words(i);
        let known = words.iter().filter(|w| Split::named(w).is_some()).count();
        known > 0 && known * 10 >= words.len() * 9
    }

    /// The column whose cells end as image files do; else the one called so.
    fn image(&self, taken: &Roles) -> Option<usize> {
        let free = |i: &usize| !taken.all().contains(i) || taken.id == Some(*i);
        let pictured = |i: &usize| {
            let words = self.words(*i);
            !words.is_empty() && words.iter().filter(|w| is_image(w)).count() * 2 >= words.len()
        };
        let rank = |i: &usize| IMAGES.iter().position(|n| *n == self.plain[*i]).unwrap_or(IMAGES.len());
        if self.strict {
            return self.by_name(IMAGES, taken);
        }
        let by_content = (0..self.plain.len()).filter(free).filter(pictured).min_by_key(rank);
        by_content.or_else(|| self.by_name(&IMAGES[..13], taken))
    }

    /// A column called `text`, else all that are called as texts are.
    fn texts(&self, taken: &Roles) -> Vec<usize> {
        let taken = taken.all();
        let free = |i: &usize| !taken.contains(i);
        if let Some(text) = (0..self.plain.len()).filter(free).find(|&i| self.plain[i] == TEXTS[0]) {
            return vec![text];
        }
        (0..self.plain.len()).filter(free).filter(|&i| TEXTS.contains(&self.plain[i].as_str())).collect()
    }

    /// The one column whose cells are few words that return.
    fn label(&self, taken: &Roles) -> Option<usize> {
        let taken = taken.all();
        let few = |i: &usize| {
            let words = self.words(*i);
            let distinct: HashSet<&String> = words.iter().collect();
            distinct.len() >= 2
                && distinct.len() * 5 <= words.len().max(10)
                && words.iter().all(|w| w.split_whitespace().count() <= 5)
        };
        let mut found = (0..self.plain.len()).filter(|i| !taken.contains(i)).filter(few);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// The column with the longest texts, of three words or more.
    fn prose(&self, taken: &Roles) -> Option<usize> {
        let taken = taken.all();
        let mean = |i: usize| {
            let texts: Vec<&str> = self.table.column(i).filter_map(Value::as_str).take(LOOKED_AT).collect();
            texts.iter().map(|t| t.split_whitespace().count()).sum::<usize>() as f64 / texts.len().max(1) as f64
        };
        let columns = (0..self.plain.len()).filter(|i| !taken.contains(i)).map(|i| (mean(i), i));
        columns.filter(|(words, _)| *words >= 3.0).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, i)| i)
    }
}
