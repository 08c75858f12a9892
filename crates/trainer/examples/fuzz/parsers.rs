//! Every parser of what others may write, one row each. An error is a good answer; a panic that gets out is not.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use balgrad_data::modalities::image::decode_bytes;
use balgrad_data::{Framing, ReadOptions};
use balgrad_encoders::{
    CacheKey, FeatureCache, HubSettings, ModelFiles, NGrams, Parameters, Tokenizer, Weights, encoder,
};
use balgrad_trainer::record::{Log, RunRecord};
use balgrad_trainer::{Model, checkpoint, config};
use candle_core::{Device, Tensor};

/// Contents of files, with their extensions.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// A parser of files.
pub(crate) struct Parser {
    /// Its name, and that of its folder in the corpus.
    pub(crate) name: &'static str,
    /// Files of the corpus that must lie beside what it parses, with the names that they have there.
    beside: &'static [(&'static str, &'static str)],
    /// Good files that it writes itself.
    pub(crate) seeds: fn(&Path) -> Files,
    /// Parses bytes that came from a file with this extension; the folder may be written to.
    pub(crate) parse: fn(&Path, &str, &[u8]),
}

const fn of(name: &'static str, parse: fn(&Path, &str, &[u8])) -> Parser {
    Parser { name, beside: &[], seeds: |_| Vec::new(), parse }
}

/// The table of parsers.
pub(crate) const PARSERS: &[Parser] = &[
    of("csv", data),
    of("tsv", data),
    of("jsonl", data),
    of("parquet", data),
    of("image", |_, _, bytes| {
        if let Ok(image) = decode_bytes(bytes, "an image") {
            let _ = Framing::whole(16).of(&image);
        }
    }),
    of("weights", |folder, extension, bytes| {
        let _ = placed(folder, &format!("weights.{extension}"), bytes).map(|path| Weights::open(&path).map(drop));
    }),
    of("tokenizer", |_, _, bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Ok(tokenizer) = Tokenizer::from_json(text) else { return };
        for text in
            ["", "a red Rose, und Zürich", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", "\u{1f339} [CLS] 中文\0"]
        {
            let _ = tokenizer.encode(text);
        }
    }),
    Parser {
        seeds: |_| {
            let json = NGrams::fit(&["a red rose", "blue sea", "a red sun"]).to_json();
            json.map(|json| ("json".to_owned(), json.into_bytes())).into_iter().collect()
        },
        ..of("ngrams", |_, _, bytes| drop(std::str::from_utf8(bytes).map(|text| NGrams::from_json(text).map(drop))))
    },
    Parser {
        beside: &[("weights/bert.safetensors", "model.safetensors"), ("tokenizer/wordpiece.json", "tokenizer.json")],
        ..of("bert", |folder, _, bytes| model_of("bert", folder, "config.json", bytes))
    },
    Parser {
        beside: &[("weights/vit.safetensors", "model.safetensors")],
        ..of("vit", |folder, _, bytes| model_of("vit", folder, "config.json", bytes))
    },
    Parser {
        beside: &[("weights/vit.safetensors", "model.safetensors"), ("vit/config.json", "config.json")],
        ..of("preprocessor", |folder, _, bytes| model_of("vit", folder, "preprocessor_config.json", bytes))
    },
    of("config", |folder, _, bytes| {
        let _ = placed(folder, "config.toml", bytes).map(|path| config::Config::load(&[path], &[]).map(drop));
    }),
    of("set", |_, _, bytes| {
        for line in String::from_utf8_lossy(bytes).lines() {
            if let Ok(set) = config::parse_set(line) {
                let _ = config::Config::load(&[] as &[&Path], &[set]);
            }
        }
    }),
    of("results", |_, _, bytes| drop(RunRecord::parse(&String::from_utf8_lossy(bytes)).map(drop))),
    of("metrics", |folder, _, bytes| drop(placed(folder, "metrics.jsonl", bytes).map(|_| Log::read(folder)))),
    Parser {
        beside: &[("run/model.safetensors", "model.safetensors")],
        ..of("model", |folder, _, bytes| {
            if placed(folder, "model.json", bytes).is_ok()
                && let Ok(model) = Model::load_on(folder, "cpu")
            {
                let _ = model.predict(None, Some("a red rose"));
            }
        })
    },
    Parser {
        seeds: checkpoints,
        ..of("checkpoint", |folder, _, bytes| {
            let _ = placed(folder, "state.safetensors", bytes).map(|p| checkpoint::load(&p, &Device::Cpu).map(drop));
        })
    },
    Parser {
        seeds: |folder| {
            let cache = FeatureCache::new(folder.join("cache"));
            let _ = cache.get_or_build(&KEY, (2, 3), |writer| writer.append(&[1.0; 6]));
            std::fs::read(cache.path(&KEY)).map(|bytes| ("features".to_owned(), bytes)).into_iter().collect()
        },
        ..of("features", |folder, _, bytes| {
            let cache = FeatureCache::new(folder.join("cache"));
            let _ = std::fs::write(cache.path(&KEY), bytes);
            let found = cache.get_or_build(&KEY, (2, 3), |writer| writer.append(&[1.0; 6]));
            assert_eq!(found.map(|found| found.values().to_vec()).unwrap_or_default(), [1.0; 6]);
        })
    },
];

const KEY: CacheKey<'_> = CacheKey { encoder: "e", preprocessing: "p", dataset: "d", condition: "full" };

/// An empty folder with what the parser needs beside its input.
pub(crate) fn prepare(parser: &Parser, corpus: &Path, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder.join("cache"))?;
    for (from, to) in parser.beside {
        // What a run leaves is not in the corpus of the checkout.
        match std::fs::copy(corpus.join(from), folder.join(to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn placed(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<std::path::PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map(|()| path)
}

fn data(folder: &Path, extension: &str, bytes: &[u8]) {
    if let Ok(path) = placed(folder, &format!("data.{extension}"), bytes) {
        let _ = balgrad_data::open(&path.display().to_string(), &ReadOptions::default());
    }
}

fn model_of(name: &str, folder: &Path, file: &str, bytes: &[u8]) {
    let files = placed(folder, file, bytes)
        .ok()
        .and_then(|_| ModelFiles::open(&folder.display().to_string(), &HubSettings::default()).ok());
    if let (Some(files), Ok(entry)) = (files, encoder(name)) {
        let _ = entry.pretrained(&files, &Parameters::new(0, &Device::Cpu));
    }
}

fn checkpoints(folder: &Path) -> Files {
    let path = folder.join("good.safetensors");
    let tensor = Tensor::new(&[1f32, 2.0], &Device::Cpu);
    let tensors: HashMap<String, Tensor> = tensor.into_iter().map(|t| ("model.a".to_owned(), t)).collect();
    let _ = checkpoint::save(&path, tensors, &Default::default(), &checkpoint::Progress::default());
    std::fs::read(path).map(|bytes| ("safetensors".to_owned(), bytes)).into_iter().collect()
}
