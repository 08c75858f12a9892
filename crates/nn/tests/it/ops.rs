//! Training ops: values against plain tensor operations in f64, gradients against central differences, same bits under any
//! number of threads.

use crate::support::{Op, check_gradients, check_threads, check_values, f64s, loss, values};
use balgrad_nn as nn;
use candle_core::{D, DType, Device, Result, Tensor, Var};

fn plain_softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

#[test]
fn layer_norm() {
    let op: Op<'_> = &|x| nn::layer_norm(&x[0], &x[1], &x[2], 1e-5);
    let plain: Op<'_> = &|x| {
        let centred = x[0].broadcast_sub(&x[0].mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&x[1])?.broadcast_add(&x[2])
    };
    for (rows, d) in [(3, 5), (2, 16), (4, 37)] {
        let inputs = [values(1, &[2, rows, d]), values(2, &[d]), values(3, &[d])];
        check_values(op, plain, &inputs);
        check_gradients(op, &inputs);
    }
    check_threads(op, &[values(1, &[700, 300]), values(2, &[300]), values(3, &[300])]);
    let error = nn::layer_norm(&values(1, &[2, 3]), &values(1, &[4]), &values(1, &[3]), 1e-5).unwrap_err();
    assert!(error.to_string().contains("[3]") && error.to_string().contains("[4]"), "{error}");
}

#[test]
fn softmax_and_its_logarithm() {
    let plain_log: Op<'_> = &|x| {
        let x = x[0].broadcast_sub(&x[0].max_keepdim(D::Minus1)?)?;
        x.broadcast_sub(&x.exp()?.sum_keepdim(D::Minus1)?.log()?)
    };
    let cases: [(Op<'_>, Op<'_>); 2] =
        [(&|x| nn::softmax(&x[0]), &|x| plain_softmax(&x[0])), (&|x| nn::log_softmax(&x[0]), plain_log)];
    for (op, plain) in cases {
        for shape in [vec![7], vec![3, 1], vec![2, 3, 19], vec![5, 64]] {
            let x = (values(4, &shape) * 5.0).unwrap();
            check_values(op, plain, std::slice::from_ref(&x));
            check_gradients(op, &[x]);
        }
        check_threads(op, &[values(5, &[900, 301])]);
    }
}

#[test]
fn softmax_at_its_limits() {
    let x = Tensor::new(&[[1e30f32, 0.0], [f32::NEG_INFINITY, 3.0], [-1e30, -1e30]], &Device::Cpu).unwrap();
    assert_eq!(f64s(&nn::softmax(&x).unwrap()), [1.0, 0.0, 0.0, 1.0, 0.5, 0.5]);
    let log = f64s(&nn::log_softmax(&x).unwrap());
    assert!(log[2] == f64::NEG_INFINITY && log[3] == 0.0 && log[0] == 0.0, "{log:?}");
    let nan = nn::softmax(&Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap()).unwrap();
    assert!(f64s(&nan).iter().all(|x| x.is_nan()));
    assert!(nn::softmax(&Tensor::new(1f32, &Device::Cpu).unwrap()).is_err());
}

#[test]
fn gelu() {
    let op: Op<'_> = &|x| nn::gelu(&x[0]);
    let x = (values(6, &[3, 41]) * 6.0).unwrap();
    check_values(op, &|x| x[0].gelu_erf(), std::slice::from_ref(&x));
    check_gradients(op, &[x]);
    check_threads(op, &[values(6, &[300, 1001])]);
    // Strided input.
    let x = values(7, &[4, 6]);
    assert_eq!(f64s(&nn::gelu(&x.t().unwrap()).unwrap()), f64s(&nn::gelu(&x).unwrap().t().unwrap()));
}

