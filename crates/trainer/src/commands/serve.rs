//! `balgrad serve`

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::serve::{Limits, serve};
use crate::{Model, Usage};

#[derive(Args)]
pub(super) struct Serve {
    /// The run folder of a trained model, or the folder of an exported one.
    run: PathBuf,
    /// The address to listen on; 0.0.0.0 for every network that this machine is on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port to listen on; 0 for any free one.
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,
    /// The largest body of a request, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_body: u32,
    /// The largest image, in million pixels.
    #[arg(long, value_name = "MILLIONS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    max_pixels: u32,
    /// How long a body may take to arrive, and then an answer to come, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    max_seconds: u32,
    /// How many samples may wait at once; more are refused.
    #[arg(long, value_name = "SAMPLES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_waiting: u32,
    /// Say "don't know" (no label, `abstained: true`) below this confidence.
    #[arg(long, value_name = "T")]
    abstain: Option<f32>,
    /// Where to compute.
    #[arg(long, default_value = "auto")]
    device: String,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode> {
        if !self.run.exists() {
            return Err(Usage(format!("{} does not exist", self.run.display())).into());
        }
        let model = Model::load_on(&self.run, &self.device)?;
        let limits = Limits {
            body: (self.max_body as usize) << 20,
            pixels: u64::from(self.max_pixels) * 1_000_000,
            wait: Duration::from_secs(u64::from(self.max_seconds)),
            waiting: self.max_waiting as usize,
            abstain: self.abstain,
        };
        serve(model, SocketAddr::new(self.host, self.port), limits)?;
        Ok(ExitCode::SUCCESS)
    }
}
