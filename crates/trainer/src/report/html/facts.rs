//! Where the numbers of a data set come from: data, settings, versions.

use std::collections::BTreeSet;

use balgrad_data::Split;
use maud::{Markup, html};

use crate::report::Run;
use crate::report::sections::{Section, show};

/// Data, encoders, seeds and versions.
pub(super) fn provenance(section: &Section<'_>) -> Markup {
    let r = &section.first().record;
    let samples = |split| r.dataset.samples.get(&split).map_or("?".into(), u64::to_string);
    let seeds: Vec<String> = section.seeds().iter().map(u64::to_string).collect();
    let runs = || section.arms.iter().flat_map(|a| &a.runs);
    let seconds: f64 = runs().map(|r| r.record.wall_seconds).sum();
    let left_out = if r.dataset.skipped > 0 { format!(", {} left out", r.dataset.skipped) } else { String::new() };
    let encoders = r.encoders.iter().map(|(m, e)| format!("{m}: {e}")).collect::<Vec<_>>().join(" · ");
    let noise = r.impairments.iter().map(|(c, n)| format!("{c}: kind {}, severity {}", n.kind, n.severity));
    let facts = [
        (
            "Data",
            format!(
                "{} ({:?}, {} classes, layout {})",
                r.dataset.name,
                r.dataset.task,
                r.dataset.classes.len(),
                r.dataset.layout
            ),
        ),
        (
            "Samples",
            format!(
                "{} train · {} validation · {} test{left_out}",
                samples(Split::Train),
                samples(Split::Val),
                samples(Split::Test)
            ),
        ),
        ("Fingerprint", r.dataset.fingerprint.clone()),
        ("Encoders", encoders),
        ("Fusion", r.fusion.clone()),
        ("Impairments", noise.collect::<Vec<_>>().join(" · ")),
        ("Headline metric", section.metric().title.to_owned()),
        ("Seeds", seeds.join(", ")),
        (
            "Made with",
            format!(
                "balgrad {} (revision {})",
                distinct(section, |r| &r.record.version),
                distinct(section, |r| &r.record.revision)
            ),
        ),
        ("Device", distinct(section, |r| &r.record.device)),
        ("Time", format!("{seconds:.0} s for {} runs", runs().count())),
    ];
    html! {
        dl {
            @for (name, fact) in facts.iter().filter(|f| !f.1.is_empty()) {
                dt { (name) }
                dd { (fact) }
            }
        }
    }
}

fn distinct<'r>(section: &Section<'r>, of: impl Fn(&'r Run) -> &'r String) -> String {
    let all: BTreeSet<&str> = section.arms.iter().flat_map(|a| &a.runs).map(|r| of(r).as_str()).collect();
    all.into_iter().map(|v| if v.is_empty() { "not stated" } else { v }).collect::<Vec<_>>().join(", ")
}

/// Each method's settings and times, and one resolved configuration in full.
pub(super) fn settings(section: &Section<'_>) -> Markup {
    let run = section.arm("balgrad").map_or(section.first(), |arm| arm.runs[0]);
    html! {
        details {
            summary { "Settings and runs" }
            div class="scroll" {
                table {
                    thead {
                        tr {
                            th { "Method" }
                            th { "Seeds" }
                            th { "Best epoch" }
                            th { "Seconds" }
                            th { "Settings that differ from the defaults" }
                        }
                    }
                    tbody {
                        @for arm in &section.arms {
                            tr {
                                th scope="row" { (arm.label) }
                                td { (arm.list(|r| r.record.seed.to_string())) }
                                td { (arm.list(|r| r.record.best_epoch.to_string())) }
                                td { (arm.list(|r| format!("{:.1}", r.record.wall_seconds))) }
                                td class="left" { (differing(arm.runs[0])) }
                            }
                        }
                    }
                }
            }
            @if !run.config.is_empty() {
                p class="reading" { (run.place()) "/config.toml" }
                pre { (run.config) }
            }
        }
    }
}

fn differing(run: &Run) -> String {
    let settings = run.record.settings.iter().map(|(k, v)| format!("{k} = {}", show(Some(v))));
    settings.collect::<Vec<_>>().join(", ")
}
