use super::matmul::{Matrix, multiply, multiply_into};
use super::real::{Real, max, sum, sum2};
use super::{by_dtype, fused, softmax, widened};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::cpu::{floats, storage_floats};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Storage, Tensor, WithDType, bail};
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Scaled dot-product self-attention, `softmax(q kᵀ · scale + mask) v` per batch entry and head.
///
/// `qkv` `[b, t, 3, h, d]` holds the queries, keys and values of each token side by side, as one linear layer gives them; result
/// `[b, t, h, d]`. `mask` is added to the scores and must broadcast to `[b, h, t, t]` (for padding: `[b, 1, 1, t]`, 0 or −∞); it
/// gets no gradient. A query whose every key is masked by −∞ gives NaN.
///
/// # Errors
/// When shapes or dtypes do not fit; the message names them.
pub fn attention(qkv: &Tensor, mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    let &[b, t, 3, h, _] = qkv.dims() else {
        bail!("attention: qkv is {:?}, expected [batch, tokens, 3, heads, size]", qkv.dims());
    };
    let mask = match mask {
        Some(mask) => Some(mask.detach().to_dtype(qkv.dtype())?.broadcast_as((b, h, t, t))?),
        None => None,
    };
    if fused(qkv) {
        let tracked = qkv.track_op();
        return qkv.contiguous()?.apply_op1(Attention { mask, scale, kept: OnceLock::new(), tracked });
    }
    widened([qkv], |[qkv]| {
        let part = |i| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let scores = (part(0)?.matmul(&part(1)?.t()?.contiguous()?)? * scale)?;
        let scores = match &mask {
            Some(mask) => scores.add(&mask.to_dtype(scores.dtype())?)?,
            None => scores,
        };
        softmax(&scores)?.matmul(&part(2)?)?.transpose(1, 2)?.contiguous()
    })
}

struct Attention {
    mask: Option<Tensor>,
    scale: f64,
    /// The probabilities `[b, h, t, t]`, kept by the forward for the backward of each objective.
    kept: OnceLock<CpuStorage>,
    tracked: bool,
}

/// Sizes of a packed tensor.
#[derive(Clone, Copy)]
struct Packed {
    entries: usize,
    tokens: usize,
    heads: usize,
    size: usize,
}

impl Packed {
    fn new(shape: &Shape) -> Result<Self> {
        let &[entries, tokens, 3, heads, size] = shape.dims() else { bail!("attention: a packed tensor of {shape:?}") };
        Ok(Self { entries, tokens, heads, size })
    }

    /// Elements of one of q, k, v of an entry; of the result and its gradient, too.
    fn part(self) -> usize {
        self.tokens * self.heads * self.size
    }

    /// Probabilities of a head.
    fn scores(self) -> usize {
        self.tokens * self.tokens
    }

    /// Where in an entry `q` (0), `k` (1) or `v` (2) of a head begins.
    fn start(self, which: usize, head: usize) -> usize {
        (which * self.heads + head) * self.size
    }

    /// From one token of an entry to the next.
    fn stride(self) -> usize {
        3 * self.heads * self.size
    }

    /// `q`, `k` and `v` of a head of an entry, each `[tokens, size]`.
    fn head<T>(self, entry: &[T], head: usize) -> [Matrix<'_, T>; 3] {
        [0, 1, 2]
            .map(|which| Matrix::strided(&entry[self.start(which, head)..], self.tokens, self.size, self.stride(), 1))
    }

    /// Whether the entries are worth a second thread.
    fn threads(self) -> bool {
        self.entries > 1 && rayon::current_num_threads() > 1 && self.entries * self.part() * self.tokens > 1 << 18
    }

    /// `work` on each of `pieces` with scratch of its own.
    fn each<W: Send, T>(self, pieces: Vec<W>, work: impl Fn(&mut Vec<T>, W) + Sync + Send) {
        if self.threads() {
            pieces.into_par_iter().for_each_init(Vec::new, work);
        } else {
            let mut scratch = Vec::new();
            pieces.into_iter().for_each(|piece| work(&mut scratch, piece));
        }
    }
}

/// The additive mask of any strides.
struct Mask<'a, T> {
    data: &'a [T],
    strides: [usize; 4],
}

impl<'a, T: Real> Mask<'a, T> {
    fn new(storage: &'a Storage, layout: &Layout) -> Result<Self> {
        match (storage, layout.stride().try_into()) {
            (Storage::Cpu(storage), Ok(strides)) => {
                Ok(Self { data: &storage.as_slice::<T>()?[layout.start_offset()..], strides })
            }
            _ => bail!("attention: expected a mask of four dimensions on the CPU"),
        }
    }

    fn head(&self, entry: usize, head: usize, tokens: usize) -> Matrix<'a, T> {
        let data = &self.data[entry * self.strides[0] + head * self.strides[1]..];
        Matrix::strided(data, tokens, tokens, self.strides[2], self.strides[3])
    }
}

