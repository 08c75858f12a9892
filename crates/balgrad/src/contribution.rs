//! What each modality contributes, exactly: Shapley values over sets of modalities.

/// The Shapley value of each of `M` players, given the worth of every set of them: `2^M` numbers, bit `m` of the index
/// standing for player `m` (Shapley 1953). They sum to the worth of all less the worth of none.
///
/// ```
/// // Nothing, image, text, both: the image alone is worth 0.3, the text 0.4, both together 0.9.
/// let values = balgrad::shapley(&[0.0, 0.3, 0.4, 0.9]);
/// assert!((values[0] - 0.4).abs() < 1e-12 && (values[1] - 0.5).abs() < 1e-12);
/// ```
///
/// # Panics
/// When the number of worths is not a power of two.
pub fn shapley(worth: &[f64]) -> Vec<f64> {
    assert!(worth.len().is_power_of_two(), "a worth for every set of players: a power of two");
    let players = worth.len().ilog2() as usize;
    // A set of s players comes before the newcomer in s! (M − s − 1)! of all M! orders.
    let mut share = vec![1.0 / players.max(1) as f64; players];
    for s in 1..players {
        share[s] = share[s - 1] * s as f64 / (players - s) as f64;
    }
    let value = |m: usize| {
        let sets = (0..worth.len()).filter(|set| set >> m & 1 == 0);
        sets.map(|set| share[set.count_ones() as usize] * (worth[set | 1 << m] - worth[set])).sum()
    };
    (0..players).map(value).collect()
}
