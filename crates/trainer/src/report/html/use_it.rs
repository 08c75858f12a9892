//! What to type next: the model at the top of the page, put to use.

use maud::{Markup, html};

use crate::arms::title;
use crate::report::sections::Section;
use crate::report::tables::View;
use crate::report::verdict::heroes;

/// Commands for the recommended row's first run.
pub(super) fn use_it(section: &Section<'_>, view: &View<'_>) -> Option<Markup> {
    let name = *heroes(view).last()?;
    let run = section.arm(name)?.runs.first()?;
    let given: String = view.modalities.iter().map(|m| format!(" --{m} {}", example(m))).collect();
    Some(html! {
        h3 { "Use it" }
        p class="reading" { (title(name)) ", seed " (run.record.seed) ". Leave out what a sample lacks." }
        pre { "balgrad predict " (run.place()) (given) }
    })
}

fn example(modality: &str) -> &'static str {
    match modality {
        "image" => "photo.jpg",
        "text" => "\"some words\"",
        _ => "FILE",
    }
}
