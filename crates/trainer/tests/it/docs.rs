//! Every `balgrad` command of the README and the guide runs, as written but for the number of epochs.

use std::path::Path;

use assert_cmd::Command;

/// The arguments of each command line in the `console` blocks of a page.
fn commands(page: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("balgrad "));
    lines.map(words).collect()
}

/// Words of a line as a shell splits it, double quotes alone.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => all.push(String::new()),
            c => all.last_mut().unwrap().push(c),
        }
    }
    all.into_iter().filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_command_of_the_pages_runs() {
    let folder = tempfile::tempdir().unwrap();
    image::RgbImage::from_pixel(80, 60, image::Rgb([200, 30, 40])).save(folder.path().join("photo.jpg")).unwrap();
    let datasets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
    for page in ["README.md", "docs/guide.md"] {
        let all = commands(page);
        assert!(all.len() >= 4, "{page} shows {} commands", all.len());
        for mut arguments in all {
            if page == "docs/guide.md" {
                arguments.iter_mut().for_each(|a| *a = a.replace("runs/", "guide/"));
            }
            if matches!(arguments[0].as_str(), "train" | "compare") {
                arguments.extend(["--set", "epochs=1"].map(str::to_owned));
            }
            let mut command = Command::cargo_bin("balgrad").unwrap();
            command.args(&arguments).current_dir(folder.path()).env("BALGRAD_DATASETS", &datasets);
            command.env("BALGRAD_CACHE", folder.path().join("cache"));
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{page}: balgrad {}: {said}", arguments.join(" "));
        }
    }
}
