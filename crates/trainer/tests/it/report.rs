//! A report of made-up runs: numbers, tables, and a page that is safe and self-contained.

use std::fs;
use std::path::Path;

use crate::synthetic::{self, Data, METHODS};
use balgrad_trainer::metrics::Task;
use balgrad_trainer::record::{Impairment, Measure, RunRecord};
use balgrad_trainer::report::{self, Summary};
use balgrad_trainer::statistics::Grade;
use serde_json::{Value, json};

fn change(run: &Path, change: impl FnOnce(&mut Value)) {
    let path = run.join("results.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn is(measure: &Measure, name: &str) -> bool {
    measure.to_string() == name
}

fn of(root: &Path) -> (report::Collected, Summary) {
    let collected = report::collect(&[root.to_owned()]).unwrap();
    let summary = report::summary(&collected);
    (collected, summary)
}

#[test]
fn the_whole_report_is_golden_and_repeats() {
    let root = tempfile::tempdir().unwrap();
    synthetic::write(root.path(), &Data::emoji(), &METHODS);
    let (collected, summary) = of(root.path());
    let tables = report::tables(&summary);
    let page = report::html(&collected, &summary);
    if let Some(folder) = option_env!("CARGO_TARGET_TMPDIR") {
        fs::write(Path::new(folder).join("tables.txt"), &tables).unwrap(); // to look at, and to renew the golden file from
        fs::write(Path::new(folder).join("report.html"), &page).unwrap();
    }
    assert_eq!(tables, include_str!("../fixtures/tables.txt"), "the tables differ from tests/fixtures/tables.txt");
    assert_eq!(summary.notes, Vec::<String>::new());
    let (_, again) = of(root.path());
    assert_eq!(serde_json::to_string(&summary).unwrap(), serde_json::to_string(&again).unwrap());
    for part in [
        "What is left when a modality fails",
        "As more samples lose",
        "Who learns when",
        "Do the gradients agree",
        "Losses with and without",
        "What it costs",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("paper:<br>"), "the paper has no emoji");
    assert!(!page.contains("NaN") && !page.contains("inf "));
    assert!(!page.contains(root.path().to_str().unwrap()), "no path of this machine");
}

#[test]
fn summary_json_has_the_promised_shape_and_the_runs_numbers() {
    let root = tempfile::tempdir().unwrap();
    let runs = synthetic::write(root.path(), &Data::emoji(), &["joint", "neither", "balgrad"]);
    let (_, summary) = of(root.path());
    let value = serde_json::to_value(&summary).unwrap();
    assert_eq!(value["schema"], 2);
    assert_eq!(value["runs"].as_array().unwrap().len(), 9);
    for key in ["dataset", "method", "condition", "metric", "mean", "std", "seeds", "ci95"] {
        assert!(value["rows"][0].get(key).is_some(), "rows: {key}");
    }
    for key in ["a", "b", "metric", "condition", "difference", "p", "p_holm", "ci95"] {
        assert!(value["comparisons"][0].get(key).is_some(), "comparisons: {key}");
    }
    let gaps: Vec<f64> = runs[6..].iter().map(|r| RunRecord::read(r).unwrap().missing.gap.unwrap()).collect();
    let row = summary
        .rows
        .iter()
        .find(|r| r.method == "balgrad" && is(&r.condition, "missing-gap") && r.metric.name == "accuracy")
        .unwrap();
    assert!((row.mean.unwrap() - gaps.iter().sum::<f64>() / 3.0).abs() < 1e-12);
    let row = summary
        .rows
        .iter()
        .find(|r| r.method == "balgrad" && is(&r.condition, "full") && r.metric.name == "accuracy")
        .unwrap();
    let [low, high] = row.ci95.unwrap();
    assert!(low < row.mean.unwrap() && row.mean.unwrap() < high);
    assert_eq!(summary.comparisons.len(), 2 * 9, "two others, nine conditions");
    for c in &summary.comparisons {
        let ([low, high], difference) = (c.ci95.unwrap(), c.difference.unwrap());
        assert_eq!(c.draws, 10_000);
        assert!(low <= high && c.p_holm.unwrap() >= c.p.unwrap());
        assert_eq!(c.grade, Some(Grade::of([low, high], c.p_holm)));
        assert!((low - 0.05..=high + 0.05).contains(&difference), "{c:?}");
    }
    let tables = report::tables(&summary);
    assert!(tables.contains("not significant"), "with 90 samples not everything is clear");
}

#[test]
fn a_loss_is_shown_as_a_loss() {
    let root = tempfile::tempdir().unwrap();
    // The generator makes later methods stronger: under these labels BalGrad is the weakest.
    synthetic::write(root.path(), &Data { samples: 600, seeds: 8, ..Data::emoji() }, &["joint", "balgrad+dropout"]);
    for seed in 0..8 {
        let run = |m: &str| root.path().join(format!("emoji/{m}/seed-{seed}"));
        change(&run("joint"), |r| r["label"] = json!("balgrad"));
        change(&run("balgrad+dropout"), |r| r["label"] = json!("joint"));
    }
    let (collected, summary) = of(root.path());
    let missing = summary.comparisons.iter().find(|c| c.b == "joint" && is(&c.condition, "missing-avg")).unwrap();
    assert!(missing.grade == Some(Grade::Clear) && missing.difference.unwrap() < 0.0, "{missing:?}");
    let line =
        report::tables(&summary).lines().find(|l| l.contains("Missing avg") && l.contains('[')).unwrap().to_owned();
    assert!(line.ends_with("worse (clear)"), "{line}");
    let sentence = &report::verdicts(&summary)[0].1;
    assert!(sentence.starts_with("Without the ") && sentence.contains("; BalGrad keeps "), "{sentence}");
    let page = report::html(&collected, &summary);
    assert!(page.contains(sentence.as_str()) && report::tables(&summary).contains(sentence.as_str()));
    assert!(page.contains("<li class=\"worse\"><b>balgrad</b> against joint"));
    assert!(
        page.contains("<p>Missing avg: the highest mean is that of joint (")
            && page.contains("; balgrad loses to joint.</p>")
    );
}

#[test]
fn one_run_without_predictions_costs_its_own_intervals_alone() {
    let root = tempfile::tempdir().unwrap();
    let runs = synthetic::write(root.path(), &Data::emoji(), &["joint", "neither", "balgrad"]);
    fs::remove_dir_all(runs[0].join("predictions")).unwrap(); // joint, the first seed of the first row
    let (collected, summary) = of(root.path());
    for c in &summary.comparisons {
        assert_eq!(c.ci95.is_some(), c.b == "neither", "{c:?}");
        assert_eq!((c.p.is_some(), c.grade.is_some()), (c.b == "neither", c.b == "neither"), "{c:?}");
    }
    assert!(report::html(&collected, &summary).contains("there is no interval against joint"));
}

#[test]
fn names_from_files_cannot_steer_the_terminal() {
    let root = tempfile::tempdir().unwrap();
    let runs = synthetic::write(root.path(), &Data::emoji(), &["joint"]);
    for run in &runs {
        change(run, |r| {
            r["dataset"]["name"] = json!("a\u{1b}[2Jb");
            r["label"] = json!("c\u{9b}31m");
        });
    }
    let tables = report::tables(&of(root.path()).1);
    assert!(tables.contains("a\u{fffd}[2Jb") && tables.contains("c\u{fffd}31m"), "{tables}");
    assert!(!tables.contains(|c: char| c.is_control() && c != '\n'));
}

#[test]
fn the_page_loads_nothing_and_escapes_everything() {
    let root = tempfile::tempdir().unwrap();
    let evil = "<img src=x onerror=alert(1)>\"'&</style><script>";
    let mut data = Data::emoji();
    data.classes[0] = evil.into();
    let folder = root.path().join("<script>alert('path')</script>").join("x");
    let runs = synthetic::write(&folder, &data, &["joint", "balgrad", "projection"]);
    for run in &runs {
        change(run, |r| {
            r["dataset"]["name"] = json!(evil);
            for key in ["fusion", "device", "version", "revision"] {
                r[key] = json!(evil);
            }
            r["dataset"]["fingerprint"] = json!(evil);
            r["dataset"]["layout"] = json!(evil);
            r["encoders"]["image"] = json!(evil);
            r["settings"][evil] = json!(evil);
            r["impairments"][format!("noisy-{evil}")] = json!({"kind": evil, "severity": 3});
            if r["label"] == "projection" {
                r["label"] = json!(evil);
            }
        });
        fs::write(run.join("config.toml"), evil).unwrap();
        let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap().replace("\"own\"", "\"<b onclick=x>\"");
        fs::write(run.join("metrics.jsonl"), log).unwrap();
    }
    fs::create_dir_all(folder.join("<b>half")).unwrap();
    fs::write(folder.join("<b>half/config.toml"), "").unwrap();
    let (collected, summary) = of(root.path());
    assert_eq!(summary.skipped.len(), 1);
    let page = report::html(&collected, &summary);
    // One script, the page's own, by its hash; styles of cells are numbers.
    let (body, script) = page.split_once("<body>").unwrap().1.split_once("<script>").unwrap();
    assert!(script.ends_with("</script></body></html>") && script.matches("<script").count() == 0);
    assert!(page.contains("script-src 'sha256-") && !page.contains("script-src 'unsafe"));
    let body = &body.replace(" style=\"--v:", "");
    for forbidden in [
        "<script",
        "<img",
        "<b onclick",
        "<b>half",
        "http:",
        "https:",
        "url(",
        "@import",
        "src=\"",
        "href=\"//",
        "javascript:",
        " style=",
    ] {
        assert!(!body.contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(!page.contains("<link") && !page.contains("url("));
    assert!(body.contains("&lt;img src=x onerror=alert(1)&gt;&quot;'&amp;&lt;/style&gt;"));
    assert!(page.contains("default-src 'none'"));
    let (open, close) = (body.matches("<svg").count(), body.matches("</svg>").count());
    assert!(open == close && open > 5);
}

#[test]
fn broken_runs_are_named_and_left_out() {
    let root = tempfile::tempdir().unwrap();
    synthetic::write(root.path(), &Data::emoji(), &["joint", "balgrad"]);
    let run = |name: &str| {
        let folder = root.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    fs::write(run("half").join("metrics.jsonl"), "{\"kind\":\"step\"}\n").unwrap();
    fs::write(run("cut").join("results.json"), "{\"schema\": 1, \"data").unwrap();
    fs::write(run("empty").join("results.json"), "{\"schema\": 2}").unwrap();
    fs::write(run("other").join("results.json"), "{\"tests\": 3}").unwrap();
    let copy = run("copy");
    fs::copy(root.path().join("emoji/joint/seed-0/results.json"), copy.join("results.json")).unwrap();
    let (collected, summary) = of(root.path());
    let reasons: Vec<(String, &str)> =
        summary.skipped.iter().map(|s| (s.path.rsplit('/').next().unwrap().to_owned(), s.reason.as_str())).collect();
    let reason = |name: &str| reasons.iter().find(|r| r.0 == name).unwrap().1;
    assert!(reason("half").contains("not finished"));
    assert!(reason("cut").contains("damaged"));
    assert!(reason("empty").contains("incomplete"));
    assert!(reason("other").contains("schema"));
    assert!(reason("seed-0").contains("the same data, method and seed"), "{reasons:?}");
    assert_eq!(summary.runs.len(), 6);
    let page = report::html(&collected, &summary);
    assert!(page.contains("Left out") && page.contains("not finished"));
    assert!(!page.contains(root.path().to_str().unwrap()), "no path of this machine");
    assert!(report::tables(&summary).contains("skipped "));
}

#[test]
fn an_unknown_schema_is_left_out_and_nothing_to_show_is_an_error_with_a_fix() {
    let root = tempfile::tempdir().unwrap();
    let none = report::collect(&[root.path().to_owned()]).unwrap_err().to_string();
    assert!(none.contains("no finished run in"), "{none}");
    let gone = report::collect(&[root.path().join("gone")]).unwrap_err().to_string();
    assert!(gone.contains("is not a folder"), "{gone}");
    let runs = synthetic::write(root.path(), &Data::emoji(), &["joint"]);
    change(&runs[1], |r| {
        r["schema"] = json!(7);
        r["version"] = json!("9.1.0");
    });
    let collected = report::collect(&[root.path().to_owned()]).unwrap();
    assert_eq!(collected.runs.len(), 2, "one foreign run hides no other");
    let skipped = &collected.skipped[0];
    assert!(skipped.path.ends_with("seed-1") && skipped.reason.contains("schema 7"), "{skipped:?}");
    assert!(skipped.reason.contains("schemas 1 to 2: use balgrad 9.1.0 or newer"), "{skipped:?}");
    let error = report::collect(&[runs[1].clone()]).unwrap_err().to_string();
    assert!(error.contains("seed-1") && error.contains("schema 7"), "{error}");
}

#[test]
fn methods_are_ranked_and_modalities_weighed() {
    let root = tempfile::tempdir().unwrap();
    let runs = synthetic::write(root.path(), &Data::emoji(), &["joint", "balgrad"]);
    let (collected, summary) = of(root.path());
    // Runs of an earlier version say nothing of contributions.
    assert!(!report::html(&collected, &summary).contains("What each modality contributes"));
    for (i, run) in runs.iter().enumerate() {
        change(run, |r| {
            r["steps_per_second"] = json!(if r["label"] == "joint" { 300.0 } else { 200.0 });
            let seed = i as f64 / 10.0;
            r["contribution"] = json!({
                "score": {"image": 0.25 + seed, "text": -0.125, "nothing": 0.1},
                "loss": {"image": 1.5, "text": -0.5, "nothing": -2.0},
            });
        });
    }
    let (collected, summary) = of(root.path());
    let page = report::html(&collected, &summary);
    let ranking = page.split("<h3>Ranking</h3>").nth(1).unwrap().split("</table>").next().unwrap();
    assert!(ranking.contains("#1</small>") && ranking.contains("#2</small>") && !ranking.contains("#3"));
    assert!(ranking.contains("<td>1F 3B</td><td>1.50</td>") && ranking.contains("<td>1F 1B</td><td>1.00</td>"));
    let weighed = page.split("<h3>What each modality contributes</h3>").nth(1).unwrap();
    // Seeds 0, 1 and 2 of the first method: 25, 35 and 45 points.
    let values = "<td>35.0</td><td>-12.5</td><td>10.0</td><td>1.50</td><td>-0.50</td>";
    assert!(weighed.split("</table>").next().unwrap().contains(values), "{weighed}");
}

/// Of many methods a plot of lines shows four, each with its name, the references among them.
#[test]
fn a_plot_of_lines_stays_readable() {
    let root = tempfile::tempdir().unwrap();
    let mut methods = METHODS.to_vec();
    methods.extend(["ogm", "pmr", "umt", "mla", "lfm"]);
    synthetic::write(root.path(), &Data::emoji(), &methods);
    let (collected, summary) = of(root.path());
    let page = report::html(&collected, &summary);
    let plot = page.split("As more samples lose a modality").nth(1).unwrap().split("Who learns when").next().unwrap();
    let drawn: Vec<&&str> = methods.iter().filter(|m| plot.contains(&format!(">{m}</text>"))).collect();
    assert!(drawn.len() == 4 && drawn.contains(&&"joint") && drawn.contains(&&"balgrad"), "{drawn:?}\n{plot}");
}

/// The scores of a class, and what is taken for what, are those of the predictions.
#[test]
fn classes_are_scored_by_their_predictions() {
    let root = tempfile::tempdir().unwrap();
    let runs = synthetic::write(root.path(), &Data { seeds: 1, ..Data::emoji() }, &["joint"]);
    let (collected, summary) = of(root.path());
    let lines = fs::read_to_string(runs[0].join("predictions/full.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let name = collected.runs[0].record.dataset.classes[0].clone();
    let of_class: Vec<&Value> = lines.iter().filter(|line| line["label"][0] == *name).collect();
    let best = |line: &&&Value| {
        let probs: Vec<f64> = line["probs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
        probs[0] == probs.iter().copied().fold(0.0, f64::max)
    };
    let right = of_class.iter().filter(best).count();
    let recall = format!("{:.1}", 100.0 * right as f64 / of_class.len() as f64);
    let page = report::html(&collected, &summary);
    let name = name.replace('&', "&amp;");
    let row = format!("<th scope=\"row\">{name}</th><td>{}</td><td>{recall}</td>", of_class.len());
    assert!(page.contains(&row), "{row}");
    assert!(page.contains("Does it know when it is wrong?") && !page.contains("On real samples"));
}

#[test]
fn tables_and_the_picture_are_taken_away() {
    let root = tempfile::tempdir().unwrap();
    synthetic::write(root.path(), &Data::emoji(), &["joint", "balgrad"]);
    let summary = of(root.path()).1;
    let row = summary.rows.iter().find(|r| r.method == "joint").unwrap();
    let mean = format!("{:.2}", 100.0 * row.mean.unwrap());
    for (text, start) in [
        (report::csv(&summary), "Data set,Method,Full,"),
        (report::latex(&summary), "% emoji"),
        (report::markdown(&summary), "**emoji"),
    ] {
        assert!(text.starts_with(start) && text.contains(&mean), "{text}");
    }
    assert!(report::latex(&summary).contains("\\toprule") && report::markdown(&summary).contains("|---|---:|"));
    // The picture stands alone: its own style, the name of each row, and each mean where a pointer rests.
    let picture = report::picture(&summary);
    let tip = format!("Joint training: {:.1} %", 100.0 * row.mean.unwrap());
    assert!(picture.starts_with("<?xml") && picture.contains("xmlns=\"http://www.w3.org/2000/svg\""));
    for part in ["<style>", "emoji", "● BalGrad", &tip] {
        assert!(picture.contains(part), "{part}: {picture}");
    }
}

#[test]
fn missing_keys_and_null_scores_are_gaps_and_not_zeros() {
    let root = tempfile::tempdir().unwrap();
    let runs = synthetic::write(root.path(), &Data::emoji(), &["joint", "balgrad"]);
    for run in &runs {
        change(run, |r| {
            for key in ["conflict", "contribution"] {
                r[key] = Value::Null;
            }
            r["views"]["image-only"] = Value::Null;
            r["test"]["image-only"] = Value::Null;
            r["test"]["noisy-image"]["accuracy"] = Value::Null;
            r["missing_ratios"]["missing-text"] = json!([null, null]);
            r["label"] = json!(" ");
        });
        fs::remove_file(run.join("metrics.jsonl")).unwrap();
        fs::remove_dir_all(run.join("predictions")).unwrap();
    }
    let (collected, summary) = of(root.path());
    let row = |condition: &str| {
        summary.rows.iter().find(|r| is(&r.condition, condition) && r.metric.name == "accuracy").unwrap()
    };
    assert_eq!((row("noisy-image").mean, row("noisy-avg").mean, row("image-only").mean), (None, None, None));
    assert!(row("full").mean.is_some() && row("full").ci95.is_none());
    assert!(summary.notes.iter().any(|n| n.contains("no bootstrap intervals")), "{:?}", summary.notes);
    let tables = report::tables(&summary);
    assert!(tables.contains("no interval") && tables.contains('–'));
    let page = report::html(&collected, &summary);
    assert!(!page.contains("NaN") && !page.contains("Who learns when"));
}

#[test]
fn scores_that_predictions_contradict_are_noted() {
    let root = tempfile::tempdir().unwrap();
    let runs = synthetic::write(root.path(), &Data::emoji(), &["joint", "balgrad"]);
    change(&runs[0], |r| r["test"]["full"]["accuracy"] = json!(0.999));
    let (_, summary) = of(root.path());
    assert!(
        summary.notes.iter().any(|n| n.contains("by its predictions, but results.json says 0.999")),
        "{:?}",
        summary.notes
    );
}

#[test]
fn the_papers_numbers_stand_beside_the_same_data_alone_and_are_marked() {
    let root = tempfile::tempdir().unwrap();
    let data = Data {
        name: "hateful-memes",
        task: Task::Binary,
        classes: vec!["no".into(), "yes".into()],
        samples: 80,
        seeds: 2,
    };
    synthetic::write(root.path(), &data, &["joint", "reweighting", "balgrad"]);
    let (collected, summary) = of(root.path());
    let page = report::html(&collected, &summary);
    assert!(
        page.contains("<th scope=\"col\" class=\"theirs\">paper:<br>agm</th>")
            && page.contains("<td class=\"theirs\">67.35</td>")
    );
    assert!(page.contains("not measured here"));
    assert!(!serde_json::to_string(&summary).unwrap().contains("67.35"), "a number of the paper is no row of ours");
    let compared: std::collections::BTreeSet<&str> = summary.comparisons.iter().map(|c| c.metric.name).collect();
    assert_eq!(compared.into_iter().collect::<Vec<_>>(), ["accuracy", "auroc", "f1_macro"]);
}

#[test]
fn runs_of_other_settings_or_encoders_are_not_averaged() {
    let root = tempfile::tempdir().unwrap();
    let runs = synthetic::write(root.path(), &Data::emoji(), &["joint", "balgrad"]);
    change(&runs[3], |r| r["settings"]["method.share"] = json!("loss"));
    for run in &runs[..2] {
        change(run, |r| r["encoders"]["image"] = json!("vit"));
    }
    let (_, summary) = of(root.path());
    let mut names: Vec<(&str, &str)> = summary.runs.iter().map(|r| (r.dataset.as_str(), r.method.as_str())).collect();
    names.dedup();
    assert_eq!(
        names,
        [
            ("emoji · descriptor + ngrams", "joint"),
            ("emoji · descriptor + ngrams", "balgrad (share=default)"),
            ("emoji · descriptor + ngrams", "balgrad (share=loss)"),
            ("emoji · vit + ngrams", "joint"),
        ]
    );
}

/// A record of version 0.1.0, as that version wrote it.
#[test]
fn a_record_of_schema_1_is_read_and_kept_through_schema_2() {
    let text = include_str!("../fixtures/results-0.1.0.json");
    let mut record = RunRecord::parse(text).unwrap();
    let (missing, noisy) = (record.pair(Impairment::Missing), record.pair(Impairment::Noisy));
    assert_eq!((record.schema, missing, noisy), (1, record.missing, record.noisy));
    let line = "accuracy 73.1  missing image 59.6  missing text 69.1  avg 64.4  gap 9.5  noisy avg 60.2";
    assert_eq!(record.one_line(), line);
    record.schema = 2;
    let folder = tempfile::tempdir().unwrap();
    record.write(folder.path()).unwrap();
    assert_eq!(RunRecord::read(folder.path()).unwrap(), record);
    let mut old: Value = serde_json::from_str(text).unwrap();
    (old["schema"], old["calibration"]) = (json!(2), json!({}));
    assert_eq!(serde_json::to_value(&record).unwrap(), old, "every key of the old record is in the new one");
}

#[test]
fn a_third_modality_and_a_score_of_numbers_have_their_rows() {
    let root = tempfile::tempdir().unwrap();
    let runs = synthetic::write(root.path(), &Data::emoji(), &["joint", "balgrad"]);
    for (i, run) in runs.iter().enumerate() {
        change(run, |r| {
            r["encoders"]["audio"] = json!("spectrogram");
            r["dataset"]["task"] = json!("regression");
            r["dataset"]["classes"] = json!([]);
            r["metric"] = json!("mae");
            let scores =
                |mae: f64| json!({"mae": mae + i as f64 / 1000.0, "rmse": 2.0 * mae, "r2": 0.5, "pearson": null});
            let conditions = ["full", "missing-audio", "missing-image", "missing-text", "noisy-audio"];
            r["test"] = conditions.into_iter().zip([0.5, 0.7, 1.1, 0.8, 0.4]).map(|(c, v)| (c, scores(v))).collect();
            r["val"] = json!({"mae": 0.5, "audio-only": 0.9, "loss-audio": 1.0, "loss": 0.7});
        });
    }
    let (collected, summary) = of(root.path());
    let tables = report::tables(&summary);
    assert!(
        tables.contains("\nemoji · MAE, mean±sd over 3 seeds")
            && tables.starts_with("Without the image, Joint training rises"),
        "{tables}"
    );
    let row = |name: &str| tables.lines().find(|l| l.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row("Missing image")[2], "1.101±0.001");
    assert_eq!(row("Missing ΔGap")[2], "0.4000±0.0000", "the largest difference of three");
    assert_eq!(row("Noisy audio")[2], "0.4010±0.0010*", "of an error less is better");
    assert!(report::html(&collected, &summary).contains("audio impaired, image and text kept"));
    let line = RunRecord::read(&runs[0]).unwrap().one_line();
    assert!(line.starts_with("mae 0.5000  missing audio 0.7000  missing image 1.100  missing text 0.8000"), "{line}");
}
