//! `icons` and `icons:tags`: Phosphor icons in the fill style, drawn black on white.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use resvg::{tiny_skia, usvg};

use super::drawing::{SIDE, grey_png};
use super::package::PHOSPHOR;
use super::{Folder, finish};
use crate::datasets::base;
use crate::datasets::manifest::{Description, Label, Metric, Sample, Split, Task};

struct Icon {
    name: String,
    categories: Vec<String>,
    tags: Vec<String>,
}

pub(super) fn build() -> Result<Folder> {
    let files = PHOSPHOR.read(&["assets/fill/", "dist/index.mjs"])?;
    let (mut classes, mut icons) = catalogue(files.text("dist/index.mjs")?)?;
    // Logos are trademarks. Most are called `NAME-logo`, one `NAME-logo-simple`.
    icons.retain(|icon| !icon.name.split('-').any(|word| word == "logo"));
    classes.retain(|class| class != "brands");

    let mut images = BTreeMap::new();
    for icon in &mut icons {
        icon.categories.retain(|category| category != "brands");
        let svg = files.bytes(&format!("assets/fill/{}-fill.svg", icon.name))?;
        images.insert(format!("{}.png", icon.name), draw(svg).with_context(|| icon.name.clone())?);
    }

    let dataset = |name: &str, text: fn(&Icon) -> String| {
        let description = Description {
            name: name.into(),
            task: Task::Multilabel,
            metric: Metric::F1Macro,
            licence: "MIT".into(),
            source: "npm @phosphor-icons/core 2.1.1".into(),
            show_samples: true,
            classes: classes.clone(),
        };
        let sample = |icon: &Icon| Sample {
            id: icon.name.clone(),
            image: format!("images/{}.png", icon.name),
            text: text(icon),
            label: Label::Many(icon.categories.clone()),
            split: Split::Train,
            group: base::icon(&icon.name),
        };
        finish(description, icons.iter().map(sample).collect())
    };
    let named = dataset("icons", words);
    let tagged = dataset("icons:tags", |icon| {
        std::iter::once(&words(icon)).chain(&icon.tags).map(String::as_str).collect::<Vec<_>>().join(", ")
    });
    Ok(Folder { datasets: vec![(None, named), (Some("tags"), tagged)], images })
}

/// The name as a reader says it.
fn words(icon: &Icon) -> String {
    icon.name.replace('-', " ")
}

/// The categories and the icons in the package's JavaScript, which is regular enough to be read line by line: the
/// enumeration `e` maps `i.KEY = "category"`, and an icon is `name: "…"`, `categories: [e.KEY, …]`, `tags: ["…", …]`.
fn catalogue(script: &str) -> Result<(Vec<String>, Vec<Icon>)> {
    let (_, rest) = script.split_once(" e = ").context("no enumeration of categories")?;
    let (enumeration, rest) = rest.split_once("(e || {})").context("the enumeration of categories does not end")?;
    let mut categories = Vec::new();
    for assignment in enumeration.split("i.").skip(1) {
        let (key, value) = assignment.split_once(" = ").context("a category without a value")?;
        categories.push((key, quoted(value).next().context("a category that is not quoted")?));
    }

    let mut icons = Vec::new();
    // An alias has a `name` too, but on a line with its `pascal_name`.
    for entry in rest.split("\n    name: ").skip(1) {
        let name = quoted(entry).next().context("an icon without a name")?;
        let list = |key: &str| {
            let (_, rest) = entry.split_once(key)?;
            rest.split_once(']').map(|(list, _)| list)
        };
        let keys = list("\n    categories: [").with_context(|| format!("{name} has no categories"))?;
        let tags = list("\n    tags: [").with_context(|| format!("{name} has no tags"))?;
        let of_icon = keys.split(',').map(|key| key.trim().trim_start_matches("e.")).filter(|key| !key.is_empty());
        let of_icon = of_icon
            .map(|key| {
                let found = categories.iter().find(|(known, _)| *known == key);
                found.map(|(_, category)| category.clone()).with_context(|| format!("{name}: unknown category {key}"))
            })
            .collect::<Result<Vec<_>>>()?;
        ensure!(!of_icon.is_empty(), "{name} has no category");
        // "*new*" and "*updated*" speak of the release, not of the picture.
        let tags = quoted(tags).filter(|tag| !tag.starts_with('*')).collect();
        icons.push(Icon { name, categories: of_icon, tags });
    }
    Ok((categories.into_iter().map(|(_, category)| category).collect(), icons))
}

/// What stands between double quotes; the script escapes none.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned)
}

/// An SVG in one colour as a grey PNG: the ink's coverage is the darkness.
fn draw(svg: &[u8]) -> Result<Vec<u8>> {
    let tree = usvg::Tree::from_data(svg, &usvg::Options::default())?;
    let mut pixels = tiny_skia::Pixmap::new(SIDE, SIDE).context("no memory for a drawing")?;
    let size = tree.size();
    let scale = tiny_skia::Transform::from_scale(SIDE as f32 / size.width(), SIDE as f32 / size.height());
    resvg::render(&tree, scale, &mut pixels.as_mut());
    let grey: Vec<u8> = pixels.pixels().iter().map(|pixel| 255 - pixel.alpha()).collect();
    ensure!(grey.iter().any(|value| *value < 128), "the drawing is blank");

    grey_png(&grey)
}
