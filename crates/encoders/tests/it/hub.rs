//! Models and data sets from a hub: downloaded once, whole or not at all, and found again without it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::hub_server::{COMMIT, Fault, Hub};
use balgrad_encoders::{HubSettings, ModelFiles, hub_dataset};

/// A hub with one model of 100,000 bytes, and an empty cache.
fn world() -> (Hub, tempfile::TempDir, HubSettings, Vec<u8>) {
    let (hub, cache) = (Hub::start(), tempfile::tempdir().unwrap());
    let settings = HubSettings {
        endpoint: Some(hub.endpoint.clone()),
        cache: Some(cache.path().into()),
        ..HubSettings::default()
    };
    let content: Vec<u8> = (0..100_000u64).map(|i| (i * i % 251) as u8).collect();
    hub.put("owner/model", "model.safetensors", &content);
    hub.put("owner/model", "config.json", b"{}");
    (hub, cache, settings, content)
}

fn get(settings: &HubSettings, file: &str) -> Result<Option<Vec<u8>>, String> {
    let files = ModelFiles::open("owner/model", settings).map_err(|e| e.to_string())?;
    let path = files.file(file).map_err(|e| e.to_string())?;
    Ok(path.map(|path| std::fs::read(path).unwrap()))
}

/// Blobs in the cache, those in the making included.
fn blobs(cache: &Path, repository: &str) -> usize {
    let folder = cache.join(repository).join("blobs");
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_none_or(|extension| extension != "lock")).count()
}

#[test]
fn a_file_is_downloaded_once_and_an_absent_one_asked_for_once() {
    let (hub, _cache, settings, content) = world();
    assert_eq!(get(&settings, "model.safetensors").unwrap().unwrap(), content);
    assert_eq!(get(&settings, "preprocessor_config.json").unwrap(), None);
    assert_eq!(hub.requests().len(), 3);
    assert_eq!(get(&settings, "model.safetensors").unwrap().unwrap(), content);
    assert_eq!(get(&settings, "preprocessor_config.json").unwrap(), None);
    let offline = HubSettings { offline: true, endpoint: None, ..settings.clone() };
    assert_eq!(get(&offline, "model.safetensors").unwrap().unwrap(), content);
    assert_eq!(hub.requests(), Vec::<String>::new());
}

