//! `balgrad serve`, over real connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::world::{World, code, stderr};

/// A world with a trained run, shared by the tests here.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let world = World::new();
        let output = world.train("run", &["--set", "epochs=8"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        world
    })
}

struct Server {
    child: Child,
    address: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Server {
    fn start(more: &[&str]) -> Self {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("balgrad"));
        command.current_dir(world().0.path()).args(["serve", "run", "--port", "0"]).args(more);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap_or_else(|| panic!("{line}"));
        let address = address.split('/').next().unwrap().to_owned();
        Self { child, address, log }
    }

    /// A connection over which a request was sent.
    fn send(&self, head: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        // A server that has refused need not read on.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        stream
    }

    fn post(&self, kind: &str, body: &[u8]) -> (u16, Value) {
        let (status, body) = receive(self.send(&format!("POST /predict HTTP/1.1\r\nContent-Type: {kind}"), body));
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn ask(&self, body: &Value) -> (u16, Value) {
        self.post("application/json", body.to_string().as_bytes())
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (status, body) = receive(self.send(&format!("GET {path} HTTP/1.1"), b""));
        (status, String::from_utf8(body).unwrap())
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of an answer.
fn receive(mut stream: TcpStream) -> (u16, Vec<u8>) {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {all:?}"));
    let status = std::str::from_utf8(&all[9..12]).unwrap().parse().unwrap();
    (status, all[end + 4..].to_vec())
}

fn image(i: usize) -> Vec<u8> {
    std::fs::read(world().data().join(format!("images/{i}.png"))).unwrap()
}

/// What `predict` says of a sample.
fn predicted(arguments: &[&str]) -> Value {
    let output = world().run(&[&["predict", "run"], arguments].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The same labels and modalities, and numbers to rounding: a batch sums in another order.
fn same(found: &Value, expected: &Value) {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{found} {expected}");
            a.iter().for_each(|(key, value)| same(value, &b[key]));
        }
        (Value::Number(a), Value::Number(b)) => {
            assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5, "{found} {expected}");
        }
        _ => assert_eq!(found, expected),
    }
}

#[test]
fn a_server_answers_what_predict_answers_in_every_form() {
    let server = Server::start(&[]);
    let encoded = STANDARD.encode(image(1));
    let both = predicted(&["--image", "data/images/1.png", "--text", "grass thing"]);
    let alone = predicted(&["--image", "data/images/1.png"]);
    let text = predicted(&["--text", "grass thing"]);
    for (asked, expected) in [
        (json!({"image": encoded, "text": "grass thing"}), &both),
        (json!({"image": format!("data:image/png;base64,{encoded}"), "text": null}), &alone),
        (json!({"text": "grass thing"}), &text),
    ] {
        let (status, answer) = server.ask(&asked);
        assert_eq!(status, 200, "{answer}");
        same(&answer, expected);
    }
    let (status, nothing) = server.ask(&json!({}));
    assert_eq!((status, &nothing["got"]), (200, &json!([])));
    let list = json!([{"id": 7, "text": "grass thing"}, {"id": "b", "sound": "moo"}, {"image": encoded}]);
    let (status, answers) = server.ask(&list);
    assert_eq!((status, &answers[0]["id"]), (200, &json!(7)));
    let mut first = answers[0].clone();
    first.as_object_mut().unwrap().remove("id");
    same(&first, &text);
    assert_eq!((&answers[1]["status"], &answers[1]["id"]), (&json!(422), &json!("b")));
    assert!(answers[1]["error"].as_str().unwrap().contains("the model reads no `sound`"));
    same(&answers[2], &alone);
    let part = |name: &str| format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"x\"\r\n\r\n");
    let (before, between) = (part("image"), part("text"));
    let form = [before.as_bytes(), &image(1), b"\r\n", between.as_bytes(), b"grass thing\r\n--B--\r\n"];
    let (status, answer) = server.post("multipart/form-data; boundary=B", &form.concat());
    assert_eq!(status, 200, "{answer}");
    same(&answer, &both);

    // A photo of 3 MB, as cameras make them.
    let noise = image::RgbImage::from_fn(1000, 1000, |x, y| {
        let hash = (x * 1000 + y).wrapping_mul(2_654_435_761).to_be_bytes();
        image::Rgb([hash[0], hash[1], hash[2]])
    });
    let mut photo = Vec::new();
    noise.write_to(&mut std::io::Cursor::new(&mut photo), image::ImageFormat::Bmp).unwrap();
    let form = [part("image").as_bytes(), &photo, b"\r\n--B--\r\n"].concat();
    assert!(form.len() > 3_000_000);
    let (status, answer) = server.post("multipart/form-data; boundary=B", &form);
    assert_eq!((status, &answer["got"]), (200, &json!(["image"])), "{answer}");

    let (status, health) = server.get("/health");
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["status"], &health["classes"]), (200, &json!("ok"), &json!(["blue", "green", "red"])));
    let (_, metrics) = server.get("/metrics");
    for line in [
        "balgrad_samples_total{modalities=\"image+text\"} 2",
        "balgrad_samples_total{modalities=\"none\"} 1",
        "balgrad_requests_total{path=\"/predict\",status=\"200\"} 7",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    let (_, document) = server.get("/openapi.json");
    let document: Value = serde_json::from_str(&document).unwrap();
    assert!(document["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"].is_object());
    let (status, page) = server.get("/");
    assert!(status == 200 && page.starts_with("<!doctype html>"));
}

