//! What a model does class by class, what it takes for what, and whether it knows when it is wrong.

use maud::{Markup, html};

use super::download::{Sheet, links};
use crate::arms::title;
use crate::metrics::{Task, Unit, argmax};
use crate::record::{Condition, Measure};
use crate::report::predictions::Predictions;
use crate::report::sections::{Arm, Section};
use crate::report::svg::{Line, Plot, lines};
use crate::report::tables::View;
use crate::report::verdict::heroes;

/// Classes that a table of all pairs has room for.
const SQUARE: usize = 16;
/// Pairs that are named where it has not.
const NAMED: usize = 12;
/// Bins of a reliability curve, and the samples that one needs to be drawn.
const BINS: usize = 10;
const FEWEST: usize = 5;

/// A model's answers under one condition, all seeds together.
struct Answered {
    condition: Condition,
    /// `[truth][answer]`: how many.
    counts: Vec<Vec<usize>>,
    /// For each bin of confidence: samples, the sum of their confidence, and how many were right.
    bins: [(usize, f64, usize); BINS],
}

/// Scores by class, confusions and reliability of the rows that the top of the page is about; nothing where samples have no
/// one class.
pub(super) fn classes(section: &Section<'_>, view: &View<'_>) -> Markup {
    let dataset = &section.first().record.dataset;
    if !matches!(dataset.task, Task::MultiClass | Task::Binary) {
        return Markup::default();
    }
    let read = |name: &str| {
        let arm = section.arm(name)?;
        let missing = view.modalities.iter().map(|m| Condition::missing(m));
        let all: Vec<Answered> =
            std::iter::once(Condition::Full).chain(missing).filter_map(|c| answered(arm, c)).collect();
        (!all.is_empty()).then_some(all)
    };
    let models: Vec<(&str, Vec<Answered>)> =
        heroes(view).into_iter().filter_map(|name| Some((name, read(name)?))).collect();
    let Some((best, answers)) = models.last() else { return Markup::default() };
    html! {
        h3 { "Class by class" }
        (by_class(&dataset.classes, &models))
        (confusions(&dataset.classes, best, &answers[0]))
        (reliability(&models))
    }
}

fn answered(arm: &Arm<'_>, condition: Condition) -> Option<Answered> {
    let classes = &arm.runs.first()?.record.dataset.classes;
    let mut counts = vec![vec![0; classes.len()]; classes.len()];
    let mut bins = [(0, 0.0, 0); BINS];
    for run in &arm.runs {
        let said = Predictions::read(&run.path, &condition, classes).ok()?;
        for (row, label) in said.rows.iter().zip(&said.labels) {
            let ([truth], Some(answer)) = (label.as_slice(), argmax(row)) else { return None };
            *counts.get_mut(*truth as usize)?.get_mut(answer)? += 1;
            let confidence = f64::from(row[answer]);
            let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
            *bin = (bin.0 + 1, bin.1 + confidence, bin.2 + usize::from(answer == *truth as usize));
        }
    }
    Some(Answered { condition, counts, bins })
}

/// Recall of every class under every condition.
fn by_class(classes: &[String], models: &[(&str, Vec<Answered>)]) -> Markup {
    let support = |c: usize| models[0].1[0].counts[c].iter().sum::<usize>();
    let mut order: Vec<usize> = (0..classes.len()).filter(|&c| support(c) > 0).collect();
    order.sort_by_key(|&c| std::cmp::Reverse(support(c)));
    let columns = || models.iter().flat_map(|(name, all)| all.iter().map(move |a| (*name, a)));
    let recall = |a: &Answered, c: usize| {
        let all: usize = a.counts[c].iter().sum();
        if all == 0 { "–".to_owned() } else { format!("{:.1}", 100.0 * a.counts[c][c] as f64 / all as f64) }
    };
    let names = columns().map(|(name, a)| format!("{}, {}", title(name), Measure::Of(a.condition.clone()).title()));
    let sheet = Sheet {
        name: "classes".into(),
        head: ["Class".to_owned(), "Answers".to_owned()].into_iter().chain(names).collect(),
        rows: order
            .iter()
            .map(|&c| {
                let cells = columns().map(|(_, a)| recall(a, c));
                [classes[c].clone(), support(c).to_string()].into_iter().chain(cells).collect()
            })
            .collect(),
    };
    html! {
        p class="reading" { "Of the test samples of a class the percentage that is recognised, all seeds together." }
        (links(&sheet))
        div class="scroll tall" {
            table class="sortable" {
                thead { tr { @for name in &sheet.head { th scope="col" class="wrap" { (name) } } } }
                tbody {
                    @for row in &sheet.rows {
                        tr { th scope="row" { (row[0]) } @for cell in &row[1..] { td { (cell) } } }
                    }
                }
            }
        }
    }
}

