//! Convolution, pooling and the residual sum: values against patches made of plain tensor operations, gradients against
//! central differences, same bits under any number of threads.

use crate::support::{Op, check_gradients, check_threads, check_values, f64s, values};
use balgrad_nn as nn;
use candle_core::{DType, Result, Tensor};
use nn::Window;

/// Windows of all kinds: odd and even, strided, uneven zeros, pointwise, wider than the image, with gaps between.
const WINDOWS: [Window; 7] = [
    Window { kernel: 3, stride: 1, rows: (1, 1), columns: (1, 1) },
    Window { kernel: 3, stride: 2, rows: (0, 1), columns: (1, 0) },
    Window { kernel: 2, stride: 2, rows: (0, 0), columns: (0, 0) },
    Window { kernel: 1, stride: 1, rows: (0, 0), columns: (0, 0) },
    Window { kernel: 1, stride: 2, rows: (0, 0), columns: (0, 0) },
    Window { kernel: 5, stride: 1, rows: (2, 3), columns: (3, 2) },
    Window { kernel: 2, stride: 3, rows: (1, 1), columns: (0, 1) },
];

/// What a window sees at each position, by its definition: `[k², b, h', w', c]`.
fn taps(x: &Tensor, window: Window, outside: f64) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let (oh, ow) = window.output(h, w);
    let outside = Tensor::full(outside as f32, (b, c), x.device())?.to_dtype(x.dtype())?;
    let mut all = Vec::new();
    for k in 0..window.kernel * window.kernel {
        let mut positions = Vec::new();
        for o in 0..oh * ow {
            let y = (o / ow * window.stride + k / window.kernel).checked_sub(window.rows.0).filter(|y| *y < h);
            let x_at = (o % ow * window.stride + k % window.kernel).checked_sub(window.columns.0).filter(|x| *x < w);
            positions.push(match y.zip(x_at) {
                Some((y, x_at)) => x.narrow(1, y, 1)?.narrow(2, x_at, 1)?.reshape((b, c))?,
                None => outside.clone(),
            });
        }
        all.push(Tensor::stack(&positions, 1)?.reshape((b, oh, ow, c))?);
    }
    Tensor::stack(&all, 0)
}

/// `clamp(conv(x, weight) · scale + shift)` by its definition.
fn plain(x: &[Tensor], window: Window, ceiling: Option<f64>) -> Result<Tensor> {
    let (out, c, k, _) = x[1].dims4()?;
    let taps = taps(&x[0], window, 0.0)?;
    let (_, b, oh, ow, _) = taps.dims5()?;
    let patches = taps.permute((1, 2, 3, 4, 0))?.reshape((b * oh * ow, c * k * k))?;
    let y = patches.matmul(&x[1].reshape((out, c * k * k))?.t()?)?;
    let y = y.broadcast_mul(&x[2])?.broadcast_add(&x[3])?.reshape((b, oh, ow, out))?;
    match ceiling {
        Some(ceiling) => y.maximum(0.0)?.minimum(ceiling),
        None => Ok(y),
    }
}

#[test]
fn convolution() {
    for (window, ceiling) in WINDOWS.into_iter().zip([None, Some(f64::INFINITY), Some(0.7)].into_iter().cycle()) {
        let k = window.kernel;
        let inputs = [values(1, &[2, 5, 4, 3]), values(2, &[4, 3, k, k]), values(3, &[4]), values(4, &[4])];
        let op: Op<'_> = &|x| nn::conv2d(&x[0], &x[1], (Some(&x[2]), Some(&x[3])), window, ceiling);
        check_values(op, &|x| plain(x, window, ceiling), &inputs);
        check_gradients(op, &inputs);
    }
}

#[test]
fn convolution_without_scale_or_shift_reads_any_strides() {
    let window = Window { kernel: 3, stride: 2, rows: (1, 1), columns: (1, 1) };
    let (channels_first, weight) = (values(1, &[2, 3, 6, 5]), values(2, &[4, 3, 3, 3]));
    let (ones, zeros) = (values(3, &[4]).ones_like().unwrap(), values(3, &[4]).zeros_like().unwrap());
    let view = |x: &[Tensor]| x[0].permute((0, 2, 3, 1));
    let op: Op<'_> = &|x| nn::conv2d(&view(x)?, &x[1], (None, None), window, None);
    let definition: Op<'_> = &|x| plain(&[view(x)?, x[1].clone(), ones.clone(), zeros.clone()], window, None);
    check_values(op, definition, &[channels_first.clone(), weight.clone()]);
    check_gradients(op, &[channels_first, weight]);
}

