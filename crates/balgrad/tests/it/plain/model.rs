//! The model twice: as plain matrices with gradients by hand, and as candle tensors for the crate under test.

use balgrad::{Block, FusedHead, Granularity, Outputs, Role, Target};
use candle_core::{DType, Device, Result, Tensor, Var};
use rand::Rng;

use super::{Matrix, Truth, random, rng};

/// `e_m = tanh(x_m A_m) B_m`, `z_m = e_m H_m`, `z = e_0 F_0 + e_1 F_1 + b (+ (e_0 ∘ e_1) G)`.
#[derive(Clone, Debug)]
pub struct Model {
    pub x: [Matrix; 2],
    /// A_0, B_0, A_1, B_1, H_0, H_1, F_0, F_1, b, G.
    pub parameters: Vec<Matrix>,
    /// Whether G takes part, which makes the fusion not additive.
    pub gated: bool,
    pub truth: Truth,
}

/// Names in the order of `Model::parameters`.
pub const NAMES: [&str; 10] = ["t0.a.w", "t0.b.w", "t1.a.w", "t1.b.w", "h0.w", "h1.w", "f.v", "f.l", "f.b", "f.g"];
const A: [usize; 2] = [0, 2];
const B: [usize; 2] = [1, 3];
const H: [usize; 2] = [4, 5];
const F: [usize; 2] = [6, 7];
const BIAS: usize = 8;
const G: usize = 9;

pub fn role(name: &str) -> Role {
    match &name[..2] {
        "t0" => Role::Tower(0),
        "t1" => Role::Tower(1),
        "h0" => Role::Head(0),
        "h1" => Role::Head(1),
        _ => Role::Fused,
    }
}

/// What flows into the logits: into `z`, into each `z_m`, and into each `z(m alone)`.
#[derive(Clone, Default)]
pub struct Cotangents {
    pub fused: Option<Matrix>,
    pub own: [Option<Matrix>; 2],
    pub alone: [Option<Matrix>; 2],
}

/// The gradient of one objective.
#[derive(Clone)]
pub struct Gradient {
    pub parameters: Vec<Matrix>,
    pub embeddings: [Matrix; 2],
}

pub struct Logits {
    pub fused: Matrix,
    pub own: [Matrix; 2],
    pub alone: [Matrix; 2],
    pub slices: [Matrix; 2],
}

impl Model {
    /// A random problem: batch 5, inputs 4 and 3, hidden 4, width 3, `classes` classes; some class weights.
    pub fn random(seed: u64, classes: usize, many: bool, weighted: bool, gated: bool) -> Self {
        let mut r = rng(seed);
        let batch = 5;
        let x = [random(&mut r, batch, 4, 1.5), random(&mut r, batch, 3, 1.5)];
        let shapes = [(4, 4), (4, 3), (3, 4), (4, 3), (3, classes), (3, classes), (3, classes), (3, classes)];
        let mut parameters: Vec<Matrix> = shapes.iter().map(|(a, b)| random(&mut r, *a, *b, 1.2)).collect();
        parameters.push(random(&mut r, 1, classes, 0.5));
        parameters.push(random(&mut r, 3, classes, 1.0));
        let weights: Option<Vec<f64>> = weighted.then(|| (0..classes).map(|_| r.random_range(0.25..3.0)).collect());
        let truth = if many {
            let targets = Matrix::from(batch, classes, |_| f64::from(u8::from(r.random_bool(0.4))));
            Truth::Many { targets, positive: weights }
        } else {
            Truth::Classes { ids: (0..batch).map(|_| r.random_range(0..classes)).collect(), weights }
        };
        Self { x, parameters, gated, truth }.rounded()
    }

    /// The same model with every number rounded to f32, so that both sides start from the same bits.
    pub fn rounded(mut self) -> Self {
        let all = self.x.iter_mut().chain(self.parameters.iter_mut());
        all.for_each(|m| m.data.iter_mut().for_each(|v| *v = f64::from(*v as f32)));
        if let Truth::Classes { weights: Some(w), .. } | Truth::Many { positive: Some(w), .. } = &mut self.truth {
            w.iter_mut().for_each(|v| *v = f64::from(*v as f32));
        }
        self
    }

    fn hidden(&self, m: usize) -> Matrix {
        self.x[m].mul(&self.parameters[A[m]]).map(f64::tanh)
    }

    pub fn embedding(&self, m: usize) -> Matrix {
        self.hidden(m).mul(&self.parameters[B[m]])
    }

    pub fn logits(&self) -> Logits {
        let e = [self.embedding(0), self.embedding(1)];
        let p = &self.parameters;
        let part = |m: usize| e[m].mul(&p[F[m]]);
        let mut fused = part(0).add(&part(1)).plus_row(&p[BIAS]);
        if self.gated {
            fused = fused.add(&e[0].zip(&e[1], |a, b| a * b).mul(&p[G]));
        }
        Logits {
            fused,
            own: [0, 1].map(|m| e[m].mul(&p[H[m]])),
            alone: [0, 1].map(|m| part(m).plus_row(&p[BIAS])),
            slices: [0, 1].map(|m| part(m).plus_row(&p[BIAS].scale(0.5))),
        }
    }

