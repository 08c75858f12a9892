//! The paper's experiments as config files: each resolves, and the page on them names each.

use std::path::{Path, PathBuf};

use balgrad_data::LAYOUTS;
use balgrad_encoders::{encoder, fusion};
use balgrad_trainer::config::Config;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every config, and whether it is one of a data set, which the others stand over.
fn configs() -> Vec<(PathBuf, bool)> {
    let files = std::fs::read_dir(root().join("configs")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> =
        files.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap().contains("layout"))).collect();
    all.sort();
    all
}

#[test]
fn every_config_resolves_alone_and_over_every_data_set() {
    let (bases, others): (Vec<_>, Vec<_>) = configs().into_iter().partition(|(_, is_base)| *is_base);
    assert!(bases.len() >= 5 && others.len() >= 6);
    for (base, _) in &bases {
        let whole = Config::load(&[base], &[]).unwrap();
        assert!(LAYOUTS.iter().any(|layout| Some(layout.name) == whole.data.layout.as_deref()), "{}", base.display());
        for (other, _) in &others {
            let config = Config::load(&[base, other], &[]).unwrap_or_else(|e| panic!("{}: {e}", other.display()));
            assert_ne!(config.to_toml(), whole.to_toml(), "{} changes nothing", other.display());
            for modality in ["image", "text"] {
                let entry = encoder(&config.encoders.names[modality]).unwrap();
                assert_eq!(entry.modality, modality, "{}", other.display());
            }
            fusion(&config.model.fusion).unwrap();
            assert_eq!(config.data.layout, whole.data.layout);
        }
    }
}

#[test]
fn the_page_names_every_config() {
    let page = std::fs::read_to_string(root().join("docs/paper.md")).unwrap();
    for (path, _) in configs() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(page.contains(name), "docs/paper.md does not mention {name}");
    }
}