#[test]
fn linear() {
    let plain = |x: &[Tensor]| -> Result<Tensor> {
        let out = x[1].dim(0)?;
        let mut shape = x[0].dims().to_vec();
        *shape.last_mut().unwrap() = out;
        let y = x[0].reshape(((), x[1].dim(1)?))?.matmul(&x[1].t()?)?;
        let y = if x.len() > 2 { y.broadcast_add(&x[2])? } else { y };
        y.reshape(shape)
    };
    let (with, without): (Op<'_>, Op<'_>) =
        (&|x| nn::linear(&x[0], &x[1], Some(&x[2])), &|x| nn::linear(&x[0], &x[1], None));
    for (lead, inner, out) in [(vec![3], 4, 5), (vec![2, 3], 17, 9), (vec![], 6, 2), (vec![1], 1, 1)] {
        let mut shape: Vec<usize> = lead;
        shape.push(inner);
        let inputs = [values(1, &shape), values(2, &[out, inner]), values(3, &[out])];
        for (op, inputs) in [(with, &inputs[..]), (without, &inputs[..2])] {
            check_values(op, &plain, inputs);
            check_gradients(op, inputs);
        }
    }
    // A slice of a larger weight, as the view of one modality is.
    let sliced: Op<'_> = &|x| nn::linear(&x[0], &x[1].narrow(1, 2, 3)?, None);
    let inputs = [values(1, &[4, 3]), values(2, &[5, 8])];
    check_values(sliced, &|x| x[0].matmul(&x[1].narrow(1, 2, 3)?.t()?), &inputs);
    check_gradients(sliced, &inputs);
    // Cut by rows, by columns, with a last tile of one, beside a side at which `gemm` changes its ways, and hardly at all.
    let sizes = [
        (700, 96, 200),
        (64, 1030, 256),
        (161, 700, 31),
        (81, 1500, 65),
        (1, 3000, 900),
        (3, 5000, 400),
        (900, 3, 401),
        (4, 999, 1300),
    ];
    for (rows, inner, out) in sizes {
        check_threads(with, &[values(1, &[rows, inner]), values(2, &[out, inner]), values(3, &[out])]);
    }
    // A transposed weight is read as it is seen.
    let (x, w) = (values(1, &[3, 4]), values(2, &[4, 5]));
    let turned = nn::linear(&x, &w.t().unwrap(), None).unwrap();
    assert_eq!(f64s(&turned), f64s(&nn::linear(&x, &w.t().unwrap().contiguous().unwrap(), None).unwrap()));
    let error = nn::linear(&x, &w, None).unwrap_err().to_string();
    assert!(error.contains("[3, 4]") && error.contains("[4, 5]"), "{error}");
}

#[test]
fn residual_linear() {
    for with_gelu in [false, true] {
        let op: Op<'_> = &|x| nn::residual_linear(&x[0], &x[1], with_gelu, &x[2], &x[3]);
        let plain: Op<'_> = &|x| {
            let a = if with_gelu { x[1].gelu_erf()? } else { x[1].clone() };
            let y = a.reshape(((), x[2].dim(1)?))?.matmul(&x[2].t()?)?.broadcast_add(&x[3])?;
            &x[0] + y.reshape(x[0].shape())?
        };
        for (lead, inner, out) in [(vec![3], 4, 5), (vec![2, 3], 17, 9), (vec![1], 1, 1)] {
            let shape = |last: usize| [lead.as_slice(), &[last]].concat();
            let inputs =
                [values(1, &shape(out)), values(2, &shape(inner)), values(3, &[out, inner]), values(4, &[out])];
            check_values(op, plain, &inputs);
            check_gradients(op, &inputs);
        }
        let inputs = [values(1, &[700, 200]), values(2, &[700, 96]), values(3, &[200, 96]), values(4, &[200])];
        check_threads(op, &inputs);
        // A residual that nothing learns from, and an input that is not tracked.
        let (w, b) = (Var::from_tensor(&inputs[2]).unwrap(), Var::from_tensor(&inputs[3]).unwrap());
        let y = nn::residual_linear(&inputs[0], &inputs[1], with_gelu, &w, &b).unwrap();
        let grads = loss(&y).backward().unwrap();
        assert!(grads.get(&w).is_some() && grads.get(&b).is_some());
        assert!(grads.get(&inputs[0]).is_none() && grads.get(&inputs[1]).is_none());
    }
    let (r, x, w, b) = (values(1, &[3, 2]), values(2, &[4, 5]), values(3, &[2, 5]), values(4, &[2]));
    let error = nn::residual_linear(&r, &x, false, &w, &b).unwrap_err().to_string();
    assert!(error.contains("[4, 5]") && error.contains("[3, 2]"), "{error}");
}

