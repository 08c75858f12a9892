use super::matmul::{Matrix, multiply};
use super::real::{Real, max, sum, sum2};
use super::{by_dtype, fused, softmax, widened};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Storage, Tensor, WithDType, bail};
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Scaled dot-product attention, `softmax(q kᵀ · scale + mask) v` per batch and head.
///
/// `q` `[b, h, t, d]`, `k` `[b, h, s, d]`, `v` `[b, h, s, e]`, result `[b, h, t, e]`; any strides are read in place. `mask` is
/// added to the scores and must broadcast to `[b, h, t, s]` (for padding: `[b, 1, 1, s]`, 0 or −∞); it gets no gradient. A query
/// whose every key is masked by −∞ gives NaN.
///
/// # Errors
/// When shapes or dtypes do not fit; the message names them.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    let (b, h, t, d) = q.dims4()?;
    let (kb, kh, s, kd) = k.dims4()?;
    let (vb, vh, vs, _) = v.dims4()?;
    if (kb, kh, kd) != (b, h, d) || (vb, vh, vs) != (b, h, s) {
        bail!("attention: q {:?}, k {:?} and v {:?} do not fit", q.dims(), k.dims(), v.dims());
    }
    if k.dtype() != q.dtype() || v.dtype() != q.dtype() {
        bail!("attention: q is {}, k {}, v {}", q.dtype().as_str(), k.dtype().as_str(), v.dtype().as_str());
    }
    let mask = match mask {
        Some(mask) => Some(mask.detach().to_dtype(q.dtype())?.broadcast_as((b, h, t, s))?),
        None => None,
    };
    if fused(q) {
        let tracked = q.track_op() || k.track_op() || v.track_op();
        return q.apply_op3(k, v, Attention { mask, scale, kept: OnceLock::new(), tracked });
    }
    widened([q, k, v], |[q, k, v]| {
        let scores = (q.contiguous()?.matmul(&k.t()?.contiguous()?)? * scale)?;
        let scores = match &mask {
            Some(mask) => scores.add(&mask.to_dtype(scores.dtype())?)?,
            None => scores,
        };
        softmax(&scores)?.matmul(&v.contiguous()?)
    })
}

struct Attention {
    mask: Option<Tensor>,
    scale: f64,
    /// The probabilities `[b, h, t, s]`, kept by the forward for the backward of each objective.
    kept: OnceLock<CpuStorage>,
    tracked: bool,
}

/// A `[b, h, rows, columns]` tensor of any strides.
#[derive(Clone, Copy)]
struct Heads<'a, T> {
    data: &'a [T],
    dims: [usize; 4],
    strides: [usize; 4],
}

impl<'a, T: Real> Heads<'a, T> {
    fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (Ok(dims), Ok(strides)) = (layout.dims().try_into(), layout.stride().try_into()) else {
            bail!("attention: expected four dimensions, found {:?}", layout.dims());
        };
        Ok(Self { data: &storage.as_slice::<T>()?[layout.start_offset()..], dims, strides })
    }

    fn of(storage: &'a Storage, layout: &Layout) -> Result<Self> {
        match storage {
            Storage::Cpu(storage) => Self::new(storage, layout),
            _ => bail!("attention: expected a tensor on the CPU"),
        }
    }

    /// The matrix of one batch entry and head, counted together.
    fn head(&self, i: usize) -> Matrix<'a, T> {
        let (b, h) = (i / self.dims[1], i % self.dims[1]);
        let data = &self.data[b * self.strides[0] + h * self.strides[1]..];
        Matrix::strided(data, self.dims[2], self.dims[3], self.strides[2], self.strides[3])
    }
}

/// Floating-point work under which the heads are not worth a second thread.
fn worth(heads: usize, t: usize, s: usize, d: usize) -> bool {
    heads > 1 && rayon::current_num_threads() > 1 && heads * t * s * d > 1 << 18
}

