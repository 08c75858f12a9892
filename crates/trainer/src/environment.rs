//! What a run finds around it: a cache folder, a hub, a device.

use std::path::PathBuf;

use anyhow::{Context, Result};
use balgrad_encoders::HubSettings;
use candle_core::Device;

/// Where features are kept: `BALGRAD_CACHE`, else the user's cache folder.
pub(crate) fn cache_folder() -> PathBuf {
    let named = std::env::var_os("BALGRAD_CACHE").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let user = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    named.unwrap_or_else(|| user().unwrap_or_else(std::env::temp_dir).join("balgrad")).join("features")
}

/// The hub as the environment describes it; a signal stops its downloads.
pub(crate) fn hub() -> HubSettings {
    HubSettings { stop: Some(|| crate::interrupt::check().is_err()), ..HubSettings::from_env() }
}

/// The device of a name; `auto` is the one that the build is for.
///
/// # Errors
/// When this build or machine lacks it.
pub fn device(name: &str) -> Result<Device> {
    match name {
        "cuda" => Device::new_cuda(0).context("no CUDA device: build with `--features cuda`, or use `--device cpu`"),
        "metal" => {
            Device::new_metal(0).context("no Metal device: build with `--features metal`, or use `--device cpu`")
        }
        "auto" if candle_core::utils::cuda_is_available() => device("cuda"),
        "auto" if candle_core::utils::metal_is_available() => device("metal"),
        _ => Ok(Device::Cpu),
    }
}
