//! Feature extraction by frozen networks of full size.

use std::path::Path;

use anyhow::{Context, Result};
use balgrad_encoders::Parameters;
use candle_core::Device;

use super::Job;
use super::steps::{batch, pretrained};

const BATCH: usize = 8;

/// `features NAME FOLDER`: one batch through a network that the peer wrote to a folder.
pub(crate) fn features(arguments: &[String]) -> Result<Job> {
    let [name, folder] = arguments else { anyhow::bail!("features NAME FOLDER") };
    let parameters = Parameters::new(0, &Device::Cpu).frozen();
    let network = pretrained(name, Path::new(folder), None, &parameters)?;
    let input = batch(network.as_ref(), BATCH)?;
    let count: usize = parameters.buffers().iter().map(|(_, var)| var.elem_count()).sum();
    let iterate = move || {
        network.forward(&input)?.dims().first().context("no features")?;
        Ok(())
    };
    Ok(Job { parameters: count, ..Job::on(count, iterate) })
}