/// What a model takes for what on clean input: a square of all classes, or the pairs most often mixed up.
fn confusions(classes: &[String], model: &str, answered: &Answered) -> Markup {
    let counts = &answered.counts;
    let fraction = |t: usize, a: usize| counts[t][a] as f64 / counts[t].iter().sum::<usize>().max(1) as f64;
    if classes.len() <= SQUARE {
        return html! {
            h4 { "What " (title(model)) " takes for what" }
            p class="reading" { "Rows: the truth. Columns: the answer. Percent of a row, all modalities present." }
            div class="scroll" {
                table class="confusion" {
                    thead { tr { th {} @for name in classes { th scope="col" class="wrap" { (name) } } } }
                    tbody {
                        @for (t, name) in classes.iter().enumerate() {
                            tr {
                                th scope="row" { (name) }
                                @for a in 0..classes.len() {
                                    td class=[(t == a).then_some("hit")] style={ "--v:" (format!("{:.2}", fraction(t, a))) } {
                                        @if counts[t][a] > 0 { (format!("{:.0}", 100.0 * fraction(t, a))) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        };
    }
    let pairs = (0..classes.len()).flat_map(|t| (0..classes.len()).map(move |a| (t, a))).filter(|(t, a)| t != a);
    let mut pairs: Vec<(usize, usize)> = pairs.filter(|&(t, a)| counts[t][a] > 0).collect();
    pairs.sort_by_key(|&(t, a)| std::cmp::Reverse(counts[t][a]));
    html! {
        h4 { "What " (title(model)) " takes for what" }
        ul class="quiet" {
            @for (t, a) in pairs.into_iter().take(NAMED) {
                li {
                    b { (classes[t]) } " for " b { (classes[a]) } ": "
                    (format!("{} of {}", counts[t][a], counts[t].iter().sum::<usize>()))
                }
            }
        }
    }
}

/// How often answers of each confidence are right, with and without each modality.
fn reliability(models: &[(&str, Vec<Answered>)]) -> Markup {
    let points = |a: &Answered| -> Vec<(f64, f64)> {
        let drawn = a.bins.iter().filter(|bin| bin.0 >= FEWEST);
        drawn.map(|&(n, confidence, right)| (confidence / n as f64, right as f64 / n as f64)).collect()
    };
    let panel = |(name, answers): &(&str, Vec<Answered>)| {
        let even = Line { class: "plain dashed".into(), label: String::new(), points: vec![(0.0, 0.0), (1.0, 1.0)] };
        let curve = |(place, a): (usize, &Answered)| {
            let class = match a.condition.modality() {
                None => "full strong".to_owned(),
                Some(m) => crate::report::charts::modality_class(m, place.saturating_sub(1)),
            };
            Line { class, label: Measure::Of(a.condition.clone()).title(), points: points(a) }
        };
        let drawn: Vec<Line> = std::iter::once(even).chain(answers.iter().enumerate().map(curve)).collect();
        let label = format!("Reliability of {}", title(name));
        let plot = Plot {
            label: &label,
            x_label: "confidence, %",
            units: (Unit::Percent, Unit::Percent),
            zero: true,
            ..Plot::default()
        };
        (title(name), lines(&plot, &drawn))
    };
    html! {
        h4 { "Does it know when it is wrong?" }
        p class="reading" {
            "Of answers of one confidence, the percentage that is right. Below the dashed line a model is more sure than it \
             should be."
        }
        div class="panels" {
            @for (name, plot) in models.iter().map(panel) { figure { figcaption { (name) } (plot) } }
        }
    }
}