impl Attention {
    fn forward<T: Real>(&self, q: Heads<'_, T>, k: Heads<'_, T>, v: Heads<'_, T>) -> Result<(Vec<T>, Vec<T>)> {
        let [b, h, t, d] = q.dims;
        let (s, e) = (k.dims[2], v.dims[3]);
        let guard = self.mask.as_ref().map(Tensor::storage_and_layout);
        let mask = match &guard {
            Some((storage, layout)) => Some(Heads::<T>::of(storage, layout)?),
            None => None,
        };
        let one_head = |i: usize, p: &mut [MaybeUninit<T>], o: &mut [MaybeUninit<T>]| {
            multiply(p, T::from_f64(self.scale), q.head(i), k.head(i).t(), false);
            // SAFETY: `multiply` has written all of `p`.
            let p = unsafe { &mut *(std::ptr::from_mut(p) as *mut [T]) };
            dispatch(MaskedSoftmax { p, s, mask: mask.map(|mask| mask.head(i)) });
            multiply(o, T::one(), Matrix::new(p, t, s), v.head(i), false);
        };
        let heads = b * h;
        let mut out: Vec<T> = Vec::with_capacity(heads * t * e);
        let mut kept: Vec<T> = Vec::with_capacity(if self.tracked { heads * t * s } else { 0 });
        let out_chunks = &mut out.spare_capacity_mut()[..heads * t * e];
        let threads = worth(heads, t, s, d);
        if t * e == 0 || s == 0 {
            return Ok((vec![T::zero(); heads * t * e], vec![]));
        }
        if self.tracked {
            let work = kept.spare_capacity_mut()[..heads * t * s].chunks_mut(t * s).zip(out_chunks.chunks_mut(t * e));
            let mut work: Vec<_> = work.collect();
            if threads {
                work.par_iter_mut().enumerate().for_each(|(i, (p, o))| one_head(i, p, o));
            } else {
                work.iter_mut().enumerate().for_each(|(i, (p, o))| one_head(i, p, o));
            }
            // SAFETY: `one_head` has written each chunk of both.
            unsafe { kept.set_len(heads * t * s) };
        } else {
            let scratch = || Vec::with_capacity(t * s);
            let run = |p: &mut Vec<T>, (i, o): (usize, &mut [MaybeUninit<T>])| {
                one_head(i, &mut p.spare_capacity_mut()[..t * s], o);
            };
            if threads {
                out_chunks.par_chunks_mut(t * e).enumerate().for_each_init(scratch, run);
            } else {
                let mut p = scratch();
                out_chunks.chunks_mut(t * e).enumerate().for_each(|work| run(&mut p, work));
            }
        }
        // SAFETY: `one_head` has written each chunk of it.
        unsafe { out.set_len(heads * t * e) };
        Ok((out, kept))
    }

    /// `dv = pᵀ do`, `ds = p (dp − Σ p dp)` with `dp = do vᵀ`, `dq = ds k · scale`, `dk = dsᵀ q · scale`.
    fn backward<T: Real>(
        &self,
        p: &[T],
        q: Heads<'_, T>,
        k: Heads<'_, T>,
        v: Heads<'_, T>,
        dout: Heads<'_, T>,
    ) -> [Vec<T>; 3] {
        let [b, h, t, d] = q.dims;
        let (s, e) = (k.dims[2], v.dims[3]);
        let heads = b * h;
        let lens = [heads * t * d, heads * s * d, heads * s * e];
        if p.is_empty() || lens.contains(&0) {
            return lens.map(|len| vec![T::zero(); len]);
        }
        let mut grads = lens.map(Vec::<T>::with_capacity);
        let [dq, dk, dv] = &mut grads;
        let scale = T::from_f64(self.scale);
        let one_head = |ds: &mut Vec<T>, (i, dq, dk, dv): Work<'_, T>| {
            let p_i = &p[i * t * s..][..t * s];
            let p = Matrix::new(p_i, t, s);
            let dout = dout.head(i);
            multiply(dv, T::one(), p.t(), dout, false);
            ds.clear();
            multiply(&mut ds.spare_capacity_mut()[..t * s], T::one(), dout, v.head(i).t(), false);
            // SAFETY: `multiply` has written `t * s` elements.
            unsafe { ds.set_len(t * s) };
            dispatch(ScoreGradient { p: p_i, s, dp: ds });
            let ds = Matrix::new(ds, t, s);
            multiply(dq, scale, ds, k.head(i), false);
            multiply(dk, scale, ds.t(), q.head(i), false);
        };
        let work: Vec<Work<'_, T>> = (dq.spare_capacity_mut()[..lens[0]].chunks_mut(t * d))
            .zip(dk.spare_capacity_mut()[..lens[1]].chunks_mut(s * d))
            .zip(dv.spare_capacity_mut()[..lens[2]].chunks_mut(s * e))
            .enumerate()
            .map(|(i, ((dq, dk), dv))| (i, dq, dk, dv))
            .collect();
        let scratch = || Vec::with_capacity(t * s);
        if worth(heads, t, s, d) {
            work.into_par_iter().for_each_init(scratch, one_head);
        } else {
            let mut ds = scratch();
            work.into_iter().for_each(|work| one_head(&mut ds, work));
        }
        for (grad, len) in grads.iter_mut().zip(lens) {
            // SAFETY: `one_head` has written each chunk of each gradient.
            unsafe { grad.set_len(len) };
        }
        grads
    }
}

