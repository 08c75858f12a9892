//! Scores of an order: the area under the ROC curve, and average precision.

/// Samples from the highest score down, in runs of equal scores: `(positives, negatives)` of each run.
fn runs(scores: &[f64], truths: &[bool]) -> Vec<(f64, f64)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let run = |run: &[usize]| {
        let positives = run.iter().filter(|&&i| truths[i]).count();
        (positives as f64, (run.len() - positives) as f64)
    };
    order.chunk_by(|&a, &b| scores[a] == scores[b]).map(run).collect()
}

/// Area under the ROC curve: the chance that a positive scores above a negative, ties counting half (midranks).
///
/// `None` unless both outcomes are there.
pub fn auroc(scores: &[f64], truths: &[bool]) -> Option<f64> {
    let runs = runs(scores, truths);
    let (mut above, mut area) = (0.0, 0.0);
    for (positives, negatives) in &runs {
        area += negatives * (above + positives / 2.0);
        above += positives;
    }
    let pairs = above * runs.iter().map(|r| r.1).sum::<f64>();
    (pairs > 0.0).then(|| area / pairs)
}

/// Average precision Σ (R_n − R_{n−1})·P_n over thresholds, without interpolation; `None` without a positive.
pub fn average_precision(scores: &[f64], truths: &[bool]) -> Option<f64> {
    let (mut hits, mut seen, mut sum) = (0.0, 0.0, 0.0);
    for (positives, negatives) in runs(scores, truths) {
        hits += positives;
        seen += positives + negatives;
        sum += positives * hits / seen;
    }
    (hits > 0.0).then(|| sum / hits)
}
