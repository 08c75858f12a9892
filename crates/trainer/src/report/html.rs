//! One page that needs nothing but itself: no script, no font, no picture from elsewhere.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::charts::charts;
use super::paper::{self, TABLE_1, TABLE_2};
use super::ranking::{contributions, ranking};
use super::sections::{Section, sections, show};
use super::summary::CONDITIONS;
use super::svg::escape;
use super::tables::{COMPARED, View, condition_name, interval, metric_name, p_value, points, verdict, views};
use super::{Collected, Comparison, Row, Run, Summary};

const STYLE: &str = include_str!("page.css");

/// The report as one HTML page. It shows no samples, whatever the data set allows.
pub fn html(collected: &Collected, summary: &Summary) -> String {
    let (sections, _) = sections(collected);
    let views = views(summary);
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">";
    out += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">";
    let _ = write!(out, "<title>BalGrad report</title><style>{STYLE}</style></head><body><main>");
    head(&mut out, summary, &views);
    for (number, section) in sections.iter().enumerate() {
        let Some(view) = views.iter().find(|v| v.dataset == section.name) else { continue };
        let _ = write!(out, "<h2 id=\"d{number}\">{}</h2>", escape(&section.name));
        provenance(&mut out, section);
        findings(&mut out, view);
        tables(&mut out, section, view);
        ranking(&mut out, section, view);
        contributions(&mut out, section);
        out += &charts(section);
        comparisons(&mut out, view);
        settings(&mut out, section);
    }
    foot(&mut out, summary);
    out + "</main></body></html>\n"
}

fn head(out: &mut String, summary: &Summary, views: &[View<'_>]) {
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let _ = write!(
        out,
        "<header><h1>Do both modalities pull their weight?</h1><p class=\"lead\">{} on {}: what image-text classifiers keep when \
         image or text is missing or noisy.</p><nav>",
        plural(summary.runs.len(), "run"),
        plural(views.len(), "data set"),
    );
    for (number, view) in views.iter().enumerate() {
        let _ = write!(out, "<a href=\"#d{number}\">{}</a>", escape(view.dataset));
    }
    out.push_str(
        "</nav></header><h3>How to read this page</h3>\
         <p>Every model was trained once on clean pairs and tested five times: with both modalities (<b>Full</b>), with the image or \
         the text taken away (<b>Missing</b>), and with one of them corrupted (<b>Noisy</b>). \u{201c}Missing image\u{201d} means that only the \
         text was left. <b>Avg</b> is the mean of the two impaired scores: more is better. <b>ΔGap</b> is their distance: less is \
         better, but only beside a good Avg, for a model that is equally poor without either is balanced too.</p>\
         <p>Numbers are percent, mean ± standard deviation over seeds. An asterisk marks <i>negative transfer</i>: an impaired input \
         that scored above the clean one, so that the impaired modality may have been doing harm.</p>\
         <p>A difference counts as <b>resolved</b> when its 95 % interval leaves 0 out. The interval says what another draw of test \
         samples could change (bootstrap over groups of related samples, the same draws for both methods); the p-value beside it says \
         what other seeds could change (paired t, corrected by Holm for the number of comparisons). With few seeds the p-value \
         has little power: where the two disagree, trust neither alone.</p>",
    );
}

fn distinct<'r>(section: &Section<'r>, of: impl Fn(&'r Run) -> String) -> String {
    let all: BTreeSet<String> = section.arms.iter().flat_map(|a| &a.runs).map(|r| of(r)).collect();
    let all: Vec<String> = all.into_iter().map(|v| if v.is_empty() { "not stated".into() } else { v }).collect();
    all.join(", ")
}

fn provenance(out: &mut String, section: &Section<'_>) {
    let r = &section.first().results;
    let samples = |split: &str| r.dataset.samples.get(split).map_or("?".into(), u64::to_string);
    let seeds: Vec<String> = section.seeds().iter().map(u64::to_string).collect();
    let seconds: f64 = section.arms.iter().flat_map(|a| &a.runs).filter_map(|r| r.results.wall_seconds).sum();
    let count: usize = section.arms.iter().map(|a| a.runs.len()).sum();
    let left_out = if r.dataset.skipped > 0 { format!(", {} left out", r.dataset.skipped) } else { String::new() };
    let encoders = r.encoders.iter().map(|(m, e)| format!("{m}: {e}")).collect::<Vec<_>>().join(" · ");
    let noise: Vec<String> = r
        .impairments
        .as_object()
        .into_iter()
        .flatten()
        .map(|(condition, how)| {
            let how = how
                .as_object()
                .into_iter()
                .flatten()
                .map(|(k, v)| format!("{k} {}", show(Some(v))))
                .collect::<Vec<_>>();
            format!("{condition}: {}", how.join(", "))
        })
        .collect();
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
            format!("{} train · {} validation · {} test{left_out}", samples("train"), samples("val"), samples("test")),
        ),
        ("Fingerprint", r.dataset.fingerprint.clone()),
        ("Encoders", encoders),
        ("Fusion", r.fusion.clone()),
        ("Impairments", noise.join(" · ")),
        ("Headline metric", metric_name(section.metric()).to_owned()),
        ("Seeds", seeds.join(", ")),
        (
            "Made with",
            format!(
                "balgrad {} (revision {})",
                distinct(section, |r| r.results.version.clone()),
                distinct(section, |r| r.results.revision.clone())
            ),
        ),
        ("Device", distinct(section, |r| r.results.device.clone())),
        ("Time", format!("{seconds:.0} s for {count} runs")),
    ];
    out.push_str("<dl>");
    for (name, fact) in facts.iter().filter(|f| !f.1.is_empty()) {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(fact));
    }
    out.push_str("</dl>");
}

