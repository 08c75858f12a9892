//! What a run finds around it: a cache folder, a hub, a device.

use std::path::PathBuf;

use anyhow::{Context, Result};
use balgrad_distributed::Launch;
use balgrad_encoders::HubSettings;
use candle_core::Device;

use crate::config;

/// Where features are kept: `BALGRAD_CACHE`, else the user's cache folder.
pub(crate) fn cache_folder() -> PathBuf {
    let named = std::env::var_os("BALGRAD_CACHE").map(PathBuf::from);
    let home =
        || std::env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".cache"));
    let user = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    named.unwrap_or_else(|| user().unwrap_or_else(std::env::temp_dir).join("balgrad")).join("features")
}

/// The hub as the environment describes it; a signal stops its downloads.
pub(crate) fn hub() -> HubSettings {
    HubSettings { stop: Some(|| crate::interrupt::check().is_err()), ..HubSettings::from_env() }
}

/// A device; `auto` is the one that the build is for.
///
/// # Errors
/// When this build or machine lacks it.
pub(crate) fn device(named: config::Device) -> Result<Device> {
    match named {
        config::Device::Cuda => {
            // Ranks of one host take a GPU each, of those that each can see.
            let local = Launch::from_env().and_then(|launch| launch.local).unwrap_or(0);
            let device = Device::new_cuda(local).or_else(|_| Device::new_cuda(0));
            device.context("no CUDA device: build with `--features cuda`, or use `--device cpu`")
        }
        config::Device::Metal => {
            Device::new_metal(0).context("no Metal device: build with `--features metal`, or use `--device cpu`")
        }
        config::Device::Auto if candle_core::utils::cuda_is_available() => device(config::Device::Cuda),
        config::Device::Auto if candle_core::utils::metal_is_available() => device(config::Device::Metal),
        config::Device::Auto | config::Device::Cpu => Ok(Device::Cpu),
    }
}