#[test]
fn factors_stand_for_gradients() {
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        let tensor = |seed: u64, shape: &[usize]| values(seed, shape).to_dtype(dtype).unwrap();
        let (x, w, b) = (tensor(1, &[7, 19]), tensor(2, &[5, 19]), tensor(3, &[5]));
        let (w, b) = (Var::from_tensor(&w).unwrap(), Var::from_tensor(&b).unwrap());
        let factors = [Some(tensor(4, &[7, 5])), None, Some(tensor(5, &[7, 5])), Some(tensor(6, &[7, 5]))];
        let tolerance = if dtype == DType::BF16 { 0.1 } else { 1e-5 };
        let close = |a: f64, b: f64| assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{dtype:?}: {a} for {b}");
        // The gradients of ⟨D, x wᵀ + b⟩ are those that D stands for.
        let gradients = factors.each_ref().map(|factor| {
            let factor = factor.as_ref()?;
            let whole = (nn::linear(&x, &w, Some(&b)).unwrap() * factor).unwrap().sum_all().unwrap();
            let grads = whole.backward().unwrap();
            let (weight, bias) = balgrad_kernels::linear_gradients(&x, factor).unwrap();
            let both = [(weight, grads.get(&w).unwrap()), (bias, grads.get(&b).unwrap())];
            for (ours, theirs) in &both {
                f64s(ours).into_iter().zip(f64s(theirs)).for_each(|(a, b)| close(a, b));
            }
            Some(both.map(|(ours, _)| f64s(&ours)))
        });
        for parts in [1, 2] {
            let inner = balgrad_kernels::factored_gram(&x, &factors, parts == 2).unwrap();
            for i in 0..4 {
                for j in 0..4 {
                    let dot = |a: &[Vec<f64>; 2], b: &[Vec<f64>; 2]| -> f64 {
                        a[..parts].concat().iter().zip(b[..parts].concat()).map(|(a, b)| a * b).sum()
                    };
                    let expected = gradients[i].as_ref().zip(gradients[j].as_ref()).map_or(0.0, |(a, b)| dot(a, b));
                    close(inner[4 * i + j], expected);
                    assert_eq!(inner[4 * i + j].to_bits(), inner[4 * j + i].to_bits());
                }
            }
        }
    }
    let x = values(1, &[3, 4]);
    for wrong in [values(2, &[4, 2]), values(2, &[3])] {
        assert!(balgrad_kernels::factored_gram(&x, &[Some(wrong.clone())], true).is_err());
        assert!(balgrad_kernels::linear_gradients(&x, &wrong).is_err());
    }
    // A batch of none has gradients of zero.
    let (x, dy) = (x.narrow(0, 0, 0).unwrap(), values(2, &[3, 2]).narrow(0, 0, 0).unwrap());
    assert_eq!(balgrad_kernels::factored_gram(&x, &[Some(dy.clone())], true).unwrap(), [0.0]);
    assert_eq!(f64s(&balgrad_kernels::linear_gradients(&x, &dy).unwrap().0), [0.0; 8]);
}

#[test]
fn untracked_inputs_get_no_gradient() {
    let (x, w) = (values(1, &[3, 4]), Var::from_tensor(&values(2, &[5, 4])).unwrap());
    let grads = loss(&nn::linear(&x, &w, Some(&values(3, &[5]))).unwrap()).backward().unwrap();
    assert!(grads.get(&w).is_some() && grads.get(&x).is_none());
    // No row of the graph, no gradient: a wholly untracked call records nothing.
    assert!(!nn::linear(&x, w.as_detached_tensor().as_ref(), None).unwrap().track_op());
}

