//! `balgrad features`

use std::process::ExitCode;

use anyhow::Result;
use balgrad::Value;
use balgrad_data::{Impairment, Split};
use balgrad_encoders::View;
use clap::Args;

use crate::Usage;
use crate::channel::Channel;
use crate::config::Config;
use crate::readable::Readable;
use crate::record::Condition;
use crate::session::{Session, channels, impairment, readable};

use super::Configured;
use super::shard::Shard;

#[derive(Args)]
pub(super) struct Features {
    #[command(flatten)]
    configured: Configured,
    /// Conditions of the test split, such as `full,noisy-image:blur:5`. Default: the five of a run.
    #[arg(long, value_delimiter = ',')]
    conditions: Vec<String>,
    /// Variants of each training sample, for runs with as many `feature_variants`.
    #[arg(long, value_name = "N")]
    variants: Option<u64>,
    /// Compute only part I of N (from 0), for several machines on one cache (`BALGRAD_CACHE`); whoever reads the features joins the
    /// parts. `auto` and `auto/N` as for `compare`.
    #[arg(long, value_name = "I/N|auto|auto/N", value_parser = Shard::parse)]
    shard: Option<Shard>,
}

impl Features {
    pub(super) fn run(self) -> Result<ExitCode> {
        let config = self.configured.load(&[("feature_variants", self.variants.map(Value::Count))])?;
        let data = readable(&config)?;
        let modalities: Vec<_> = data.dataset.modalities.iter().map(|modality| modality.name).collect();
        let named = self.conditions.iter().map(|name| Condition::parse(name, &modalities));
        let mut conditions: Vec<Condition> = named.collect::<Result<_, _>>().map_err(|e| Usage(e.to_string()))?;
        if conditions.is_empty() {
            conditions = Condition::tested(&modalities);
        }
        if let Some(shard) = self.shard {
            return part(&config, &data, &conditions, shard);
        }
        let session = Session::on(&config, data)?;
        let variants = config.encoders.feature_variants;
        out!("train: {} samples, {variants} variants", session.training_split()?.len());
        out!("val: {} samples", session.split(Split::Val, None)?.len());
        for condition in conditions {
            let split = session.split(Split::Test, session.impairment(&config, &condition)?)?;
            out!("test, {condition}: {} samples", split.len());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Computes a part of every table that training and testing read.
fn part(config: &Config, data: &Readable, conditions: &[Condition], shard: Shard) -> Result<ExitCode> {
    let channels = channels(config, data)?;
    let modalities: Vec<_> = channels.iter().map(Channel::modality).collect();
    let impairments = conditions.iter().map(|condition| impairment(config, condition, &modalities));
    let impairments: Vec<_> = impairments.collect::<Result<_>>()?;
    for channel in channels.iter().filter(|channel| channel.is_frozen()) {
        let usual = View::default();
        let variants = config.encoders.feature_variants as u64;
        let trained = (0..variants).map(|variant| View { variant: Some(variant), ..usual });
        let mut views: Vec<_> =
            trained.chain((variants == 0).then_some(usual)).map(|view| (Split::Train, view)).collect();
        views.extend([(Split::Val, usual), (Split::Test, usual)]);
        for impairment in impairments.iter().flatten().filter(|i| i.modality == channel.modality()) {
            if *impairment != Impairment::missing(channel.modality()) {
                views.push((Split::Test, View { impairment: Some((*impairment, config.seed)), ..usual }));
            }
        }
        for (split, view) in views {
            channel.compute_part(data, split, view, |batches| shard.range(batches))?;
            out!("{}, {}, {}: done", channel.modality().name, split.name(), view.key());
        }
    }
    Ok(ExitCode::SUCCESS)
}
