//! `docs/methods.md` is what the table and the methods' own files say. After a change, write it anew:
//! `BALGRAD_WRITE_DOCS=1 cargo test --workspace --test docs`.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use balgrad::{Entry, Kind, METHODS, Prediction, Setting};

fn values(setting: &Setting) -> String {
    match setting.kind {
        Kind::Choice(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
        Kind::Flag => "`true`, `false`".into(),
        Kind::Number { min, max } => format!("{min} to {max}"),
        Kind::Count { min, max } => format!("whole, {min} to {max}"),
        Kind::Text => "text".into(),
    }
}

/// The file that holds an entry, and what it opens with.
fn source(entry: &Entry) -> (String, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/methods");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let name = format!("name: \"{}\"", entry.name);
    let texts = files.iter().map(|f| (f, std::fs::read_to_string(f).unwrap()));
    let (file, text) = texts.into_iter().find(|(_, text)| text.contains(&name)).unwrap();
    let head: Vec<&str> =
        text.lines().map_while(|l| l.strip_prefix("//!")).map(|l| l.strip_prefix(' ').unwrap_or(l)).collect();
    (file.file_name().unwrap().to_string_lossy().into_owned(), head.join("\n"))
}

fn page() -> String {
    let mut out = String::from(
        "# Methods\n\nWritten by a test from the table of methods and from the first lines of each method's file in \
         `crates/balgrad/src/methods/`. Cost counts forward and backward passes a step; a first layer on frozen features \
         is differentiated once, whatever the number of objectives. Settings go under `method.`, as in \
         `--set method.share=loss`.\n\n| method | what it does | cost | answers with |\n|---|---|---|---|\n",
    );
    for m in METHODS {
        let answer = match m.prediction {
            Prediction::Fused => "the fused head",
            Prediction::Own(_) => "that modality's own head",
            Prediction::Average => "the mean of the own heads",
            Prediction::All => "the mean of all heads",
            Prediction::Sum => "the sum of the own heads' logits",
            Prediction::Confident => "each modality alone, weighed by how sure it is",
        };
        writeln!(out, "| [`{0}`](#{0}) | {1} | {2} | {answer} |", m.name, m.about, m.cost).unwrap();
    }
    let mut last = String::new();
    for m in METHODS {
        let (file, head) = source(m);
        writeln!(out, "\n## {}\n", m.name).unwrap();
        match last == file {
            true => writeln!(out, "As the method before it, but: {}.", m.about).unwrap(),
            false => writeln!(out, "{head}").unwrap(),
        }
        writeln!(out, "\nSource: {}. File: `{file}`.", m.paper).unwrap();
        if !m.settings.is_empty() {
            writeln!(out, "\n| setting | default | values | meaning |\n|---|---|---|---|").unwrap();
        }
        for s in m.settings {
            writeln!(out, "| `{}` | `{}` | {} | {} |", s.name, s.default, values(s), s.about).unwrap();
        }
        last = file;
    }
    out
}

#[test]
fn the_page_of_methods_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/methods.md");
    if std::env::var_os("BALGRAD_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        page(),
        "write it anew: BALGRAD_WRITE_DOCS=1 cargo test --workspace --test docs"
    );
}

/// The toy method of `docs/architecture.md` is a whole file: the same as the one this test builds.
#[test]
fn the_toy_method_of_the_docs_is_the_one_that_is_built() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/architecture.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let shown = docs.split("```rust,ignore\n").nth(1).unwrap().split("\n```").next().unwrap();
    let built = include_str!("toy/half.rs").trim_end();
    let as_in_the_crate =
        built.replace("use balgrad::methods::", "use super::").replace("use balgrad::", "use crate::");
    let squeezed = |text: &str| text.replace("static ENTRY", "ENTRY").split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeezed(&as_in_the_crate.replace("pub(crate)", "pub(super)")), squeezed(shown));
}

#[path = "toy/half.rs"]
mod half;

#[test]
fn the_toy_method_works() {
    use balgrad::{Balancer, Block, Labels, Outputs, Role};
    use candle_core::{Device, Tensor, Var};
    let weight = Var::ones((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let x = Tensor::new(&[[1f32, 2.], [3., -1.]], &Device::Cpu).unwrap();
    let labels = Labels::classes(Tensor::new(&[0u32, 2], &Device::Cpu).unwrap());
    let gradient = |entry: &Entry| {
        let z = x.matmul(weight.as_tensor()).unwrap();
        let block = Block { name: "fused".into(), role: Role::Fused, vars: vec![weight.clone()] };
        let method = entry.with(&std::collections::BTreeMap::new()).unwrap();
        let mut balancer = Balancer::new(method, vec![block], 0);
        let store = balancer.backward(&Outputs::new(z.clone(), vec![z]), &labels).unwrap();
        store.get(weight.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let (half, whole) = (gradient(&half::ENTRY), gradient(balgrad::find("joint").unwrap()));
    assert!(whole.iter().any(|g| g.abs() > 0.1));
    assert!(half.iter().zip(&whole).all(|(h, w)| (2.0 * h - w).abs() < 1e-6));
}