#[test]
fn a_cut_connection_goes_on_where_it_was() {
    let (hub, cache, settings, content) = world();
    hub.fault("model.safetensors", Fault::Cut { after: 30_000, times: 2 });
    assert_eq!(get(&settings, "model.safetensors").unwrap().unwrap(), content);
    let ranges: Vec<String> = hub.requests().iter().map(|r| r.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(ranges, ["0-0", "0-", "30000-", "60000-"]);
    assert_eq!(blobs(cache.path(), "models--owner--model"), 1);
}

#[test]
fn a_connection_that_is_cut_too_often_leaves_what_came_for_the_next_time() {
    let (hub, _cache, settings, content) = world();
    hub.fault("model.safetensors", Fault::Cut { after: 1000, times: 5 });
    let error = get(&settings, "model.safetensors").unwrap_err();
    assert!(error.contains("5000 of 100000 bytes are kept"), "{error}");
    hub.requests();
    assert_eq!(get(&settings, "model.safetensors").unwrap().unwrap(), content);
    assert!(hub.requests().iter().any(|request| request.ends_with(" 5000-")));
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let (hub, _cache, settings, content) = world();
    hub.fault("model.safetensors", Fault::Cut { after: 1000, times: 5 });
    get(&settings, "model.safetensors").unwrap_err();
    hub.fault("model.safetensors", Fault::NoRanges);
    assert_eq!(get(&settings, "model.safetensors").unwrap().unwrap(), content);
}

#[test]
fn what_is_not_what_was_announced_is_refused_and_not_kept() {
    for (fault, says) in [
        (Fault::OtherHash, "refused"),
        (Fault::OtherSize(99_000), "longer than the 99000 bytes"),
        (Fault::OtherSize(100_001), "100000 of 100001 bytes"),
    ] {
        let (hub, cache, settings, content) = world();
        hub.fault("model.safetensors", fault.clone());
        let error = get(&settings, "model.safetensors").unwrap_err();
        assert!(error.contains("owner/model") && error.contains(says), "{fault:?}: {error}");
        let offline = HubSettings { offline: true, ..settings.clone() };
        assert!(!matches!(get(&offline, "model.safetensors"), Ok(Some(_))), "{fault:?}");
        if !matches!(fault, Fault::OtherSize(100_001)) {
            assert_eq!(blobs(cache.path(), "models--owner--model"), 0, "{fault:?}");
        }
        hub.fault("model.safetensors", Fault::NoRanges);
        assert_eq!(get(&settings, "model.safetensors").unwrap().unwrap(), content, "{fault:?}");
    }
}

#[test]
fn a_busy_server_is_waited_for_within_bounds() {
    let (hub, _cache, settings, content) = world();
    hub.fault("model.safetensors", Fault::Busy { status: 429, seconds: Some(1), times: 1 });
    let started = Instant::now();
    assert_eq!(get(&settings, "model.safetensors").unwrap().unwrap(), content);
    assert!(started.elapsed() >= Duration::from_secs(1));
    hub.fault("config.json", Fault::Busy { status: 503, seconds: None, times: 2 });
    assert_eq!(get(&settings, "config.json").unwrap().unwrap(), b"{}");

    let (hub, _cache, settings, _) = world();
    hub.fault("model.safetensors", Fault::Busy { status: 429, seconds: Some(3600), times: 1 });
    let error = get(&settings, "model.safetensors").unwrap_err();
    assert!(error.contains("429") && error.contains("wait 3600 s"), "{error}");
    hub.fault("model.safetensors", Fault::Busy { status: 500, seconds: Some(0), times: 99 });
    let error = get(&settings, "model.safetensors").unwrap_err();
    assert!(error.contains("500") && error.contains("5 times"), "{error}");
}

#[test]
fn a_private_repository_wants_a_token() {
    let (hub, _cache, settings, content) = world();
    hub.hide("owner/model");
    let error = get(&settings, "model.safetensors").unwrap_err();
    assert!(error.contains("401") && error.contains("set HF_TOKEN"), "{error}");
    let wrong = HubSettings { token: Some("wrong".into()), ..settings.clone() };
    assert!(get(&wrong, "model.safetensors").unwrap_err().contains("the token in HF_TOKEN may not read it"));
    let right = HubSettings { token: Some("secret".into()), ..settings };
    assert_eq!(get(&right, "model.safetensors").unwrap().unwrap(), content);
}

#[test]
fn what_the_hub_lacks_is_said() {
    let (hub, cache, settings, _) = world();
    let open = |name: &str| ModelFiles::open(name, &settings).unwrap().file("config.json");
    let error = open("owner/other").unwrap_err().to_string();
    assert!(error.contains("owner/other: the hub has no such repository or revision"), "{error}");
    let error = hub_dataset("owner/other", &settings).unwrap_err().to_string();
    assert!(error.contains("the hub has no such data set or revision"), "{error}");
    for odd in ["owner", "owner/../x", "/owner/name", "owner/name/more", "owner/name@../x"] {
        let error = hub_dataset(odd, &settings).unwrap_err().to_string();
        assert!(error.contains("neither a folder nor a repository"), "{error}");
    }
    hub.put("datasets/owner/evil", "images/../../../evil", b"x");
    let error = hub_dataset("owner/evil", &settings).unwrap_err().to_string();
    assert!(error.contains("leads out of the cache"), "{error}");
    // Nobody listens there.
    let gone = HubSettings { endpoint: Some("http://127.0.0.1:9".into()), ..settings.clone() };
    let error = hub_dataset("owner/data", &gone).unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:9") && error.contains("5 times"), "{error}");
    assert!(!cache.path().join("datasets--owner--data").exists());
}

#[test]
fn a_data_set_is_whole_or_not_there() {
    let (hub, cache, settings, _) = world();
    hub.put("datasets/owner/data", "manifest.jsonl", b"{}\n");
    hub.put("datasets/owner/data", "images/a.png", b"not a picture");
    hub.put("datasets/owner/data", "empty.txt", b"");
    hub.put("datasets/owner/data", ".gitattributes", b"unused");
    hub.fault("images/a.png", Fault::Busy { status: 429, seconds: Some(999), times: 1 });
    let offline = HubSettings { offline: true, ..settings.clone() };
    hub_dataset("owner/data", &settings).unwrap_err();
    let error = hub_dataset("owner/data", &offline).unwrap_err().to_string();
    assert!(error.contains("not wholly, in the cache"), "{error}");
    let folder = hub_dataset("owner/data", &settings).unwrap();
    assert_eq!(std::fs::read(folder.join("images/a.png")).unwrap(), b"not a picture");
    assert_eq!(std::fs::read(folder.join("empty.txt")).unwrap(), b"");
    assert!(!folder.join(".gitattributes").exists() && folder.ends_with(COMMIT));
    hub.requests();
    for settings in [&settings, &offline] {
        assert_eq!(hub_dataset("owner/data", settings).unwrap(), folder);
    }
    assert!(hub.requests().is_empty());
    assert!(folder.starts_with(cache.path()));
}

#[test]
fn several_at_once_share_a_download() {
    let (hub, _cache, settings, content) = world();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(get(&settings, "model.safetensors").unwrap().unwrap(), content));
        }
    });
    assert_eq!(hub.requests().iter().filter(|request| request.ends_with(" 0-")).count(), 1);
}

