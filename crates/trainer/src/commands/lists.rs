//! `balgrad methods | layouts | encoders | fusions | keys`: the tables, for people and for scripts.

use std::process::ExitCode;

use crate::config::{KEYS, Key, range};
use crate::registry::registry;
use anyhow::Result;
use balgrad::Setting;
use balgrad_encoders::FUSIONS;
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
        self.print(registry().methods.iter().map(row).collect())
    }

    pub(super) fn layouts(&self) -> Result<ExitCode> {
        self.print(
            registry().layouts.iter().map(|l| json!({"name": l.name, "about": l.about, "paper": l.paper})).collect(),
        )
    }

    pub(super) fn encoders(&self) -> Result<ExitCode> {
        let row = |e: &&balgrad_encoders::EncoderEntry| json!({"name": e.name, "about": e.about, "paper": e.paper, "modality": e.modality});
        self.print(registry().encoders.iter().map(row).collect())
    }

    pub(super) fn fusions(&self) -> Result<ExitCode> {
        self.print(FUSIONS.iter().map(|f| json!({"name": f.name, "about": f.about, "paper": f.paper})).collect())
    }

    pub(super) fn keys(&self) -> Result<ExitCode> {
        let row = |key: &Key| {
            json!({"name": key.name, "default": key.default, "values": range(key.kind), "about": key.about,
                "aliases": key.aliases})
        };
        self.print(KEYS.iter().map(row).collect())
    }

    fn print(&self, rows: Vec<Value>) -> Result<ExitCode> {
        if self.json {
            out!("{:#}", Value::Array(rows));
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
            out!("{:width$}  {}{tail}", text(&row["name"]), text(&row["about"]));
            for setting in row["settings"].as_array().into_iter().flatten() {
                let (name, about) = (text(&setting["name"]), text(&setting["about"]));
                out!(
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
    json!({"name": s.name, "default": s.default, "values": range(s.kind), "about": s.about})
}
