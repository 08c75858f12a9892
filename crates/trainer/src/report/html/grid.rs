//! Tables 1 and 2: conditions down, methods across.

use maud::{Markup, html};

use super::download::{Sheet, links};
use crate::record::{Condition, Measure};
use crate::report::Row;
use crate::report::paper::{self, TABLE_1, TABLE_2};
use crate::report::sections::Section;
use crate::report::tables::{View, deviation};

/// Both tables, the paper's own numbers beside ours where it has the same data set.
pub(super) fn tables(section: &Section<'_>, view: &View<'_>) -> Markup {
    let data = &section.first().record.dataset;
    let ablation = view.ablation();
    html! {
        h3 { "Table 1: all methods" }
        (links(&sheet(view)))
        (grid(view, &view.methods, &view.measures(), paper::find(&TABLE_1, &data.name, &data.layout)))
        @if !ablation.is_empty() {
            h3 { "Table 2: what each part of BalGrad does" }
            p class="reading" {
                "Joint is the paper’s baseline. “Neither” has the own losses and the KL term, but no reweighting and no \
                 projection: it is what the two parts start from."
            }
            (grid(view, &ablation, &view.ablated(), paper::find(&TABLE_2, &data.name, &data.layout)))
        }
    }
}

/// Table 1 for a file: methods down, conditions across.
pub(in crate::report) fn sheet(view: &View<'_>) -> Sheet {
    let measures = view.measures();
    let cell = |method: &str, measure: &Measure| {
        let row = view.row(method, measure).and_then(|row| Some((row, row.mean?)));
        row.map_or("–".to_owned(), |(row, mean)| row.metric.text(mean, 2) + &deviation(row, mean))
    };
    let row =
        |method: &&str| std::iter::once((*method).to_owned()).chain(measures.iter().map(|m| cell(method, m))).collect();
    Sheet {
        name: view.dataset.to_owned(),
        head: std::iter::once("Method".to_owned()).chain(measures.iter().map(Measure::title)).collect(),
        rows: view.methods.iter().map(row).collect(),
    }
}

/// Methods in one table: more would not fit a page.
const ACROSS: usize = 8;

/// Conditions down, methods across, in as many tables as it takes; beside them the paper's columns where it has the same
/// data set.
fn grid(view: &View<'_>, methods: &[&str], measures: &[Measure], theirs: Option<&paper::Table>) -> Markup {
    // Tables of about one width.
    let across = methods.len().div_ceil(methods.len().div_ceil(ACROSS).max(1)).max(1);
    let blocks: Vec<&[&str]> = methods.chunks(across).collect();
    html! {
        @for (i, block) in blocks.iter().enumerate() {
            (part(view, block, methods, measures, theirs.filter(|_| i + 1 == blocks.len())))
        }
        @if let Some(table) = theirs {
            p class="reading" {
                "Columns in italics are the paper’s own numbers for " (table.title)
                " (Kwon et al., NAACL 2025), with its encoders and splits: not measured here."
            }
        }
    }
}

/// Some of the methods of a table; the best of all of them is set in bold.
fn part(
    view: &View<'_>,
    block: &[&str],
    methods: &[&str],
    measures: &[Measure],
    theirs: Option<&paper::Table>,
) -> Markup {
    let columns = theirs.map_or(&[][..], |t| t.columns);
    let best = |measure: &Measure| {
        let scores = methods.iter().filter_map(|m| view.row(m, measure)?.mean);
        let order = |a: &f64, b: &f64| if measure.is_gap() { a.total_cmp(b) } else { view.metric.order(*a, *b) };
        scores.min_by(order).filter(|_| methods.len() > 1)
    };
    let theirs = |method: &str, measure: &Measure| {
        theirs.and_then(|t| paper::score(t, method, measure)).map_or("–".into(), |s| format!("{s:.2}"))
    };
    // A line stands above the first row of each impairment.
    let first = |measure: &Measure| match measure {
        Measure::Of(condition @ (Condition::Missing(_) | Condition::Noisy { .. })) => {
            condition.modality() == view.modalities.first().copied()
        }
        _ => false,
    };
    html! {
        div class="scroll" {
            table {
                thead {
                    tr {
                        th scope="col" {}
                        @for method in block {
                            th scope="col" class=[method.starts_with("balgrad").then_some("ours")] { (method) }
                        }
                        @for (method, _) in columns { th scope="col" class="theirs" { "paper:" br; (method) } }
                    }
                }
                tbody {
                    @for measure in measures {
                        tr class=[first(measure).then_some("rule")] {
                            th scope="row" { (measure.title()) }
                            @for row in block.iter().map(|method| view.row(method, measure)) {
                                (score_cell(row, row.and_then(|r| r.mean).is_some_and(|m| best(measure) == Some(m))))
                            }
                            @for (method, _) in columns { td class="theirs" { (theirs(method, measure)) } }
                        }
                    }
                }
            }
        }
    }
}

fn score_cell(row: Option<&Row>, best: bool) -> Markup {
    let Some((row, mean)) = row.and_then(|r| Some((r, r.mean?))) else { return html! { td { "–" } } };
    let text = |value: f64| row.metric.text(value, 2);
    let score = format!("{}{}", text(mean), if row.negative_transfer { "*" } else { "" });
    let deviation = deviation(row, mean);
    let title = row.ci95.map(|[low, high]| format!("95 % over test groups: {} to {}", text(low), text(high)));
    html! {
        td title=[title] {
            @if best { b { (score) } } @else { (score) }
            @if !deviation.is_empty() { small { (deviation) } }
        }
    }
}
