//! Every `balgrad` command of the README and of the pages for users runs, as written but for the number of epochs; links lead
//! somewhere.

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// The arguments of each command line in the `console` blocks of a page.
fn commands(page: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("balgrad "));
    lines.map(words).collect()
}

/// Words of a line as a shell splits it, with its quotes and without its escapes.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut all, mut quote) = (vec![String::new()], None);
    for c in line.chars() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(end)) if c == end => quote = None,
            (' ', None) => all.push(String::new()),
            (c, _) => all.last_mut().unwrap().push(c),
        }
    }
    all.into_iter().filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_command_of_the_pages_runs() {
    let folder = tempfile::tempdir().unwrap();
    image::RgbImage::from_pixel(80, 60, image::Rgb([200, 30, 40])).save(folder.path().join("photo.jpg")).unwrap();
    let datasets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
    std::fs::create_dir(folder.path().join("photos")).unwrap();
    std::fs::copy(folder.path().join("photo.jpg"), folder.path().join("photos/1.jpg")).unwrap();
    std::fs::write(folder.path().join("products.csv"), "title,photo\na red apple,photos/1.jpg\n").unwrap();
    std::fs::write(folder.path().join("samples.jsonl"), "{\"text\": \"a red apple\"}\n").unwrap();
    for page in ["README.md", "docs/guide.md", "docs/choose.md", "docs/report.md", "docs/deploy.md", "docs/cluster.md"]
    {
        let all = commands(page);
        assert!(all.len() >= 2, "{page} shows {} commands", all.len());
        for mut arguments in all {
            // Each page has its own runs.
            let own = format!("{}/", page.replace('/', "-"));
            arguments.iter_mut().for_each(|a| *a = a.replace("runs/", &own));
            let into = arguments.iter().position(|word| word == ">").map(|at| arguments.split_off(at).pop().unwrap());
            if matches!(arguments[0].as_str(), "train" | "compare") {
                arguments.extend(["--set", "epochs=1"].map(str::to_owned));
            }
            let mut command = Command::cargo_bin("balgrad").unwrap();
            command.args(&arguments).current_dir(folder.path()).env("BALGRAD_DATASETS", &datasets);
            command.env("BALGRAD_CACHE", folder.path().join("cache"));
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{page}: balgrad {}: {said}", arguments.join(" "));
            if let Some(file) = into {
                assert!(!output.stdout.is_empty(), "{page}: {file}");
            }
        }
    }
}

/// The pages: the README, those of the book and of the crates.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let mut all = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("datasets/README.md")];
    all.extend(list(&root.join("crates")).iter().map(|folder| folder.join("README.md")));
    all.extend([list(&root.join("docs")), list(&root.join("docs/methods"))].concat());
    all.into_iter().filter(|path| path.extension().is_some_and(|e| e == "md") && path.exists()).collect()
}

/// A heading's name in links, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let mut count = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            // Crates' pages are rustdoc too, whose links may name an item.
            if link.starts_with("http")
                || link.contains([' ', '`'])
                || !link.contains(['.', '/', '#'])
                || link.contains("::")
            {
                continue;
            }
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: no `{link}`", page.display());
            if !part.is_empty() {
                let linked = std::fs::read_to_string(&target).unwrap();
                let mut headings = linked.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| anchor(line.trim_start_matches('#').trim()) == part);
                assert!(found, "{}: no heading for `{link}`", page.display());
            }
            count += 1;
        }
    }
    assert!(count > 100, "{count} links");
}

/// A page that is not in the book's contents is not in the book.
#[test]
fn every_page_of_the_docs_is_in_the_book() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let contents = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    for page in pages().iter().filter(|page| page.parent().unwrap().ends_with("docs")) {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "SUMMARY.md" || contents.contains(&format!("({name})")), "{name} is not in SUMMARY.md");
    }
}
