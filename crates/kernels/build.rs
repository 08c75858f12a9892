//! With the `cuda` feature: `kernels.cu` to PTX for compute capability 8.0, from which the driver compiles for that of the
//! device and newer ones. `balgrad-nn` finds `common.cuh` by way of this script.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::metadata=include={}/src/cuda", std::env::var("CARGO_MANIFEST_DIR")?);
    #[cfg(feature = "cuda")]
    cudaforge::KernelBuilder::new()
        .source_files(["src/cuda/kernels.cu"])
        .watch(["src/cuda/common.cuh"])
        .compute_cap(80)
        .arg("-std=c++17")
        .arg("-fmad=false")
        .build_ptx()?;
    Ok(())
}
