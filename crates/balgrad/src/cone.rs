//! Nearest points in the cone and in the hull of gradients, of which only the Gram matrix is known.
//!
//! A cone does not change where a gradient is stretched, so all are taken at unit length: norms may then differ by any
//! factor. Vectors with that Gram matrix come from its Cholesky factor, and every problem here is one of non-negative
//! least squares on them. Working on vectors keeps what working on their Gram matrix would square away.

use crate::linear::dot;

/// Gradients at unit length, as columns of few coordinates that have their inner products.
pub(crate) struct Units {
    /// `‖g_i‖`; 0 for a gradient that has no direction.
    pub(crate) norms: Vec<f64>,
    columns: Vec<Vec<f64>>,
}

impl Units {
    /// From a Gram matrix `k × k`; `None` where it is not finite.
    pub(crate) fn of(gram: &[f64], k: usize) -> Option<Self> {
        if gram.len() != k * k || gram.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let norms: Vec<f64> = (0..k).map(|i| gram[i * k + i].max(0.0).sqrt()).collect();
        let cosine = |i: usize, j: usize| match norms[i] > 0.0 && norms[j] > 0.0 {
            true if i == j => 1.0,
            true => (gram[i * k + j] / norms[i] / norms[j]).clamp(-1.0, 1.0),
            false => 0.0,
        };
        let mut columns = vec![Vec::new(); k];
        let mut left: Vec<f64> = norms.iter().map(|n| f64::from(u8::from(*n > 0.0))).collect();
        let least = 4.0 * k as f64 * f64::EPSILON;
        while let Some(p) = (0..k).max_by(|i, j| left[*i].total_cmp(&left[*j])).filter(|p| left[*p] > least) {
            let (pivot, length) = (columns[p].clone(), left[p].sqrt());
            for (j, column) in columns.iter_mut().enumerate() {
                let part = if left[j] > 0.0 { (cosine(p, j) - dot(&pivot, column)) / length } else { 0.0 };
                column.push(if j == p { length } else { part });
                left[j] -= part * part;
            }
            left[p] = 0.0;
        }
        Some(Self { norms, columns })
    }

    /// Weights of the point nearest to `Σ from_i g_i` in the dual cone `{d : ⟨d, g_i⟩ ≥ 0 for all i}`. None is below `from`'s.
    pub(crate) fn project(&self, from: &[f64]) -> Vec<f64> {
        let parts: Vec<f64> = from.iter().zip(&self.norms).map(|(f, n)| f * n).collect();
        let size = parts.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        if size == 0.0 {
            return from.to_vec();
        }
        // By Moreau, the cone of the gradients themselves holds what the projection adds.
        let mut target = vec![0.0; self.columns.first().map_or(0, Vec::len)];
        for (part, column) in parts.iter().zip(&self.columns) {
            target.iter_mut().zip(column).for_each(|(t, c)| *t -= part / size * c);
        }
        let added = nonnegative(&self.columns, &target).into_iter().zip(&self.norms);
        from.iter().zip(added).map(|(f, (a, n))| if a > 0.0 { f + a * size / n } else { *f }).collect()
    }

    /// Weights, of sum 1, of the shortest vector in the hull.
    pub(crate) fn shortest(&self) -> Vec<f64> {
        let k = self.norms.len();
        if let Some(zero) = self.norms.iter().position(|n| *n == 0.0) {
            return (0..k).map(|i| f64::from(u8::from(i == zero))).collect();
        }
        // Where `Σ α = 1` is one more equation to be met as well as may be, the weights come out short of that sum and in the
        // right proportion (Lawson & Hanson's least-distance programming). Its unit is the shortest gradient.
        let least = self.norms.iter().copied().fold(f64::INFINITY, f64::min);
        let (columns, scales): (Vec<Vec<f64>>, Vec<f64>) = self
            .columns
            .iter()
            .zip(&self.norms)
            .map(|(column, norm)| {
                let share = least / norm;
                let length = share.hypot(1.0);
                let lengthened = column.iter().copied().chain([share]).map(|v| v / length).collect();
                (lengthened, share / length)
            })
            .unzip();
        let mut target = vec![0.0; columns.first().map_or(0, Vec::len)];
        if let Some(last) = target.last_mut() {
            *last = 1.0;
        }
        let weights: Vec<f64> = nonnegative(&columns, &target).iter().zip(scales).map(|(x, s)| x * s).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / sum).collect()
    }
}