    /// Reverse-mode differentiation by hand.
    pub fn backprop(&self, into: &Cotangents) -> Gradient {
        let e = [self.embedding(0), self.embedding(1)];
        let p = &self.parameters;
        let mut g: Vec<Matrix> = p.iter().map(|m| Matrix::zeros(m.rows, m.cols)).collect();
        let mut de = [0, 1].map(|m: usize| Matrix::zeros(e[m].rows, e[m].cols));
        for m in 0..2 {
            for dz in into.fused.iter().chain(&into.alone[m]) {
                de[m] = de[m].add(&dz.mul(&p[F[m]].t()));
                g[F[m]] = g[F[m]].add(&e[m].t().mul(dz));
            }
            if let Some(dz) = &into.own[m] {
                de[m] = de[m].add(&dz.mul(&p[H[m]].t()));
                g[H[m]] = e[m].t().mul(dz);
            }
            if let (Some(dz), true) = (&into.fused, self.gated) {
                de[m] = de[m].add(&dz.mul(&p[G].t()).zip(&e[1 - m], |a, b| a * b));
            }
        }
        for dz in into.fused.iter().chain(into.alone.iter().flatten()) {
            g[BIAS] = g[BIAS].add(&dz.column_sums());
        }
        if let (Some(dz), true) = (&into.fused, self.gated) {
            g[G] = e[0].zip(&e[1], |a, b| a * b).t().mul(dz);
        }
        for m in 0..2 {
            self.through_tower(m, &de[m], &mut g);
        }
        Gradient { parameters: g, embeddings: de }
    }

    /// Pushes an embedding's gradient through tower `m`.
    pub fn through_tower(&self, m: usize, de: &Matrix, g: &mut [Matrix]) {
        let h = self.hidden(m);
        g[B[m]] = h.t().mul(de);
        let dh = de.mul(&self.parameters[B[m]].t()).zip(&h, |d, h| d * (1.0 - h * h));
        g[A[m]] = self.x[m].t().mul(&dh);
    }

    /// The same model in candle.
    pub fn vars(&self, dtype: DType) -> Vec<Var> {
        self.parameters.iter().map(|m| Var::from_tensor(&tensor(m, dtype)).unwrap()).collect()
    }

    pub fn labels(&self, dtype: DType) -> Target {
        let vector = |w: &Option<Vec<f64>>| {
            w.as_ref().map(|w| tensor(&Matrix::from(1, w.len(), |i| w[i]), dtype).squeeze(0).unwrap())
        };
        match &self.truth {
            Truth::Classes { ids, weights } => {
                let ids: Vec<u32> = ids.iter().map(|y| *y as u32).collect();
                Target::class(Tensor::new(ids, &Device::Cpu).unwrap(), vector(weights))
            }
            Truth::Many { targets, positive } => Target::labels(tensor(targets, dtype), vector(positive)),
        }
    }

    /// A forward pass; the graph is cut at the embeddings if `cut`.
    pub fn outputs(&self, vars: &[Var], cut: bool) -> Result<Outputs> {
        let dtype = vars[0].dtype();
        let tower = |m: usize| tensor(&self.x[m], dtype).matmul(&vars[A[m]])?.tanh()?.matmul(&vars[B[m]]);
        let embeddings = vec![tower(0)?, tower(1)?];
        let leaves = embeddings.iter().map(|e| Var::from_tensor(&e.detach())).collect::<Result<Vec<_>>>()?;
        let e: Vec<&Tensor> =
            if cut { leaves.iter().map(Var::as_tensor).collect() } else { embeddings.iter().collect() };
        let part = |m: usize| e[m].matmul(&vars[F[m]]);
        let half = (vars[BIAS].as_tensor() * 0.5)?;
        let slices = vec![part(0)?.broadcast_add(&half)?, part(1)?.broadcast_add(&half)?];
        let own = vec![e[0].matmul(&vars[H[0]])?, e[1].matmul(&vars[H[1]])?];
        let (gated, weights) = (self.gated, [F[0], F[1], BIAS, G].map(|i| vars[i].as_tensor().clone()));
        let head = FusedHead::new(move |e| {
            let [image, text, bias, gate] = &weights;
            let [first, rest @ ..] = e else { candle_core::bail!("no embedding") };
            let mut sum = first.matmul(image)?.broadcast_add(bias)?;
            for other in rest {
                sum = (sum + other.matmul(text)?)?;
            }
            if gated { sum + (&e[0] * &e[1])?.matmul(gate)? } else { Ok(sum) }
        });
        let mut outputs = Outputs::new(head.logits(&e.into_iter().cloned().collect::<Vec<_>>())?, own);
        outputs.embeddings = embeddings;
        outputs.slices = (!self.gated).then_some(slices);
        outputs.fused_head = Some(head);
        outputs.leaves = cut.then_some(leaves);
        Ok(outputs)
    }
}

/// The blocks of `vars`.
pub fn blocks(vars: &[Var], granularity: Granularity) -> Vec<Block> {
    Block::group(NAMES.iter().map(|n| (*n).to_owned()).zip(vars.iter().cloned()), role, granularity)
}

pub fn tensor(m: &Matrix, dtype: DType) -> Tensor {
    Tensor::from_vec(m.data.clone(), (m.rows, m.cols), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

pub fn matrix(t: &Tensor) -> Matrix {
    let (rows, cols) = t.dims2().unwrap();
    let data = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    Matrix { rows, cols, data }
}
