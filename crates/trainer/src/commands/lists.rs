//! `balgrad methods | layouts | encoders | fusions | keys`: the tables, for people and for scripts.

use std::process::ExitCode;

use crate::config::{KEYS, range};
use crate::registry::registry;
use anyhow::Result;
use balgrad_encoders::FUSIONS;
use clap::Args;
use serde::Serialize;

#[derive(Args)]
pub(super) struct List {
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

/// A line of any of the tables.
#[derive(Default, Serialize)]
struct Row {
    name: &'static str,
    about: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    paper: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trains_heads: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modality: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aliases: Option<&'static [&'static str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Vec<Row>>,
}

impl Row {
    fn new(name: &'static str, about: &'static str) -> Self {
        Self { name, about, ..Self::default() }
    }

    fn of(name: &'static str, about: &'static str, paper: &'static str) -> Self {
        Self { paper: Some(paper), ..Self::new(name, about) }
    }
}

impl List {
    pub(super) fn methods(&self) -> Result<ExitCode> {
        let setting = |s: &balgrad::Setting| Row {
            default: Some(s.default),
            values: Some(range(s.kind)),
            ..Row::new(s.name, s.about)
        };
        self.print(registry().methods.iter().map(|m| Row {
            cost: Some(m.cost),
            trains_heads: Some(m.trains_heads),
            settings: Some(m.settings.iter().map(setting).collect()),
            ..Row::of(m.name, m.about, m.paper)
        }))
    }

    pub(super) fn layouts(&self) -> Result<ExitCode> {
        self.print(registry().layouts.iter().map(|l| Row::of(l.name, l.about, l.paper)))
    }

    pub(super) fn encoders(&self) -> Result<ExitCode> {
        let row = |e: &&balgrad_encoders::EncoderEntry| Row {
            modality: Some(e.modality),
            ..Row::of(e.name, e.about, e.paper)
        };
        self.print(registry().encoders.iter().map(row))
    }

    pub(super) fn fusions(&self) -> Result<ExitCode> {
        self.print(FUSIONS.iter().map(|f| Row::of(f.name, f.about, f.paper)))
    }

    pub(super) fn keys(&self) -> Result<ExitCode> {
        self.print(KEYS.iter().map(|key| Row {
            default: Some(key.default),
            values: Some(range(key.kind)),
            aliases: Some(key.aliases),
            ..Row::new(key.name, key.about)
        }))
    }

    fn print(&self, rows: impl Iterator<Item = Row>) -> Result<ExitCode> {
        let rows: Vec<Row> = rows.collect();
        if self.json {
            out!("{}", serde_json::to_string_pretty(&rows)?);
            return Ok(ExitCode::SUCCESS);
        }
        let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        for row in &rows {
            let mut tail = String::new();
            if let (Some(default), Some(values)) = (row.default.filter(|d| !d.is_empty()), &row.values) {
                tail += &format!(" [{values}; default {default}]");
            }
            if let Some(paper) = row.paper.filter(|paper| !paper.is_empty()) {
                tail += &format!(" ({paper})");
            }
            out!("{:width$}  {}{tail}", row.name, row.about);
            for Row { name, about, default, values, .. } in row.settings.iter().flatten() {
                let (default, values) = (default.unwrap_or_default(), values.as_deref().unwrap_or_default());
                out!("{:width$}    method.{name} = {default}  {about} [{values}]", "");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