/// `x ≥ 0` with `Σ x_i column_i` nearest to `target`, for columns of unit length, by an active set (Lawson & Hanson 1974): a
/// set of free columns grows by the steepest one, and shrinks where its own minimum would leave the region.
fn nonnegative(columns: &[Vec<f64>], target: &[f64]) -> Vec<f64> {
    let k = columns.len();
    let mut x = vec![0.0; k];
    let mut free = Basis::default();
    let mut barred = vec![false; k];
    let mut residual = target.to_vec();
    let length = |v: &[f64]| dot(v, v).sqrt();
    for _ in 0..10 * k {
        let size = length(target) + x.iter().sum::<f64>();
        let open = (0..k).filter(|i| !barred[*i] && !free.order.contains(i));
        let slopes = open.map(|i| (i, dot(&columns[i], &residual)));
        let Some((newcomer, slope)) = slopes.max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
        // A slope that is no number ends it too.
        let steep = slope > 4.0 * f64::EPSILON * size;
        if !steep {
            break;
        }
        barred[newcomer] = true;
        if !free.push(newcomer, &columns[newcomer]) {
            continue;
        }
        let mut next = x.clone();
        loop {
            let wanted = free.solve(target);
            let steps = free.order.iter().zip(&wanted).filter(|(_, w)| **w <= 0.0);
            let steps = steps.map(|(i, w)| if next[*i] > 0.0 { next[*i] / (next[*i] - w) } else { 0.0 });
            let step = steps.fold(1.0, f64::min);
            for (i, w) in free.order.iter().zip(&wanted) {
                let blocked = *w <= 0.0 && (next[*i] <= 0.0 || next[*i] / (next[*i] - w) <= step);
                next[*i] = if blocked { 0.0 } else { (next[*i] + step * (w - next[*i])).max(0.0) };
            }
            if wanted.iter().all(|w| *w > 0.0) {
                break;
            }
            free.keep(|i| next[i] > 0.0, columns);
        }
        let mut rest = target.to_vec();
        for (part, column) in next.iter().zip(columns).filter(|(part, _)| **part > 0.0) {
            rest.iter_mut().zip(column).for_each(|(r, c)| *r -= part * c);
        }
        // The objective falls with every step, unless only rounding is left: then the newcomer stays out.
        if length(&rest) < length(&residual) {
            barred.fill(false);
        }
        (x, residual) = (next, rest);
    }
    x
}

/// An orthonormal basis of the free columns, and their coordinates in it.
#[derive(Default)]
struct Basis {
    order: Vec<usize>,
    directions: Vec<Vec<f64>>,
    /// Column `c` of the triangle: coordinates of the `c`-th free column.
    triangle: Vec<Vec<f64>>,
}

impl Basis {
    /// Takes in a column, unless it depends on those there are.
    fn push(&mut self, index: usize, column: &[f64]) -> bool {
        let mut rest = column.to_vec();
        let mut coordinates = vec![0.0; self.directions.len()];
        // Twice is enough (Kahan).
        for _ in 0..2 {
            for (direction, coordinate) in self.directions.iter().zip(&mut coordinates) {
                let part = dot(direction, &rest);
                *coordinate += part;
                rest.iter_mut().zip(direction).for_each(|(r, d)| *r -= part * d);
            }
        }
        let length = dot(&rest, &rest).sqrt();
        let independent = length > 64.0 * f64::EPSILON;
        if !independent {
            return false;
        }
        rest.iter_mut().for_each(|r| *r /= length);
        coordinates.push(length);
        self.order.push(index);
        self.directions.push(rest);
        self.triangle.push(coordinates);
        true
    }

    /// Gives back all columns but those to be kept.
    fn keep(&mut self, kept: impl Fn(usize) -> bool, columns: &[Vec<f64>]) {
        let order = std::mem::take(self).order;
        for i in order.into_iter().filter(|i| kept(*i)) {
            self.push(i, &columns[i]);
        }
    }

    /// Coefficients of the free columns' combination nearest to `target`.
    fn solve(&self, target: &[f64]) -> Vec<f64> {
        let mut rest = target.to_vec();
        let mut x = Vec::with_capacity(self.order.len());
        for direction in &self.directions {
            let part = dot(direction, &rest);
            rest.iter_mut().zip(direction).for_each(|(r, d)| *r -= part * d);
            x.push(part);
        }
        for r in (0..x.len()).rev() {
            let right = x[r] - (r + 1..x.len()).map(|c| self.triangle[c][r] * x[c]).sum::<f64>();
            x[r] = right / self.triangle[r][r];
        }
        x
    }
}
