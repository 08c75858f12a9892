//! The pages of methods are what the table and the methods' own files say. After a change, write them anew:
//! `BALGRAD_WRITE_DOCS=1 cargo test --workspace --test it`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use balgrad::{Entry, Kind, METHODS, Prediction, Setting};

fn values(setting: &Setting) -> String {
    match setting.kind {
        Kind::Choice(words) => words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "),
        Kind::Flag => "`true`, `false`".into(),
        Kind::Number { min, max } => format!("{min} to {max}"),
        Kind::Count { min, max } => format!("whole, {min} to {max}"),
        _ => "text".into(),
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

fn answer(entry: &Entry) -> &'static str {
    match entry.prediction {
        Prediction::Fused => "the fused head",
        Prediction::Own(_) => "that modality's own head",
        Prediction::Average => "the mean of the own heads",
        Prediction::All => "the mean of all heads",
        Prediction::Sum => "the sum of the own heads' logits",
        _ => "each modality alone, weighed by how sure it is",
    }
}

/// `docs/methods.md`: what there is.
fn index() -> String {
    let mut out = String::from(
        "# Methods\n\nEach has a page, written by a test from the table of methods and from the first lines of its file in \
         `crates/balgrad/src/methods/`. Cost counts forward and backward passes a step, and a test counts with it; a linear \
         layer of `h_m` that the batch allows it is differentiated once, whatever the number of objectives. Settings go under `method.`, \
         as in `--set method.share=loss`. What public code of these methods gets wrong stands in \
         [Faults seen elsewhere](faults.md).\n\n\
         | method | what it does | cost | answers with | source |\n|---|---|---|---|---|\n",
    );
    for m in METHODS {
        let (name, about, cost, paper) = (m.name, m.about, m.cost, m.paper);
        writeln!(out, "| [`{name}`](methods/{name}.md) | {about} | {cost} | {} | {paper} |", answer(m)).unwrap();
    }
    out
}

/// `docs/methods/NAME.md`.
fn page(m: &Entry) -> String {
    let (file, head) = source(m);
    let mut out = format!("# {}\n\n*{}.*\n\n{head}\n\n", m.name, m.about);
    writeln!(out, "**Use it** {}.\n", m.when).unwrap();
    writeln!(out, "**Cost** {} a step. **Answers with** {}.\n", m.cost, answer(m)).unwrap();
    writeln!(out, "**Source** {}. **File** `crates/balgrad/src/methods/{file}`.", m.paper).unwrap();
    if !m.settings.is_empty() {
        writeln!(out, "\n| setting | default | values | meaning |\n|---|---|---|---|").unwrap();
    }
    for s in m.settings {
        writeln!(out, "| `{}` | `{}` | {} | {} |", s.name, s.default, values(s), s.about).unwrap();
    }
    out
}

/// `docs/SUMMARY.md` with a line for each page under that of the methods.
fn summary(before: &str) -> String {
    let mut out = String::new();
    for line in before.lines().filter(|line| !line.starts_with("  - [")) {
        writeln!(out, "{line}").unwrap();
        if line == "- [Methods](methods.md)" {
            METHODS.iter().for_each(|m| writeln!(out, "  - [{0}](methods/{0}.md)", m.name).unwrap());
        }
    }
    out
}

#[test]
fn the_pages_of_methods_are_up_to_date() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let contents = docs.join("SUMMARY.md");
    let mut pages = vec![(docs.join("methods.md"), index()), (contents.clone(), summary(&read(&contents)))];
    pages.extend(METHODS.iter().map(|m| (docs.join(format!("methods/{}.md", m.name)), page(m))));
    if std::env::var_os("BALGRAD_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(docs.join("methods")).unwrap();
        pages.iter().for_each(|(path, text)| std::fs::write(path, text).unwrap());
    }
    for (path, text) in &pages {
        let wrong =
            format!("{}: write it anew by BALGRAD_WRITE_DOCS=1 cargo test --workspace --test it", path.display());
        assert_eq!(&read(path), text, "{wrong}");
    }
    let found = std::fs::read_dir(docs.join("methods")).unwrap().count();
    assert_eq!(found, METHODS.len(), "docs/methods holds pages of methods that are not in the table");
}

#[test]
fn every_entry_says_when_to_use_it() {
    for m in METHODS {
        assert!(m.when.split(' ').count() > 3 && !m.when.ends_with('.'), "{}: `{}`", m.name, m.when);
    }
}

/// `docs/faults.md` names a test for each fault; each is the name of one.
#[test]
fn every_fault_is_caught_by_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = String::new();
    let mut folders = vec![root.join("crates")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let page = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| public code")).collect();
    assert!(rows.len() > 15);
    for row in rows {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let tests: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty() || last.starts_with("none:"), "no test: {row}");
        for test in tests {
            let function = test.rsplit("::").next().unwrap();
            assert!(
                sources.contains(&format!("#[test]\nfn {function}()"))
                    || sources.contains(&format!("    #[test]\n    fn {function}()")),
                "no test `{test}`"
            );
        }
    }
}

/// The toy method of `docs/architecture.md` is a whole file: the same as the one this test builds.
#[test]
fn the_toy_method_of_the_docs_is_the_one_that_is_built() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/architecture.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let shown = docs.split("```rust,ignore\n").nth(1).unwrap().split("\n```").next().unwrap();
    let built = include_str!("toy/half.rs").trim_end();
    let as_in_the_crate = built.replace("use balgrad::", "use crate::");
    let squeezed = |text: &str| text.replace("static ENTRY", "ENTRY").split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeezed(&as_in_the_crate.replace("pub(crate)", "pub(super)")), squeezed(shown));
}

#[path = "toy/half.rs"]
mod half;

#[test]
fn the_toy_method_works() {
    use balgrad::{Balancer, Block, Outputs, Role, Target};
    use candle_core::{Device, Tensor, Var};
    let weight = Var::ones((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let x = Tensor::new(&[[1f32, 2.], [3., -1.]], &Device::Cpu).unwrap();
    let labels = Target::class(Tensor::new(&[0u32, 2], &Device::Cpu).unwrap(), None);
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