#[test]
fn convolution_over_many_tiles() {
    // More patches than are worked on at a time, and more than one thread has use for.
    let window = WINDOWS[0];
    let inputs = [values(1, &[5, 40, 36, 32]), values(2, &[24, 32, 3, 3]), values(3, &[24]), values(4, &[24])];
    let op: Op<'_> = &|x| nn::conv2d(&x[0], &x[1], (Some(&x[2]), Some(&x[3])), window, Some(f64::INFINITY));
    check_threads(op, &inputs);
    let single: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
    let expected = f64s(&plain(&inputs, window, Some(f64::INFINITY)).unwrap());
    for (a, b) in f64s(&op(&single).unwrap()).into_iter().zip(expected) {
        assert!((a - b).abs() <= 1e-4, "{a}, expected {b}");
    }
}

#[test]
fn depthwise_convolution() {
    for (window, ceiling) in WINDOWS.into_iter().zip([None, Some(f64::INFINITY), Some(0.7)].into_iter().cycle()) {
        let op: Op<'_> = &|x| nn::depthwise_conv2d(&x[0], &x[1], &x[2], window, ceiling);
        let definition: Op<'_> = &|x| {
            let weight = x[1].reshape((window.kernel * window.kernel, 1, 1, 1, 3))?;
            let y = taps(&x[0], window, 0.0)?.broadcast_mul(&weight)?.sum(0)?.broadcast_add(&x[2])?;
            ceiling.map_or(Ok(y.clone()), |ceiling| y.maximum(0.0)?.minimum(ceiling))
        };
        let inputs = [values(1, &[2, 5, 4, 3]), values(2, &[window.kernel * window.kernel, 3]), values(3, &[3])];
        check_values(op, definition, &inputs);
        check_gradients(op, &inputs);
    }
    let inputs = [values(1, &[3, 50, 40, 40]), values(2, &[9, 40]), values(3, &[40])];
    check_threads(&|x| nn::depthwise_conv2d(&x[0], &x[1], &x[2], WINDOWS[0], None), &inputs);
}

#[test]
fn a_convolution_that_does_not_fit_says_so() {
    let error = nn::conv2d(&values(1, &[1, 4, 4, 3]), &values(2, &[4, 2, 3, 3]), (None, None), WINDOWS[0], None);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("[4, 2, 3, 3]") && error.contains("[1, 4, 4, 3]"), "{error}");
}

#[test]
fn max_pooling() {
    for window in WINDOWS {
        let op: Op<'_> = &|x| nn::max_pool2d(&x[0], window);
        let definition: Op<'_> = &|x| taps(&x[0], window, f64::NEG_INFINITY)?.max(0);
        let inputs = [values(1, &[2, 5, 4, 3])];
        // A window that sees nothing but what is around the image has no maximum.
        if window.kernel > window.rows.0 + window.rows.1 {
            check_values(op, definition, &inputs);
            check_gradients(op, &inputs);
        }
    }
    check_threads(&|x| nn::max_pool2d(&x[0], WINDOWS[0]), &[values(1, &[3, 50, 40, 40])]);
    let ties = Tensor::ones((1, 2, 2, 1), DType::F64, &candle_core::Device::Cpu).unwrap();
    let ties = candle_core::Var::from_tensor(&ties).unwrap();
    let grads = nn::max_pool2d(&ties, WINDOWS[2]).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(f64s(grads.get(&ties).unwrap()), [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn residual_sum() {
    let op: Op<'_> = &|x| nn::add_relu(&x[0], &x[1]);
    let inputs = [values(1, &[2, 3, 5]), values(2, &[2, 3, 5])];
    check_values(op, &|x| (&x[0] + &x[1])?.maximum(0.0), &inputs);
    check_gradients(op, &inputs);
    check_threads(op, &[values(1, &[300, 700]), values(2, &[300, 700])]);
}
