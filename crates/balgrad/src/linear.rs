//! The little linear algebra that k × k Gram matrices ask for: `k` is the number of objectives, a handful, so that
//! plain cubic algorithms on row-major slices are the fastest and the easiest to trust.

/// Rounds after which an iteration gives what it has: far beyond what any finite problem of this size takes.
const ROUNDS: usize = 100;

/// `G x`.
pub(crate) fn apply(g: &[f64], x: &[f64]) -> Vec<f64> {
    if x.is_empty() {
        return Vec::new();
    }
    g.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

/// `⟨x, y⟩`.
pub(crate) fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(a, b)| a * b).sum()
}

/// `G` divided by the mean of its diagonal, and that mean: every rule here is then free of the gradients' scale.
/// `None` where there is nothing to divide by: all gradients are zero, or not finite.
pub(crate) fn normalized(g: &[f64], k: usize) -> Option<(Vec<f64>, f64)> {
    let mean = (0..k).map(|i| g[i * k + i]).sum::<f64>() / k as f64;
    let scaled: Vec<f64> = g.iter().map(|v| v / mean).collect();
    (mean > 0.0 && scaled.iter().all(|v| v.is_finite())).then_some((scaled, mean))
}

/// Eigenvalues and eigenvectors (column `c` of the second belongs to value `c`) of a symmetric matrix, by Jacobi's
/// rotations.
pub(crate) fn eigen(g: &[f64], k: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = g.to_vec();
    let mut v: Vec<f64> = (0..k * k).map(|i| f64::from(u8::from(i / k == i % k))).collect();
    for _ in 0..ROUNDS {
        let off: f64 = (0..k * k).filter(|i| i / k != i % k).map(|i| a[i] * a[i]).sum();
        if off <= f64::MIN_POSITIVE || !off.is_finite() {
            break;
        }
        for p in 0..k {
            for q in p + 1..k {
                if a[p * k + q] == 0.0 {
                    continue;
                }
                let theta = (a[q * k + q] - a[p * k + p]) / (2.0 * a[p * k + q]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                let turn = |m: &mut [f64], i: usize, j: usize| {
                    let (x, y) = (m[i], m[j]);
                    (m[i], m[j]) = (c * x - s * y, s * x + c * y);
                };
                (0..k).for_each(|r| turn(&mut a, r * k + p, r * k + q));
                (0..k).for_each(|r| turn(&mut a, p * k + r, q * k + r));
                (0..k).for_each(|r| turn(&mut v, r * k + p, r * k + q));
            }
        }
    }
    ((0..k).map(|i| a[i * k + i]).collect(), v)
}

/// `V f(Λ) Vᵀ x` over the eigenvalues above `k · ε · λ_max`, those that count as non-zero.
pub(crate) fn spectral(g: &[f64], x: &[f64], f: impl Fn(f64) -> f64) -> Vec<f64> {
    let k = x.len();
    let (values, vectors) = eigen(g, k);
    let tolerance = values.iter().copied().fold(0.0, f64::max) * k as f64 * f64::EPSILON;
    let mut y = vec![0.0; k];
    for (c, value) in values.iter().enumerate().filter(|(_, v)| **v > tolerance) {
        let weight = f(*value) * (0..k).map(|r| vectors[r * k + c] * x[r]).sum::<f64>();
        y.iter_mut().enumerate().for_each(|(r, y)| *y += weight * vectors[r * k + c]);
    }
    y
}

/// Solves `A x = b` (`n × n`) by elimination with partial pivoting; `None` where `A` is singular to rounding.
pub(crate) fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for c in 0..n {
        let pivot = (c..n).max_by(|i, j| a[i * n + c].abs().total_cmp(&a[j * n + c].abs()))?;
        if a[pivot * n + c].abs() < 1e-300 {
            return None;
        }
        (0..n).for_each(|j| a.swap(c * n + j, pivot * n + j));
        b.swap(c, pivot);
        for r in c + 1..n {
            let factor = a[r * n + c] / a[c * n + c];
            (c..n).for_each(|j| a[r * n + j] -= factor * a[c * n + j]);
            b[r] -= factor * b[c];
        }
    }
    for r in (0..n).rev() {
        b[r] = (b[r] - (r + 1..n).map(|j| a[r * n + j] * b[j]).sum::<f64>()) / a[r * n + r];
    }
    b.iter().all(|v| v.is_finite()).then_some(b)
}

