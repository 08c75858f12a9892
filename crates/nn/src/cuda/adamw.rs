//! A step of AdamW over all parameters.

use balgrad_kernels::cuda::device::{Stored, address, grid};
use balgrad_kernels::cuda::table::Table;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};

/// What one parameter's step is told.
pub(crate) struct Step {
    /// Contiguous, in the parameter's shape and dtype.
    pub(crate) gradient: Tensor,
    pub(crate) parameter: Tensor,
    /// In the parameter's shape, f64 for an f64 parameter and f32 for any other; each with memory of its own.
    pub(crate) moments: [Tensor; 2],
    /// What of the parameter is kept.
    pub(crate) keep: f64,
    /// The learning rate, with the first moment's correction.
    pub(crate) rate: f64,
    /// The second moment's correction.
    pub(crate) unbias2: f64,
}

/// Changes parameters and moments in place, those of a device and dtype in one launch. `numbers`: β₁, β₂, ε.
pub(crate) fn adamw(mut steps: Vec<Step>, numbers: [f64; 3]) -> Result<()> {
    while let Some(last) = steps.pop() {
        let Device::Cuda(device) = last.parameter.device().clone() else {
            bail!("expected a tensor on CUDA");
        };
        let dtype = last.gradient.dtype();
        let alike = |step: &mut Step| {
            step.gradient.dtype() == dtype && step.parameter.device().same_device(last.parameter.device())
        };
        let mut together: Vec<Step> = steps.extract_if(.., alike).collect();
        together.push(last);
        match dtype {
            DType::F32 => adamw_of::<f32, f32>(&device, &together, numbers)?,
            DType::F64 => adamw_of::<f64, f64>(&device, &together, numbers)?,
            DType::BF16 => adamw_of::<bf16, f32>(&device, &together, numbers)?,
            _ => adamw_of::<f16, f32>(&device, &together, numbers)?,
        }
    }
    Ok(())
}

fn adamw_of<T: Stored, M: Stored>(device: &CudaDevice, steps: &[Step], [beta1, beta2, eps]: [f64; 3]) -> Result<()> {
    let lens: Vec<usize> = steps.iter().map(|step| step.gradient.elem_count()).collect();
    let mut table = Table::new(0, &lens);
    let of =
        |tensor: fn(&Step) -> &Tensor| steps.iter().map(|step| tensor(step).storage_and_layout()).collect::<Vec<_>>();
    let floats = [of(|step| &step.gradient), of(|step| &step.parameter)];
    let moments = [of(|step| &step.moments[0]), of(|step| &step.moments[1])];
    let stream = device.cuda_stream();
    let mut used = Vec::with_capacity(4 * steps.len());
    for (storage, layout) in floats.iter().flatten() {
        let (address, guard) = address::<T>(&stream, storage, layout)?;
        table.push_addresses([address]);
        used.push(guard);
    }
    for (storage, layout) in moments.iter().flatten() {
        let (address, guard) = address::<M>(&stream, storage, layout)?;
        table.push_addresses([address]);
        used.push(guard);
    }
    for step in steps {
        table.push_numbers(&[step.keep, step.rate, step.unbias2]);
    }
    if table.chunks() == 0 {
        return Ok(());
    }
    let (work, slots) = (device.clone_htod(table.words())?, table.slots());
    const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/adamw.ptx"));
    let name = format!("adamw_{}", T::DTYPE.as_str());
    let kernel = device.get_or_load_custom_func(&name, "balgrad-nn", PTX)?.into_cuda_function();
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&work).arg(&slots).arg(&beta1).arg(&beta2).arg(&eps);
    // SAFETY: the arguments are those of the kernel; `work` describes live tensors of this device, whose guards are held, of the
    // lengths that it says. The locks are for reading, yet nothing else uses the memory: whatever does is queued on this stream.
    unsafe { launch.launch(grid(table.chunk_grid())) }.w()?;
    Ok(())
}
