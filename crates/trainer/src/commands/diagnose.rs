//! `balgrad diagnose`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use balgrad_trainer::Usage;
use clap::Args;
use serde_json::Value;

#[derive(Args)]
pub(super) struct Diagnose {
    /// The run folder of a finished run.
    run: PathBuf,
}

/// Below this difference in score two modalities count as balanced.
const CLOSE: f64 = 0.05;

impl Diagnose {
    pub(super) fn run(self) -> Result<ExitCode> {
        if !self.run.exists() {
            return Err(Usage(format!("{} does not exist", self.run.display())).into());
        }
        let path = self.run.join("results.json");
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("{} is not finished (no results.json): train it, or continue it with --resume", self.run.display())
        })?;
        let results: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let metric = results["metric"].as_str().unwrap_or("accuracy").to_owned();
        let score = |condition: &str| results["test"][condition][&metric].as_f64();
        let (Some(full), Some(without_image), Some(without_text)) =
            (score("full"), score("missing-image"), score("missing-text"))
        else {
            bail!("{}: the scores are undefined; is a class missing from the test split?", path.display());
        };
        let percent = |v: f64| format!("{:.1}", 100.0 * v);
        println!(
            "{metric}: full {}, without image {}, without text {}",
            percent(full),
            percent(without_image),
            percent(without_text)
        );
        let (dominant, other, gap) = if without_image > without_text {
            ("text", "image", without_image - without_text)
        } else {
            ("image", "text", without_text - without_image)
        };
        if gap < CLOSE {
            println!("Balanced: losing either modality costs about the same ({} points apart).", percent(gap));
        } else {
            println!(
                "{dominant} dominates: the model keeps {} points more without {other} than without {dominant}.",
                percent(gap)
            );
        }
        for name in ["image", "text"] {
            if let Some(own) = score(&format!("{name}-only")) {
                println!(
                    "{name} alone ({}): {}",
                    results["views"][format!("{name}-only")].as_str().unwrap_or("view"),
                    percent(own)
                );
            }
            let fraction = results["conflict"][name]["fraction"].as_f64();
            if let Some(fraction) = fraction {
                println!("{name}: task and KL gradients conflict on {:.0} % of steps", 100.0 * fraction);
            }
        }
        if let Some(epoch) = since(&self.run, dominant, other)?
            && gap >= CLOSE
        {
            println!("{dominant} has been ahead on validation since epoch {epoch}.");
        }
        println!("{}", advice(&results, gap, full - without_image.min(without_text)));
        Ok(ExitCode::SUCCESS)
    }
}

/// The epoch from which on the dominant modality's validation score stayed ahead.
fn since(run: &Path, dominant: &str, other: &str) -> Result<Option<u64>> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let mut since = None;
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let view = |m: &str| line["val"][format!("{m}-only")].as_f64();
        let (Some(a), Some(b)) = (view(dominant), view(other)) else { continue };
        since = if a > b { since.or(line["epoch"].as_u64()) } else { None };
    }
    Ok(since)
}

fn advice(results: &Value, gap: f64, drop: f64) -> &'static str {
    let dropout = results["settings"]["modality_dropout"].as_f64().unwrap_or(0.0);
    let method = results["method"].as_str().unwrap_or_default();
    match () {
        () if drop < CLOSE => "Nothing to do: no modality's loss costs much.",
        () if dropout == 0.0 => {
            "Try `--set modality_dropout=0.2`: on missing modalities it is the strongest single step, with any method."
        }
        () if method == "joint" => {
            "Try `--method balgrad` beside the modality dropout: the two together keep more of Full."
        }
        () if gap >= CLOSE => "What remains may be what the weaker modality has to give: look at its own view above.",
        () => "Balanced as it is; more data or stronger encoders would raise both.",
    }
}
