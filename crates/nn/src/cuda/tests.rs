//! `adamw.cu` run on the CPU, from the tables that the device gets.
#![allow(clippy::unwrap_used)]

use crate::cpu::element::Element;
use crate::emulated::Library;
use crate::{AdamW, Parameter};
use balgrad_kernels::cuda::table::Table;
use candle_core::backprop::GradStore;
use candle_core::{Device, Var};
use half::{bf16, f16};

/// Elements of the tensors: a chunk and a rest, less than a warp, one, none.
const LENS: [usize; 4] = [65536 + 777, 19, 1, 0];

/// Two steps of AdamW against those of the CPU.
fn check_adamw<T: Element, M: Element>(library: &Library) {
    type Kernel = extern "C" fn(*const u64, u32, f64, f64, f64);
    // SAFETY: the kernel's type.
    let adamw: Kernel = unsafe { library.function(&format!("adamw_{}", T::DTYPE.as_str())) };
    let waves = |frequency: f64| LENS.map(|len| (0..len).map(|e| T::narrow((e as f64 * frequency).cos())).collect());
    let (gradients, mut found): ([Vec<T>; 4], [Vec<T>; 4]) = (waves(0.37), waves(0.61));

    let vars = found.iter().map(|p| Var::from_slice(p, p.len(), &Device::Cpu).unwrap());
    let list = vars.enumerate().map(|(i, var)| Parameter { weight_decay: 0.1, ..Parameter::new(i.to_string(), var) });
    let mut optimizer = AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-6 }.over(list.collect()).unwrap();
    let mut moments: Vec<Vec<M>> = LENS.iter().chain(&LENS).map(|len| vec![M::narrow(0.0); *len]).collect();
    for step in 1..=2 {
        let mut grads = GradStore::default();
        for (parameter, grad) in optimizer.parameters().zip(&gradients) {
            grads.insert(&parameter.var, candle_core::Tensor::from_slice(grad, grad.len(), &Device::Cpu).unwrap());
        }
        optimizer.step(&grads, 0.02, &|_| 1.0).unwrap();

        let mut table = Table::new(0, &LENS);
        table.push_addresses(gradients.iter().map(|g| g.as_ptr() as u64));
        table.push_addresses(found.iter_mut().map(|p| p.as_mut_ptr() as u64));
        table.push_addresses(moments.iter_mut().map(|m| m.as_mut_ptr() as u64));
        let unbias = |beta: f64| 1.0 / (1.0 - beta.powi(step));
        for _ in LENS {
            table.push_numbers(&[1.0 - 0.02 * 0.1, 0.02 * unbias(0.9), unbias(0.99)]);
        }
        let launch = || adamw(table.words().as_ptr(), table.slots(), 0.9, 0.99, 1e-6);
        library.launch(table.chunk_grid(), step as u32 % 2, launch);
    }
    for (parameter, found) in optimizer.parameters().zip(&found) {
        let expected = parameter.var.to_vec1::<T>().unwrap();
        assert!(expected == *found, "{} elements of {}: other bits than on the CPU", found.len(), T::DTYPE.as_str());
    }
}

#[test]
fn adamw_steps_as_on_the_cpu() {
    let Some(library) = Library::compile("adamw.cpp") else { return };
    check_adamw::<f32, f32>(&library);
    check_adamw::<f64, f64>(&library);
    check_adamw::<bf16, f32>(&library);
    check_adamw::<f16, f32>(&library);
}