#[test]
fn attention() {
    let plain = |qkv: &Tensor, mask: Option<&Tensor>| -> Result<Tensor> {
        let part = |i| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let scores = (part(0)?.matmul(&part(1)?.t()?)? * 0.7)?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(&mask.to_dtype(scores.dtype())?)?,
            None => scores,
        };
        plain_softmax(&scores)?.matmul(&part(2)?)?.transpose(1, 2)?.contiguous()
    };
    let hidden = f64::NEG_INFINITY;
    let padding = Tensor::new(&[0.0, 0.0, hidden, 0.0, hidden, 0.0, hidden, hidden], &Device::Cpu).unwrap();
    let padding = padding.reshape((2, 1, 1, 4)).unwrap();
    for mask in [None, Some(padding), Some(values(8, &[4, 4])), Some(values(9, &[2, 3, 4, 4]))] {
        let op: Op<'_> = &|x| {
            let mask = mask.as_ref().map(|mask| mask.to_device(x[0].device())).transpose()?;
            nn::attention(&x[0], mask.as_ref(), 0.7)
        };
        let inputs = [values(1, &[2, 4, 3, 3, 5])];
        check_values(op, &|x| plain(&x[0], mask.as_ref()), &inputs);
        check_gradients(op, &inputs);
    }
    check_threads(&|x| nn::attention(&x[0], None, 0.2), &[values(1, &[4, 33, 3, 3, 40])]);
    let error = nn::attention(&values(1, &[2, 4, 2, 3, 5]), None, 1.0).unwrap_err().to_string();
    assert!(error.contains("[2, 4, 2, 3, 5]") && error.contains("tokens"), "{error}");
}

#[test]
fn attention_repeats_its_backward_and_keeps_nothing_where_nothing_is_tracked() {
    let qkv = Var::from_tensor(&values(1, &[2, 5, 3, 2, 3])).unwrap();
    let loss = loss(&nn::attention(&qkv, None, 0.5).unwrap());
    let (a, again) = (loss.backward().unwrap(), loss.backward().unwrap());
    assert_eq!(f64s(a.get(&qkv).unwrap()), f64s(again.get(&qkv).unwrap()));
    let plain = nn::attention(&qkv.as_detached_tensor(), None, 0.5).unwrap();
    assert!(!plain.track_op());
    assert_eq!(f64s(&plain), f64s(&nn::attention(&qkv, None, 0.5).unwrap()));
}

#[test]
fn embedding() {
    let ids = Tensor::new(&[[2u32, 0, 2], [4, 2, 0]], &Device::Cpu).unwrap();
    let op: Op<'_> = &|x| nn::embedding(&ids.to_device(x[0].device())?, &x[0]);
    let table = values(1, &[5, 3]);
    check_values(op, &|x| x[0].index_select(&ids.flatten_all()?, 0)?.reshape((2, 3, 3)), std::slice::from_ref(&table));
    check_gradients(op, &[table]);
    let many: Vec<u32> = (0..5000u32).map(|i| i.wrapping_mul(2_654_435_761) % 97).collect();
    let many = Tensor::from_vec(many, 5000, &Device::Cpu).unwrap();
    check_threads(&|x| nn::embedding(&many, &x[0]), &[values(2, &[97, 64])]);
    let far = Tensor::new(&[0u32, 9], &Device::Cpu).unwrap();
    let error = nn::embedding(&far, &values(1, &[5, 3])).unwrap_err().to_string();
    assert!(error.contains("id 9") && error.contains("position 1") && error.contains("5 rows"), "{error}");
}

#[test]
fn gradients_add_up_where_an_input_is_used_twice() {
    let var = Var::from_tensor(&values(1, &[3, 8])).unwrap();
    let x = var.as_tensor();
    let both = (nn::gelu(x).unwrap() + nn::softmax(x).unwrap()).unwrap();
    let sum = f64s(loss(&both).backward().unwrap().get(&var).unwrap());
    let part = |y: Tensor| f64s(loss(&y).backward().unwrap().get(&var).unwrap());
    let (a, b) = (part(nn::gelu(x).unwrap()), part(nn::softmax(x).unwrap()));
    assert!(sum.iter().zip(a.iter().zip(&b)).all(|(s, (a, b))| (s - (a + b)).abs() < 1e-14));
}
