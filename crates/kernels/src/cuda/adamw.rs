//! A step of AdamW over all parameters.

use super::device::{Stored, address, function, grid, guards, table};
use crate::rows::Slot;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};

/// What one parameter's step is told.
pub(crate) struct Step {
    /// The terms of the gradient, contiguous, in the order of their coefficients.
    pub(crate) gradient: Slot,
    pub(crate) coefficients: Vec<f64>,
    pub(crate) parameter: Tensor,
    /// In the parameter's shape, f64 for an f64 parameter and f32 for any other; each with memory of its own.
    pub(crate) moments: [Tensor; 2],
    /// As in `Rule::AdamW`.
    pub(crate) keep: f64,
    pub(crate) rate: f64,
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
    let k = steps.iter().map(|step| step.coefficients.len()).max().unwrap_or(0);
    let slots: Vec<&Slot> = steps.iter().map(|step| &step.gradient).collect();
    let state = |of: fn(&Step) -> &Tensor| steps.iter().map(|step| of(step).storage_and_layout()).collect::<Vec<_>>();
    let (parameters, first, second) =
        (state(|step| &step.parameter), state(|step| &step.moments[0]), state(|step| &step.moments[1]));
    let guards = guards(&slots);
    let stream = device.cuda_stream();
    let (mut table, mut used) = table::<T>(&stream, k, &slots, &guards)?;
    for (storage, layout) in &parameters {
        let (address, guard) = address::<T>(&stream, storage, layout)?;
        table.push_addresses([address]);
        used.push(guard);
    }
    for (storage, layout) in first.iter().chain(&second) {
        let (address, guard) = address::<M>(&stream, storage, layout)?;
        table.push_addresses([address]);
        used.push(guard);
    }
    for step in steps {
        table.push_numbers(&step.coefficients);
        table.push_numbers(&vec![0.0; k - step.coefficients.len()]);
        table.push_numbers(&[step.keep, step.rate, step.unbias2]);
    }
    if table.chunks() == 0 {
        return Ok(());
    }
    let work = device.clone_htod(table.words())?;
    let (k, slots) = (table.k(), table.slots());
    let kernel = function(device, &format!("adamw_{}", T::DTYPE.as_str()))?;
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&work).arg(&k).arg(&slots).arg(&beta1).arg(&beta2).arg(&eps);
    // SAFETY: the arguments are those of the kernel; `work` describes live tensors of this device, whose guards are held, of the
    // lengths that it says. The locks are for reading, yet nothing else uses the memory: whatever does is queued on this stream.
    unsafe { launch.launch(grid(table.blend_grid())) }.w()?;
    Ok(())
}
