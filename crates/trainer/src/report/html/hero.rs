//! The picture at the top: the baseline and the row that does best, from Full to each impairment.

use maud::{Markup, html};

use crate::arms::title;
use crate::record::Measure;
use crate::report::svg::{Dot, dumbbell};
use crate::report::tables::{View, in_percent};
use crate::report::verdict::heroes;

/// One line per condition, a point with its interval for each of at most two rows.
pub(super) fn hero(view: &View<'_>) -> Markup {
    const CLASSES: [&str; 2] = ["base", "best"];
    let heroes = heroes(view);
    let dots = |measure: &Measure| {
        let dot = |(method, class): (&&str, &'static str)| {
            let row = view.row(method, measure)?;
            Some(Dot { class, name: title(method), value: row.mean?, ci95: row.ci95 })
        };
        let dots: Vec<Dot> = heroes.iter().zip(CLASSES).filter_map(dot).collect();
        (!dots.is_empty()).then(|| (measure.title(), dots))
    };
    let conditions = view.measures().into_iter().filter(|m| matches!(m, Measure::Of(_)));
    let rows: Vec<_> = conditions.filter_map(|m| dots(&m)).collect();
    let label = format!("{}{} under each condition", view.metric.title, in_percent(view.metric));
    html! {
        @if !rows.is_empty() {
            figure class="hero" {
                figcaption {
                    (view.metric.title) ": "
                    @for (i, (method, class)) in heroes.iter().zip(CLASSES).enumerate() {
                        @if i > 0 { " · " }
                        span class={ "key " (class) } { "● " (title(method)) }
                    }
                    ". Whiskers: 95 % interval."
                }
                (dumbbell(&label, view.metric, &rows))
            }
        }
    }
}
