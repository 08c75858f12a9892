//! Comparisons as forest plots, and all of them as a table.

use maud::{Markup, html};

use super::download::{Sheet, links};
use crate::arms::title;
use crate::metrics::{Better, Score, Unit};
use crate::record::{Condition, Impairment, Measure};
use crate::report::Comparison;
use crate::report::svg::{Difference, forest};
use crate::report::tables::{Verdict, View, interval, p_value, points};

/// What is plotted; the table has all.
const PLOTTED: [Measure; 3] =
    [Measure::Avg(Impairment::Missing), Measure::Avg(Impairment::Noisy), Measure::Of(Condition::Full)];

impl Verdict {
    /// The class of a row.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            _ => "unclear",
        }
    }
}

/// Every comparison of the headline score as plots, and of every score as tables.
pub(super) fn comparisons(view: &View<'_>) -> Markup {
    let mut subjects: Vec<&str> = Vec::new();
    for c in view.comparisons(view.metric, &PLOTTED) {
        if !subjects.contains(&c.a.as_str()) {
            subjects.push(&c.a);
        }
    }
    html! {
        @if !subjects.is_empty() {
            h3 { "What is better than what" }
            p class="reading" {
                "Each dot is a difference in " (view.metric.title) " with its 95 % interval: right of the line "
                @if view.metric.better == Better::Higher { "the first method scores more" } @else { "the first method errs more" }
                ". Green and red are clear differences; grey ones are suggestive or not significant."
            }
            @for subject in subjects { (plots(view, subject)) }
        }
        @for metric in view.compared() { (table(view, metric)) }
    }
}

/// One method against all that it is compared with.
fn plots(view: &View<'_>, subject: &str) -> Markup {
    let found = |measure: &Measure| -> Vec<Difference> {
        let all = view.comparisons(view.metric, std::slice::from_ref(measure));
        let mut rows: Vec<Difference> = all.into_iter().filter(|c| c.a == subject).filter_map(difference).collect();
        rows.sort_by(|x, y| y.value.total_cmp(&x.value));
        rows
    };
    let plots: Vec<(&Measure, Vec<Difference>)> =
        PLOTTED.iter().map(|m| (m, found(m))).filter(|p| !p.1.is_empty()).collect();
    let ends = |row: &Difference| row.ci95.unwrap_or([row.value; 2]);
    let span: Vec<f64> = plots.iter().flat_map(|p| &p.1).flat_map(ends).collect();
    html! {
        div class="panels wide" {
            @for (measure, rows) in &plots {
                figure {
                    figcaption { (measure.title()) ": " (title(subject)) " less …" }
                    (forest(&format!("{}: {subject} less each other method", measure.title()), view.metric, rows, &span))
                }
            }
        }
    }
}

fn difference(c: &Comparison) -> Option<Difference> {
    let value = c.difference?;
    let verdict = Verdict::of(c);
    let words = format!(
        "{} less {}: {} {}, {}",
        title(&c.a),
        title(&c.b),
        points(c.metric, value),
        interval(c),
        verdict.name()
    );
    Some(Difference { name: title(&c.b), class: verdict.class(), value, ci95: c.ci95, words })
}

fn table(view: &View<'_>, metric: Score) -> Markup {
    let all = view.comparisons(metric, &view.measures());
    let Some(first) = all.first() else { return Markup::default() };
    let head = ["Methods", "Condition", "Difference", "95 % interval", "p", "Holm p", "Verdict"];
    let cells = |c: &Comparison| {
        vec![
            format!("{} − {}", c.a, c.b),
            c.condition.title(),
            c.difference.map_or("–".into(), |d| points(metric, d)),
            interval(c),
            p_value(c.p),
            p_value(c.p_holm),
            Verdict::of(c).name().to_owned(),
        ]
    };
    let sheet = Sheet {
        name: format!("comparisons-{metric}"),
        head: head.map(str::to_owned).to_vec(),
        rows: all.iter().map(|c| cells(c)).collect(),
    };
    html! {
        details {
            summary { "All comparisons: " (metric.title) }
            p class="reading" {
                "First method less second" @if metric.unit == Unit::Percent { ", in points" } ". Interval: "
                (first.draws) " draws of test groups and of " (first.seeds)
                " seeds, and p from the same draws; Holm’s correction covers every condition and method of this data set and metric. "
                @if metric.better == Better::Lower { "Less is better." } @else { "Of a ΔGap, less is better." }
            }
            (links(&sheet))
            div class="scroll" {
                table class="sortable" {
                    thead { tr { @for name in &sheet.head { th scope="col" { (name) } } } }
                    tbody {
                        @for (c, row) in all.iter().zip(&sheet.rows) {
                            tr class=(Verdict::of(c).class()) {
                                th scope="row" { (row[0]) }
                                @for cell in &row[1..] { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
