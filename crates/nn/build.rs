//! With the `cuda` feature: `adamw.cu` to PTX for compute capability 8.0, from which the driver compiles for that of the device
//! and newer ones.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    {
        // Where balgrad-kernels' build script says its headers are.
        let include = std::env::var("DEP_BALGRAD_KERNELS_INCLUDE")?;
        let (header, folder) = (format!("{include}/common.cuh"), format!("-I{include}"));
        cudaforge::KernelBuilder::new()
            .source_files(["src/cuda/adamw.cu"])
            .watch([header.as_str()])
            .compute_cap(80)
            .arg("-std=c++17")
            .arg("-fmad=false")
            .arg(folder.as_str())
            .build_ptx()?;
    }
    Ok(())
}
