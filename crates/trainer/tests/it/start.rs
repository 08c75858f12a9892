//! `docs/start.md`: 300 photos and a spreadsheet, from data to a service, as the page tells it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const CATEGORIES: [(&str, [u8; 3], [&str; 4]); 4] = [
    ("chairs", [150, 90, 50], ["chair", "stool", "armchair", "seat"]),
    ("lamps", [240, 210, 90], ["lamp", "light", "lantern", "torch"]),
    ("mugs", [90, 140, 200], ["mug", "cup", "beaker", "teacup"]),
    ("shoes", [60, 60, 70], ["shoe", "boot", "sandal", "trainer"]),
];
const ADJECTIVES: [&str; 6] = ["small", "red", "modern", "old", "handmade", "blue"];

/// A shop's photos and spreadsheet. One photo in five or so shows another category's thing, one title in five no telling word.
fn shop(folder: &Path) {
    std::fs::create_dir(folder.join("photos")).unwrap();
    let mut state = 7u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let mut table = String::from("Article;Photo;Title;Price;Category\n");
    for i in 0..300 {
        let class = i % 4;
        let shown = if draw(5) == 0 { draw(4) } else { class };
        let photo = image::RgbImage::from_fn(48, 48, |x, y| {
            let inside = match shown {
                0 => x > 14 && x < 34 && y > 8,
                1 => (x as i32 - 24).pow(2) + (y as i32 - 18).pow(2) < 150,
                2 => x > 12 && x < 36 && y > 16 && y < 40,
                _ => y > 28 && x > 6 && x < 42,
            };
            let colour = if inside { CATEGORIES[shown].1 } else { [235, 232, 228] };
            image::Rgb(colour.map(|c| c.saturating_add(draw(20) as u8)))
        });
        photo.save(folder.join(format!("photos/{i:03}.jpg"))).unwrap();
        let word = if draw(5) == 0 { "item" } else { CATEGORIES[class].2[draw(4)] };
        let (title, price) = (ADJECTIVES[draw(6)], 5 + draw(60));
        writeln!(table, "A{i:03};{i:03}.jpg;{title} {word} no. {i};{price},90;{}", CATEGORIES[class].0).unwrap();
    }
    std::fs::write(folder.join("products.csv"), table).unwrap();
}

/// A line without its digits, which times and scores fill.
fn masked(line: &str) -> String {
    line.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("#")
}

/// Commands of the page's transcript, each with the lines below it.
fn transcript() -> Vec<(String, Vec<String>)> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/start.md")).unwrap();
    let blocks = page.split("```console\n").skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned());
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in blocks.collect::<Vec<_>>().join("\n").lines() {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push((command.to_owned(), Vec::new())),
            None => commands.last_mut().unwrap().1.push(line.to_owned()),
        }
    }
    commands
}

fn balgrad(folder: &Path, words: &[String]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("balgrad"));
    command.args(words).current_dir(folder).env("BALGRAD_CACHE", folder.join("cache"));
    command
}

struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn three_commands_lead_from_photos_and_a_spreadsheet_to_a_service() {
    let folder = tempfile::tempdir().unwrap();
    shop(folder.path());
    let commands = transcript();
    assert_eq!(commands.len(), 4);
    let mut server = None;
    for (command, shown) in &commands {
        let words: Vec<String> = super::docs::words(command);
        let said = match (words[0].as_str(), words[1].as_str()) {
            ("balgrad", "serve") => {
                // Any free port, as the tests of other pages may run beside this one.
                let arguments = [&words[1..], &["--port".into(), "0".into()]].concat();
                let mut child = balgrad(folder.path(), &arguments).stderr(Stdio::piped()).spawn().unwrap();
                let mut line = String::new();
                BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
                let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
                server = Some((Stopped(child), address));
                line
            }
            ("balgrad", _) => {
                let output = balgrad(folder.path(), &words[1..]).output().unwrap();
                let said = [output.stderr, output.stdout].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
                assert!(output.status.success(), "{command}: {said}");
                said
            }
            ("curl", _) => {
                let (_, address) = server.as_ref().unwrap();
                let body = words.iter().skip_while(|word| *word != "-d").nth(1).unwrap();
                let mut stream = TcpStream::connect(address).unwrap();
                let head = "POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json";
                write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                let answer: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
                assert_eq!(answer["labels"][0], "mugs", "{answer}");
                assert_eq!(answer["got"], serde_json::json!(["text"]), "{answer}");
                continue;
            }
            _ => panic!("{command}"),
        };
        for line in shown.iter().filter(|line| line.trim() != "…") {
            let found = said.lines().any(|other| masked(other.trim_end()) == masked(line.trim_end()));
            assert!(found, "{command}: no line such as\n{line}\nin\n{said}");
        }
    }
    // The page has what the record says.
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("mugs") && page.contains("Without the image"), "{}", page.len());
}