/// A head's number and its pieces of dq, dk and dv.
type Work<'a, T> = (usize, &'a mut [MaybeUninit<T>], &'a mut [MaybeUninit<T>], &'a mut [MaybeUninit<T>]);

struct MaskedSoftmax<'a, T> {
    p: &'a mut [T],
    s: usize,
    mask: Option<Matrix<'a, T>>,
}

impl<T: Real> Kernel for MaskedSoftmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for (i, row) in self.p.chunks_exact_mut(self.s).enumerate() {
            if let Some(mask) = self.mask {
                for (j, p) in row.iter_mut().enumerate() {
                    *p += mask.at(i, j);
                }
            }
            let top = max(row);
            for p in row.iter_mut() {
                *p = (*p - top).exp::<S>();
            }
            let scale = T::one() / sum(row, |p| p);
            for p in row {
                *p *= scale;
            }
        }
    }
}

/// `dp ← p (dp − Σ p dp)`, row by row.
struct ScoreGradient<'a, T> {
    p: &'a [T],
    s: usize,
    dp: &'a mut [T],
}

impl<T: Real> Kernel for ScoreGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for (p, dp) in self.p.chunks_exact(self.s).zip(self.dp.chunks_exact_mut(self.s)) {
            let total = sum2(p, dp, |p, dp| p * dp);
            for (dp, &p) in dp.iter_mut().zip(p) {
                *dp = p * (*dp - total);
            }
        }
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (b, h, t, _) = ql.shape().dims4()?;
        let e = vl.shape().dims4()?.3;
        by_dtype!(self.name(), q.dtype(), T => {
            let (out, kept) = self.forward::<T>(Heads::new(q, ql)?, Heads::new(k, kl)?, Heads::new(v, vl)?)?;
            self.kept.get_or_init(|| T::to_cpu_storage_owned(kept));
            Ok((T::to_cpu_storage_owned(out), Shape::from((b, h, t, e))))
        })
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        dout: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(kept) = self.kept.get() else {
            bail!("attention: backward before forward");
        };
        by_dtype!(self.name(), q.dtype(), T => {
            let inputs = [q, k, v, dout].map(Tensor::storage_and_layout);
            let [q_heads, k_heads, v_heads, dout_heads] = &inputs;
            let grads = self.backward::<T>(
                kept.as_slice()?,
                Heads::of(&q_heads.0, q_heads.1)?,
                Heads::of(&k_heads.0, k_heads.1)?,
                Heads::of(&v_heads.0, v_heads.1)?,
                Heads::of(&dout_heads.0, dout_heads.1)?,
            );
            let [dq, dk, dv] = grads;
            let tensor = |data: Vec<T>, like: &Tensor| {
                like.track_op().then(|| Tensor::from_vec(data, like.shape(), &Device::Cpu)).transpose()
            };
            Ok((tensor(dq, q)?, tensor(dk, k)?, tensor(dv, v)?))
        })
    }
}
