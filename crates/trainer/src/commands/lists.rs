//! `balgrad methods | layouts | encoders | fusions | keys`: the tables, for people and for scripts.

use std::process::ExitCode;

use anyhow::Result;
use balgrad::{Kind, METHODS, Setting};
use balgrad_data::LAYOUTS;
use balgrad_encoders::{ENCODERS, FUSIONS};
use balgrad_trainer::config::KEYS;
use clap::Args;
use serde_json::{Value, json};

#[derive(Args)]
pub(super) struct List {
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) fn methods(&self) -> Result<ExitCode> {
        let row = |m: &&balgrad::Entry| {
            json!({"name": m.name, "about": m.about, "paper": m.paper, "cost": m.cost, "trains_heads": m.trains_heads,
                "settings": m.settings.iter().map(setting).collect::<Vec<_>>()})
        };
        self.print(METHODS.iter().map(row).collect())
    }

    pub(super) fn layouts(&self) -> Result<ExitCode> {
        self.print(LAYOUTS.iter().map(|l| json!({"name": l.name, "about": l.about, "paper": l.paper})).collect())
    }

    pub(super) fn encoders(&self) -> Result<ExitCode> {
        let row = |e: &balgrad_encoders::EncoderEntry| json!({"name": e.name, "about": e.about, "paper": e.paper, "modality": e.modality});
        self.print(ENCODERS.iter().map(row).collect())
    }

    pub(super) fn fusions(&self) -> Result<ExitCode> {
        self.print(FUSIONS.iter().map(|f| json!({"name": f.name, "about": f.about, "paper": f.paper})).collect())
    }

    pub(super) fn keys(&self) -> Result<ExitCode> {
        self.print(KEYS.iter().map(setting).collect())
    }

    fn print(&self, rows: Vec<Value>) -> Result<ExitCode> {
        if self.json {
            println!("{:#}", Value::Array(rows));
            return Ok(ExitCode::SUCCESS);
        }
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let width = rows.iter().map(|r| text(&r["name"]).len()).max().unwrap_or(0);
        for row in &rows {
            let mut tail = String::new();
            for key in ["default", "paper"] {
                match text(&row[key]) {
                    value if value.is_empty() => {}
                    value if key == "default" => {
                        tail.push_str(&format!(" [{}; default {value}]", text(&row["values"])));
                    }
                    value => tail.push_str(&format!(" ({value})")),
                }
            }
            println!("{:width$}  {}{tail}", text(&row["name"]), text(&row["about"]));
            for setting in row["settings"].as_array().into_iter().flatten() {
                let (name, about) = (text(&setting["name"]), text(&setting["about"]));
                println!(
                    "{:width$}    method.{name} = {}  {about} [{}]",
                    "",
                    text(&setting["default"]),
                    text(&setting["values"])
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn setting(s: &Setting) -> Value {
    let values = match s.kind {
        Kind::Flag => "true, false".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Choice(words) => words.join(", "),
        Kind::Number { min, max } => format!("{min} to {max}"),
        Kind::Count { min, max: u64::MAX } => format!("whole, from {min}"),
        Kind::Count { min, max } => format!("whole, {min} to {max}"),
    };
    json!({"name": s.name, "default": s.default, "values": values, "about": s.about})
}
