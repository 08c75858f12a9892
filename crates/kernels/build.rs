//! With the `cuda` feature: `kernels.cu` to PTX for compute capability 8.0, from which the driver compiles for that of the
//! device and newer ones.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    cudaforge::KernelBuilder::new()
        .source_files(["src/cuda/kernels.cu"])
        .compute_cap(80)
        .arg("-std=c++17")
        .arg("-fmad=false")
        .build_ptx()?;
    Ok(())
}