/// Minimises `½ xᵀGx + bᵀx` over `x ≥ 0`, `Σ x = 1` by an active set: a set of free coordinates grows by the steepest one, and shrinks where
/// its own minimum would leave the region (Lawson & Hanson's scheme). `G` should have a diagonal near 1; a ridge of
/// 1e-13 picks one of several minima where it is singular.
pub(crate) fn quadratic(g: &[f64], b: &[f64]) -> Vec<f64> {
    let k = b.len();
    let mut x = vec![0.0; k];
    let mut free: Vec<usize> = Vec::new();
    let cost = |i: &usize| 0.5 * g[i * k + i] + b[*i];
    let Some(start) = (0..k).min_by(|i, j| cost(i).total_cmp(&cost(j))) else { return x };
    x[start] = 1.0;
    free.push(start);
    let size = 1.0 + b.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    for _ in 0..ROUNDS {
        let slope: Vec<f64> = apply(g, &x).iter().zip(b).map(|(gx, b)| gx + b).collect();
        let level = dot(&slope, &x);
        let bound = (0..k).filter(|i| !free.contains(i));
        let Some(j) = bound.min_by(|i, j| slope[*i].total_cmp(&slope[*j])) else { break };
        if slope[j] - level >= -1e-14 * size {
            break;
        }
        free.push(j);
        while let Some(target) = minimum(g, b, &free) {
            let leaving = |s: &(usize, f64)| s.1 <= 0.0;
            let steps = free.iter().copied().zip(target.iter().copied()).filter(leaving);
            let step = steps.map(|(i, t)| x[i] / (x[i] - t)).fold(1.0, |a: f64, s| if s < a { s } else { a });
            for (i, t) in free.iter().zip(&target) {
                x[*i] += step * (t - x[*i]);
            }
            if step >= 1.0 {
                break;
            }
            free.retain(|i| x[*i] > 1e-15);
            (0..k).filter(|i| !free.contains(i)).for_each(|i| x[i] = 0.0);
            if !free.contains(&j) {
                // The newcomer leaves at once: only rounding brought it in.
                return x;
            }
        }
    }
    x
}

/// The minimum with only `free` coordinates, of sum 1, and no sign asked of them.
fn minimum(g: &[f64], b: &[f64], free: &[usize]) -> Option<Vec<f64>> {
    let (k, n) = (b.len(), free.len());
    let size = n + 1;
    let mut a = vec![0.0; size * size];
    let mut right = vec![1.0; size];
    for (r, i) in free.iter().enumerate() {
        for (c, j) in free.iter().enumerate() {
            a[r * size + c] = g[i * k + j] + if r == c { 1e-13 } else { 0.0 };
        }
        right[r] = -b[*i];
        a[r * size + n] = 1.0;
        a[n * size + r] = 1.0;
    }
    let mut x = solve(a, right)?;
    x.truncate(n);
    Some(x)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// The Gram matrix of `k` random vectors of length `n`, mean diagonal 1.
    fn random_gram(rng: &mut ChaCha8Rng, k: usize, n: usize) -> Vec<f64> {
        let rows: Vec<Vec<f64>> = (0..k).map(|_| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
        let g: Vec<f64> = (0..k * k).map(|i| dot(&rows[i / k], &rows[i % k])).collect();
        normalized(&g, k).unwrap().0
    }

    #[test]
    fn eigen_rebuilds_the_matrix() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for k in 1..8 {
            let g = random_gram(&mut rng, k, k.div_ceil(2));
            let (values, v) = eigen(&g, k);
            for i in 0..k * k {
                let rebuilt: f64 = (0..k).map(|c| v[(i / k) * k + c] * values[c] * v[(i % k) * k + c]).sum();
                let unit: f64 = (0..k).map(|c| v[(i / k) * k + c] * v[(i % k) * k + c]).sum();
                assert!((rebuilt - g[i]).abs() < 1e-13);
                assert!((unit - f64::from(u8::from(i / k == i % k))).abs() < 1e-13);
            }
        }
    }

    #[test]
    fn solve_inverts() {
        let x = solve(vec![0.0, 2.0, 1.0, 1.0], vec![4.0, 3.0]).unwrap();
        assert_eq!(x, [1.0, 2.0]);
        assert!(solve(vec![0.0; 4], vec![1.0, 1.0]).is_none());
    }

    /// The conditions of Karush, Kuhn and Tucker, which make a point the minimum.
    #[test]
    fn quadratic_programmes_end_in_their_minimum() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for round in 0..600 {
            let k = 1 + round % 7;
            // Singular matrices too; a linear term in the range of G keeps those bounded.
            let g = random_gram(&mut rng, k, 1 + round % 5);
            let b = apply(&g, &(0..k).map(|_| rng.random_range(-2.0..2.0)).collect::<Vec<_>>());
            let x = quadratic(&g, &b);
            let slope: Vec<f64> = apply(&g, &x).iter().zip(&b).map(|(a, b)| a + b).collect();
            let level = dot(&slope, &x);
            assert!(x.iter().all(|v| *v >= -1e-12), "{x:?}");
            assert!((x.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{x:?}");
            for i in 0..k {
                assert!(slope[i] - level >= -1e-7, "k {k}: {x:?}, slope {slope:?} against {level}");
                assert!(x[i] * (slope[i] - level).abs() < 1e-7, "{x:?}, {slope:?}, {level}");
            }
        }
    }
}