fn verdict_class(c: &Comparison) -> &'static str {
    match verdict(c) {
        "better" => "better",
        "worse" => "worse",
        _ => "unclear",
    }
}

/// Who has the highest mean in a score, and where BalGrad stands to every other method.
fn standing(view: &View<'_>, condition: &str) -> Option<String> {
    let scored = view.methods.iter().filter_map(|m| Some((*m, view.row(m, condition, view.metric)?.mean?)));
    let (best, score) = scored.max_by(|x, y| x.1.total_cmp(&y.1))?;
    let comparisons = view.comparisons(view.metric, &[condition]);
    let against = |wanted: &str| -> String {
        let found = comparisons.iter().filter(|c| c.a == "balgrad" && verdict(c) == wanted);
        found.map(|c| c.b.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut parts =
        vec![format!("{}: the highest mean is that of {best} ({:.2})", condition_name(condition), 100.0 * score)];
    for (wanted, words) in [
        ("better", "balgrad beats"),
        ("worse", "balgrad loses to"),
        ("not resolved", "balgrad is not told apart from"),
        ("no interval", "balgrad has no interval, only a p over seeds, against"),
    ] {
        let names = against(wanted);
        if !names.is_empty() {
            parts.push(format!("{words} {names}"));
        }
    }
    Some(parts.join("; ") + ".")
}

/// The headline comparisons in words, favourable or not.
fn findings(out: &mut String, view: &View<'_>) {
    let wanted = |c: &&Comparison| matches!(c.b.as_str(), "joint" | "neither" | "joint+dropout");
    let found: Vec<&Comparison> =
        view.comparisons(view.metric, &["full", "missing-avg", "noisy-avg"]).into_iter().filter(wanted).collect();
    if found.is_empty() {
        return;
    }
    out.push_str("<h3>In short</h3>");
    for sentence in ["full", "missing-avg", "noisy-avg"].iter().filter_map(|condition| standing(view, condition)) {
        let _ = write!(out, "<p>{}</p>", escape(&sentence));
    }
    out.push_str("<ul class=\"findings\">");
    for pair in found.chunk_by(|x, y| x.a == y.a && x.b == y.b) {
        let classes: Vec<&str> = pair.iter().map(|c| verdict_class(c)).collect();
        let class = match (classes.contains(&"better"), classes.contains(&"worse")) {
            (true, false) => "better",
            (false, true) => "worse",
            _ => "unclear",
        };
        let part = |c: &Comparison| {
            let difference = c.difference.map_or("–".into(), points);
            format!("{} {difference} {}, {}", condition_name(&c.condition), interval(c), verdict(c))
        };
        let parts: Vec<String> = pair.iter().map(|c| part(c)).collect();
        let (a, b) = (&pair[0].a, &pair[0].b);
        let _ = write!(
            out,
            "<li class=\"{class}\"><b>{}</b> against {}: {}</li>",
            escape(a),
            escape(b),
            escape(&parts.join(" · "))
        );
    }
    out.push_str("</ul>");
}

fn tables(out: &mut String, section: &Section<'_>, view: &View<'_>) {
    let data = &section.first().results.dataset;
    out.push_str("<h3>Table 1: all methods</h3>");
    grid(out, view, &view.methods, &CONDITIONS, paper::find(&TABLE_1, &data.name, &data.layout));
    let ablation = view.ablation();
    if !ablation.is_empty() {
        out.push_str(
            "<h3>Table 2: what each part of BalGrad does</h3><p class=\"reading\">Joint is the paper\u{2019}s baseline. \u{201c}Neither\u{201d} has \
             the own losses and the KL term, but no reweighting and no projection: it is what the two parts start from.</p>",
        );
        grid(out, view, &ablation, &CONDITIONS[..5], paper::find(&TABLE_2, &data.name, &data.layout));
    }
}

fn score_cell(row: Option<&Row>, best: bool) -> String {
    let Some((row, mean)) = row.and_then(|r| Some((r, r.mean?))) else { return "<td>–</td>".into() };
    let score = format!("{:.2}{}", 100.0 * mean, if row.negative_transfer { "*" } else { "" });
    let score = if best { format!("<b>{score}</b>") } else { score };
    let deviation = row.std.map_or(String::new(), |s| format!("<small>±{:.2}</small>", 100.0 * s));
    let title = row.ci95.map_or(String::new(), |[l, h]| {
        format!(" title=\"95 % over test groups: {:.2} to {:.2}\"", 100.0 * l, 100.0 * h)
    });
    format!("<td{title}>{score}{deviation}</td>")
}

/// Methods in one table: more would not fit a page.
const ACROSS: usize = 8;

/// Conditions down, methods across, in as many tables as it takes; beside them the paper's columns where it has the same
/// data set.
fn grid(out: &mut String, view: &View<'_>, methods: &[&str], conditions: &[&str], theirs: Option<&paper::Table>) {
    // Tables of about one width.
    let across = methods.len().div_ceil(methods.len().div_ceil(ACROSS).max(1)).max(1);
    let mut left = methods;
    while !left.is_empty() {
        let (block, rest) = left.split_at(across.min(left.len()));
        part(out, view, block, methods, conditions, theirs.filter(|_| rest.is_empty()));
        left = rest;
    }
    if let Some(table) = theirs {
        let _ = write!(
            out,
            "<p class=\"reading\">Columns in italics are the paper\u{2019}s own numbers for {} (Kwon et al., NAACL 2025), with its \
             encoders and splits: not measured here.</p>",
            table.title
        );
    }
}

/// Some of the methods of a table; the best of all of them is set in bold.
fn part(
    out: &mut String,
    view: &View<'_>,
    block: &[&str],
    methods: &[&str],
    conditions: &[&str],
    theirs: Option<&paper::Table>,
) {
    out.push_str("<div class=\"scroll\"><table><thead><tr><th scope=\"col\"></th>");
    for method in block {
        let class = if method.starts_with("balgrad") { " class=\"ours\"" } else { "" };
        let _ = write!(out, "<th scope=\"col\"{class}>{}</th>", escape(method));
    }
    for (method, _) in theirs.map_or(&[][..], |t| t.columns) {
        let _ = write!(out, "<th scope=\"col\" class=\"theirs\">paper:<br>{method}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for condition in conditions {
        let class = if matches!(*condition, "missing-image" | "noisy-image") { " class=\"rule\"" } else { "" };
        let _ = write!(out, "<tr{class}><th scope=\"row\">{}</th>", condition_name(condition));
        let row = |method: &&str| view.row(method, condition, view.metric);
        let scores = methods.iter().filter_map(row).filter_map(|r| r.mean);
        let best =
            if condition.ends_with("-gap") { scores.fold(f64::MAX, f64::min) } else { scores.fold(f64::MIN, f64::max) };
        for row in block.iter().map(row) {
            out.push_str(&score_cell(row, row.and_then(|r| r.mean) == Some(best) && methods.len() > 1));
        }
        for (method, _) in theirs.map_or(&[][..], |t| t.columns) {
            let score =
                theirs.and_then(|t| paper::score(t, method, condition)).map_or("–".into(), |s| format!("{s:.2}"));
            let _ = write!(out, "<td class=\"theirs\">{score}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
}

fn comparisons(out: &mut String, view: &View<'_>) {
    for metric in view.compared_metrics() {
        let table = |out: &mut String, conditions: &[&str]| {
            out.push_str(
                "<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Methods</th><th>Condition</th><th>Difference</th>\
                 <th>95 % interval</th><th>p</th><th>Holm p</th><th>Verdict</th></tr></thead><tbody>",
            );
            for c in view.comparisons(metric, conditions) {
                let _ = write!(
                    out,
                    "<tr class=\"{}\"><th scope=\"row\">{} − {}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                    verdict_class(c),
                    escape(&c.a),
                    escape(&c.b),
                    condition_name(&c.condition),
                    c.difference.map_or("–".into(), points),
                    interval(c),
                    escape(&p_value(c.p)),
                    escape(&p_value(c.p_holm)),
                    verdict(c)
                );
            }
            out.push_str("</tbody></table></div>");
        };
        let Some(first) = view.comparisons(metric, &CONDITIONS).first().copied() else { continue };
        let _ = write!(
            out,
            "<h3>Comparisons with BalGrad: {}</h3><p class=\"reading\">First method less second, in points. Interval: {} draws of test \
             groups. p: paired t over {} seeds; Holm\u{2019}s correction covers every condition and method of this data set and metric. \
             Of a ΔGap, less is better.</p>",
            metric_name(metric),
            first.draws,
            first.seeds
        );
        table(out, &COMPARED);
        let rest: Vec<&str> = CONDITIONS.into_iter().filter(|c| !COMPARED.contains(c)).collect();
        out.push_str("<details><summary>Each impaired condition by itself</summary>");
        table(out, &rest);
        out.push_str("</details>");
    }
}

/// Each method's settings and times, and one resolved configuration in full.
fn settings(out: &mut String, section: &Section<'_>) {
    out.push_str(
        "<details><summary>Settings and runs</summary><div class=\"scroll\"><table><thead><tr><th>Method</th><th>Seeds</th>\
         <th>Best epoch</th><th>Seconds</th><th>Settings that differ from the defaults</th></tr></thead><tbody>",
    );
    for arm in &section.arms {
        let list = |of: &dyn Fn(&Run) -> String| arm.runs.iter().map(|r| of(r)).collect::<Vec<_>>().join(", ");
        let differing = &arm.runs[0].results.settings;
        let differing: Vec<String> = differing.iter().map(|(k, v)| format!("{k} = {}", show(Some(v)))).collect();
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"left\">{}</td></tr>",
            escape(&arm.label),
            list(&|r| r.results.seed.to_string()),
            list(&|r| r.results.best_epoch.map_or("–".into(), |e| e.to_string())),
            list(&|r| r.results.wall_seconds.map_or("–".into(), |s| format!("{s:.1}"))),
            escape(&differing.join(", "))
        );
    }
    out.push_str("</tbody></table></div>");
    let run = section.arm("balgrad").map_or(section.first(), |arm| arm.runs[0]);
    if !run.config.is_empty() {
        let _ = write!(
            out,
            "<p class=\"reading\">{}</p><pre>{}</pre>",
            escape(&run.path.join("config.toml").display().to_string()),
            escape(&run.config)
        );
    }
    out.push_str("</details>");
}

fn foot(out: &mut String, summary: &Summary) {
    let list = |out: &mut String, title: &str, items: Vec<String>| {
        if !items.is_empty() {
            let _ = write!(out, "<h3>{title}</h3><ul class=\"quiet\">");
            items.iter().for_each(|i| {
                let _ = write!(out, "<li>{}</li>", escape(i));
            });
            out.push_str("</ul>");
        }
    };
    list(out, "Left out", summary.skipped.iter().map(|s| format!("{}: {}", s.path, s.reason)).collect());
    list(out, "Notes", summary.notes.clone());
    out.push_str(
        "<footer><p>Every score can be computed again from <code>predictions/*.jsonl</code> of its run; the same numbers stand in \
         <code>summary.json</code>.</p></footer>",
    );
}