#[test]
fn a_thousand_requests_at_once_are_all_answered_right() {
    let server = Server::start(&[]);
    let words = ["apple thing", "grass thing", "sea thing"];
    let expected = words.map(|word| predicted(&["--text", word]));
    let open: Vec<TcpStream> = (0..1000)
        .map(|i| {
            let body = json!({"id": i, "text": words[i % 3]}).to_string();
            server.send("POST /predict HTTP/1.1\r\nContent-Type: application/json", body.as_bytes())
        })
        .collect();
    for (i, stream) in open.into_iter().enumerate() {
        let (status, body) = receive(stream);
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &answer["id"]), (200, &json!(i)), "{answer}");
        answer.as_object_mut().unwrap().remove("id");
        same(&answer, &expected[i % 3]);
    }
}

#[test]
fn hostile_bodies_get_a_status_and_one_line() {
    let server = Server::start(&["--max-body", "1", "--max-pixels", "1", "--max-waiting", "4"]);
    let mut large = Vec::new();
    let wide = image::RgbImage::new(1100, 1000);
    wide.write_to(&mut std::io::Cursor::new(&mut large), image::ImageFormat::Png).unwrap();
    let in_json = |image: &str| json!({"image": image}).to_string().into_bytes();
    let deep = "[".repeat(100_000).into_bytes();
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("application/json", b"{\"text\": ".to_vec(), 400, "not JSON"),
        ("application/json", b"\xff\xfe".to_vec(), 400, "not JSON"),
        ("application/json", deep, 400, "not JSON"),
        ("application/json", b"3".to_vec(), 400, "a batch a list"),
        ("application/json", b"{\"text\": 3}".to_vec(), 400, "`text` is a string"),
        ("application/json", in_json("/etc/passwd!"), 400, "not base64"),
        ("application/json", in_json(&STANDARD.encode(b"no image")), 422, "known format"),
        ("application/json", in_json(&STANDARD.encode(&image(0)[..60])), 422, "image"),
        ("application/json", in_json(&STANDARD.encode(large)), 413, "--max-pixels"),
        ("application/json", b"[{},{},{},{},{}]".to_vec(), 413, "at most 4"),
        ("application/json", vec![b' '; (1 << 20) + 1], 413, "--max-body"),
        ("text/plain", b"hello".to_vec(), 415, "application/json"),
        ("multipart/form-data", b"hello".to_vec(), 400, "form"),
        ("multipart/form-data; boundary=B", b"--B\r\nContent-Disp".to_vec(), 400, "form"),
    ];
    for (kind, body, status, says) in cases {
        let (found, answer) = server.post(kind, &body);
        let error = answer["error"].as_str().unwrap();
        assert!(found == status && error.contains(says) && !error.contains('\n'), "{says}: {found} {error}");
    }
    assert_eq!(server.get("/nothing").0, 404);
    assert_eq!(server.get("/predict").0, 405);
    assert_eq!(server.ask(&json!({"text": "apple"})).0, 200);
}

#[test]
fn a_client_that_stalls_is_told_so_and_holds_nobody_up() {
    let server = Server::start(&["--max-seconds", "1"]);
    let mut slow = TcpStream::connect(&server.address).unwrap();
    let head = "POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(slow, "{head}Content-Length: 100\r\n\r\n{{").unwrap();
    assert_eq!(server.ask(&json!({"text": "apple"})).0, 200);
    let (status, body) = receive(slow);
    assert!(status == 408 && String::from_utf8(body).unwrap().contains("--max-seconds"), "{status}");
}

#[test]
fn a_signal_under_load_loses_no_accepted_request() {
    let mut server = Server::start(&[]);
    let expected = predicted(&["--text", "sea thing"]);
    let body = json!({"text": "sea thing"}).to_string();
    let send = || server.send("POST /predict HTTP/1.1\r\nContent-Type: application/json", body.as_bytes());
    let open: Vec<TcpStream> = (0..300).map(|_| send()).collect();
    server.signal("-TERM");
    for stream in open {
        let (status, body) = receive(stream);
        assert_eq!(status, 200);
        same(&serde_json::from_slice(&body).unwrap(), &expected);
    }
    assert!(server.child.wait().unwrap().success());
    let mut said = String::new();
    server.log.read_to_string(&mut said).unwrap();
    assert!(said.contains("stopped; 300 predictions"), "{said}");
}

#[test]
fn a_port_that_is_taken_and_a_run_that_is_not_there_are_wrong_use() {
    let server = Server::start(&[]);
    let port = server.address.split(':').nth(1).unwrap();
    for (arguments, says) in
        [(&["serve", "run", "--port", port][..], "choose another --port"), (&["serve", "none"], "does not exist")]
    {
        let output = world().run(arguments);
        assert!(code(&output) == 2 && stderr(&output).contains(says), "{}", stderr(&output));
    }
}