#[test]
fn a_download_that_is_stopped_is_kept() {
    let (hub, _cache, settings, content) = world();
    hub.fault("model.safetensors", Fault::Cut { after: 1000, times: 5 });
    get(&settings, "model.safetensors").unwrap_err();
    let stopped = HubSettings { stop: Some(|| true), ..settings.clone() };
    let error = get(&stopped, "model.safetensors").unwrap_err();
    assert!(error.contains("the download was stopped"), "{error}");
    hub.requests();
    assert_eq!(get(&settings, "model.safetensors").unwrap().unwrap(), content);
    assert!(hub.requests().iter().any(|request| request.ends_with(" 5000-")));
}

#[test]
fn files_of_any_name_are_fetched() {
    let (hub, _cache, settings, _) = world();
    let names = ["my pictures/ü 1.png", "100% #1?.txt", "图像/+&=.csv", "a;b:c@d,e'f.json"];
    for (i, name) in names.iter().enumerate() {
        hub.put("datasets/owner/data", name, &[i as u8; 9]);
    }
    let folder = hub_dataset("owner/data", &settings).unwrap();
    for (i, name) in names.iter().enumerate() {
        assert_eq!(std::fs::read(folder.join(name)).unwrap(), [i as u8; 9], "{name}");
    }
}

#[test]
fn the_token_stays_with_the_server_that_it_is_for() {
    let (hub, _cache, settings, content) = world();
    let elsewhere = Hub::start();
    elsewhere.put("owner/model", "model.safetensors", &content);
    hub.hide("owner/model");
    hub.fault("model.safetensors", Fault::Elsewhere(elsewhere.endpoint.clone()));
    let settings = HubSettings { token: Some("secret".into()), ..settings };
    assert_eq!(get(&settings, "model.safetensors").unwrap().unwrap(), content);
    assert_eq!((hub.tokens(), elsewhere.tokens()), (vec![true, true], vec![false]));
}

#[test]
fn a_silent_server_does_not_make_us_deaf() {
    let (hub, _cache, settings, _) = world();
    hub.fault("model.safetensors", Fault::Silent(Duration::from_secs(20)));
    let settings = HubSettings { stop: Some(|| true), ..settings };
    let start = Instant::now();
    let error = get(&settings, "model.safetensors").unwrap_err();
    assert!(error.contains("stopped"), "{error}");
    static ASKED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    // Told to stop while the server has its pause.
    let later = || ASKED.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 3;
    let error = get(&HubSettings { stop: Some(later), ..settings }, "model.safetensors").unwrap_err();
    assert!(error.contains("stopped"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
