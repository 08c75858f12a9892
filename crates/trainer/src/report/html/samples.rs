//! Some test samples, with and without a modality: what the numbers are made of. Chosen by a rule, not by hand.

use std::io::Cursor;

use balgrad_data::modalities::image::decode;
use balgrad_data::{Sample, Source};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{Markup, html};

use crate::arms::title;
use crate::config::Config;
use crate::metrics::{Task, argmax};
use crate::record::{Condition, Measure};
use crate::report::Run;
use crate::report::predictions::Predictions;
use crate::report::sections::Section;
use crate::report::tables::View;
use crate::report::verdict::heroes;
use crate::session::open_data;

/// Samples at either end of the order.
const EACH: usize = 3;
/// Edge of a picture, in pixels, and letters of a text.
const EDGE: u32 = 144;
const LETTERS: usize = 160;

/// One model's answers: by condition, then by sample.
struct Model {
    method: String,
    by_condition: Vec<(Condition, Predictions)>,
}

/// Samples at which the two rows at the top of the page differ most; nothing where the licence does not allow it, the data is
/// not there any more, or has changed.
pub(super) fn samples(section: &Section<'_>, view: &View<'_>) -> Option<Markup> {
    let record = &section.first().record;
    let dataset = &record.dataset;
    if !dataset.show_samples || !matches!(dataset.task, Task::MultiClass | Task::Binary) {
        return None;
    }
    let seed = section.first().record.seed;
    let run = |name: &&str| section.arm(name)?.runs.iter().find(|run| run.record.seed == seed).copied();
    let runs: Vec<&Run> = heroes(view).iter().filter_map(run).collect();
    let models: Vec<Model> = runs.iter().map(|run| answers(run, view)).collect::<Option<_>>()?;
    let (first, last) = (models.first()?, models.last()?);
    // Without which modality: the one that the first row misses most.
    let missing = crate::report::verdict::missed(view)?;
    let of = |a: &'_ Model, c: &Condition| a.by_condition.iter().position(|x| x.0 == *c);
    let lost = Condition::missing(missing);
    let (before, after) = if models.len() > 1 {
        (&first.by_condition[of(first, &lost)?].1, &last.by_condition[of(last, &lost)?].1)
    } else {
        (&first.by_condition[0].1, &first.by_condition[of(first, &lost)?].1)
    };
    let truth = |p: &Predictions, i: usize| p.rows[i].get(*p.labels[i].first()? as usize).copied();
    let gain = |i: usize| Some(truth(after, i)? - truth(before, i)?);
    if before.ids != after.ids {
        return None;
    }
    let mut order: Vec<(usize, f32)> = (0..before.ids.len()).filter_map(|i| Some((i, gain(i)?))).collect();
    order.sort_by(|x, y| y.1.total_cmp(&x.1));
    let end = order.len().saturating_sub(EACH).max(EACH.min(order.len()));
    let chosen: Vec<usize> = order.iter().take(EACH).chain(&order[end..]).map(|x| x.0).collect();
    let data = shown(runs.first()?, &dataset.fingerprint)?;
    let found: Vec<(usize, &Sample)> =
        chosen.iter().filter_map(|&i| Some((i, data.iter().find(|s| s.id == before.ids[i])?))).collect();
    let rule = if models.len() > 1 {
        format!(
            "The test samples of seed {seed} whose true class {} finds most more likely than {} does without the {missing}, \
             and those where it is the other way round",
            title(&last.method),
            title(&first.method)
        )
    } else {
        format!(
            "The test samples of seed {seed} whose true class gains most, and loses most, when the {missing} goes missing"
        )
    };
    Some(html! {
        h3 { "On real samples" }
        p class="reading" { (rule) ": chosen by that rule alone. Wrong answers are crossed out." }
        div class="samples" {
            @for (i, sample) in found { (card(i, sample, &models, &dataset.classes)) }
        }
    })
}

fn answers(run: &Run, view: &View<'_>) -> Option<Model> {
    let missing = view.modalities.iter().map(|m| Condition::missing(m));
    let read = |c: Condition| Some((c.clone(), Predictions::read(&run.path, &c, &run.record.dataset.classes).ok()?));
    let by_condition = std::iter::once(Condition::Full).chain(missing).map(read).collect::<Option<Vec<_>>>()?;
    let (ids, classes) = (&by_condition[0].1.ids, run.record.dataset.classes.len());
    let fits =
        |p: &Predictions| p.ids == *ids && p.rows.iter().all(|r| r.len() == classes) && p.labels.len() == ids.len();
    by_condition.iter().all(|(_, p)| fits(p)).then(|| Model { method: run.record.label().to_owned(), by_condition })
}

/// The samples of the data set that a run was trained on, if it is there and the same.
fn shown(run: &Run, fingerprint: &str) -> Option<Vec<Sample>> {
    let config = Config::load(&[run.path.join("config.toml")], &[]).ok()?;
    // Nothing is downloaded for a report.
    let data = (!config.data.source.starts_with("hf:")).then(|| open_data(&config).ok())??;
    (data.fingerprint() == fingerprint).then_some(data.samples)
}

/// One sample, and what each model says of it under each condition.
fn card(i: usize, sample: &Sample, models: &[Model], classes: &[String]) -> Markup {
    let sources: Vec<&Source> = sample.parts.iter().flatten().collect();
    let text = sources.iter().find_map(|s| s.text());
    let picture = sources.iter().filter(|s| s.text().is_none()).find_map(|s| picture(s));
    let says = |p: &Predictions| {
        let answer = argmax(&p.rows[i]).unwrap_or(0);
        let right = p.labels[i].first().is_some_and(|t| *t as usize == answer);
        (classes[answer].clone(), format!("{:.0} %", 100.0 * p.rows[i][answer]), right)
    };
    let truth = models[0].by_condition[0].1.labels[i].first().map_or("", |t| classes[*t as usize].as_str());
    html! {
        figure class="sample" {
            @if let Some(picture) = picture { img src=(picture) alt="" width=(EDGE / 2) height=(EDGE / 2); }
            @if let Some(text) = text {
                blockquote { (text.chars().take(LETTERS).collect::<String>()) @if text.chars().count() > LETTERS { "…" } }
            }
            p { "Truth: " b { (truth) } }
            table {
                thead {
                    tr { th {} @for model in models { th scope="col" class="wrap" { (title(&model.method)) } } }
                }
                tbody {
                    @for (c, (condition, _)) in models[0].by_condition.iter().enumerate() {
                        tr {
                            th scope="row" { (Measure::Of(condition.clone()).title()) }
                            @for (class, sure, right) in models.iter().map(|m| says(&m.by_condition[c].1)) {
                                td class="left" { @if right { (class) } @else { s { (class) } } small { " " (sure) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// An image as part of the page, whole, in a square.
fn picture(source: &Source) -> Option<String> {
    let image = decode(source).ok()?;
    let longest = image.width().max(image.height()).max(1);
    let edge = |side: u32| (EDGE * side / longest).max(1);
    let image = image::imageops::thumbnail(&image, edge(image.width()), edge(image.height()));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).ok()?;
    Some(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes.into_inner())))
}