impl Attention {
    /// The result `[b, t, h, d]`, and the probabilities if they will be needed.
    fn forward<T: Real>(&self, qkv: &[T], shape: Packed) -> Result<(Vec<T>, Vec<T>)> {
        let guard = self.mask.as_ref().map(Tensor::storage_and_layout);
        let mask = match &guard {
            Some((storage, layout)) => Some(Mask::<T>::new(storage, layout)?),
            None => None,
        };
        let Packed { entries, tokens, heads, size } = shape;
        let (len, scores) = (entries * shape.part(), shape.scores());
        if len == 0 {
            return Ok((vec![], vec![]));
        }
        let mut out: Vec<T> = Vec::with_capacity(len);
        let mut kept: Vec<T> = Vec::with_capacity(if self.tracked { entries * heads * scores } else { 0 });
        let mut room: Vec<_> = match self.tracked {
            true => {
                kept.spare_capacity_mut()[..entries * heads * scores].chunks_mut(heads * scores).map(Some).collect()
            }
            false => (0..entries).map(|_| None).collect(),
        };
        let chunks = out.spare_capacity_mut()[..len].chunks_mut(shape.part());
        let pieces: Vec<_> = chunks.zip(room.iter_mut()).enumerate().collect();
        shape.each(pieces, |scratch: &mut Vec<T>, (entry, (out, room))| {
            let qkv = &qkv[entry * 3 * shape.part()..][..3 * shape.part()];
            for head in 0..heads {
                let [q, k, v] = shape.head(qkv, head);
                let p = match room {
                    Some(room) => &mut room[head * scores..][..scores],
                    None => {
                        scratch.reserve(scores);
                        &mut scratch.spare_capacity_mut()[..scores]
                    }
                };
                multiply(p, T::from_f64(self.scale), q, k.t(), false);
                // SAFETY: `multiply` has written all of `p`.
                let p = unsafe { &mut *(std::ptr::from_mut(p) as *mut [T]) };
                let mask = mask.as_ref().map(|mask| mask.head(entry, head, tokens));
                dispatch(MaskedSoftmax { p, s: tokens, mask });
                multiply_into(&mut out[head * size..], heads * size, T::one(), Matrix::new(p, tokens, tokens), v);
            }
        });
        // SAFETY: every head of every entry has written its columns, and where `kept` has room its probabilities.
        unsafe {
            out.set_len(len);
            kept.set_len(if self.tracked { entries * heads * scores } else { 0 });
        }
        Ok((out, kept))
    }

    /// `dv = pᵀ do`, `ds = p (dp − Σ p dp)` with `dp = do vᵀ`, `dq = ds k · scale`, `dk = dsᵀ q · scale`.
    fn backward<T: Real>(&self, p: &[T], qkv: &[T], dout: &[T], shape: Packed) -> Vec<T> {
        let Packed { tokens, heads, size, .. } = shape;
        let (scale, scores, stride) = (T::from_f64(self.scale), shape.scores(), shape.stride());
        let mut grad: Vec<T> = Vec::with_capacity(qkv.len());
        if qkv.is_empty() {
            return grad;
        }
        let pieces: Vec<_> = grad.spare_capacity_mut()[..qkv.len()].chunks_mut(3 * shape.part()).enumerate().collect();
        shape.each(pieces, |ds: &mut Vec<T>, (entry, grad): (usize, &mut [MaybeUninit<T>])| {
            let qkv = &qkv[entry * 3 * shape.part()..][..3 * shape.part()];
            let dout = &dout[entry * shape.part()..][..shape.part()];
            for head in 0..heads {
                let [q, k, v] = shape.head(qkv, head);
                let dout = Matrix::strided(&dout[head * size..], tokens, size, heads * size, 1);
                let p_head = &p[(entry * heads + head) * scores..][..scores];
                let p = Matrix::new(p_head, tokens, tokens);
                let mut write = |which: usize, scale: T, a: Matrix<'_, T>, b: Matrix<'_, T>| {
                    multiply_into(&mut grad[shape.start(which, head)..], stride, scale, a, b);
                };
                write(2, T::one(), p.t(), dout);
                ds.clear();
                ds.reserve(scores);
                multiply(&mut ds.spare_capacity_mut()[..scores], T::one(), dout, v.t(), false);
                // SAFETY: `multiply` has written `scores` elements.
                unsafe { ds.set_len(scores) };
                dispatch(ScoreGradient { p: p_head, s: tokens, dp: ds });
                let ds = Matrix::new(ds, tokens, tokens);
                write(0, scale, ds, k);
                write(1, scale, ds.t(), q);
            }
        });
        // SAFETY: every head of every entry has written its columns of all three parts.
        unsafe { grad.set_len(qkv.len()) };
        grad
    }
}

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

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = Packed::new(layout.shape())?;
        by_dtype!(self.name(), qkv.dtype(), T => {
            let (out, kept) = self.forward::<T>(storage_floats(qkv, layout)?, shape)?;
            self.kept.get_or_init(|| T::to_cpu_storage_owned(kept));
            let dims = (shape.entries, shape.tokens, shape.heads, shape.size);
            Ok((T::to_cpu_storage_owned(out), Shape::from(dims)))
        })
    }

    fn bwd(&self, qkv: &Tensor, _: &Tensor, dout: &Tensor) -> Result<Option<Tensor>> {
        let Some(kept) = self.kept.get() else {
            bail!("attention: backward before forward");
        };
        let dout = dout.contiguous()?;
        by_dtype!(self.name(), qkv.dtype(), T => {
            let ((qkv_storage, qkv_layout), (dout_storage, dout_layout)) =
                (qkv.storage_and_layout(), dout.storage_and_layout());
            let (data, dout) = (floats::<T>(&qkv_storage, qkv_layout)?, floats::<T>(&dout_storage, dout_layout)?);
            let grad = self.backward::<T>(kept.as_slice()?, data, dout, Packed::new(qkv.shape())?);
            Ok(Some(Tensor::from_vec(grad, qkv.shape(), &Device::Cpu)?))
        })
    }
}
