//! `balgrad methods | layouts | encoders | fusions | keys`: the tables, for people and for scripts.

use std::process::ExitCode;

use crate::config::{KEYS, range};
use crate::registry::registry;
use anyhow::Result;
use balgrad::{Entry, FAMILIES};
use balgrad_encoders::FUSIONS;
use clap::Args;
use serde::Serialize;
use textwrap::{Options, termwidth, wrap};

#[derive(Args)]
pub(super) struct List {
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Methods {
    /// Say all of one method: its settings, its cost, when to use it.
    name: Option<String>,
    #[command(flatten)]
    list: List,
}

impl Methods {
    pub(super) fn run(self) -> Result<ExitCode> {
        if let Some(name) = &self.name {
            let entry = registry().method(name)?;
            return if self.list.json { self.list.print("", &[row(&entry)]) } else { whole(&entry) };
        }
        let known = &registry().methods;
        if self.list.json {
            return self.list.print("", &known.iter().map(|m| row(m)).collect::<Vec<_>>());
        }
        let is = |a: &Entry, b: &Entry| a.name == b.name;
        for family in FAMILIES {
            let methods = family.methods.iter().filter(|m| known.iter().any(|k| is(k, m)));
            let rows: Vec<Row> = methods.map(|m| row(m)).collect();
            self.list.print(family.title, &rows)?;
        }
        let own = known.iter().filter(|k| !balgrad::METHODS.iter().any(|m| is(k, m)));
        self.list.print("Of this program", &own.map(|m| row(m)).collect::<Vec<_>>())?;
        out!("`balgrad methods NAME` says more of one; NAME+dropout drops modalities too.");
        Ok(ExitCode::SUCCESS)
    }
}

fn row(m: &Entry) -> Row {
    let setting = |s: &balgrad::Setting| Row {
        default: Some(s.default),
        values: Some(range(s.kind)),
        ..Row::new(s.name, s.about)
    };
    Row {
        cost: Some(m.cost),
        trains_heads: Some(m.trains_heads),
        settings: Some(m.settings.iter().map(setting).collect()),
        ..Row::of(m.name, m.about, m.paper)
    }
}

/// All that there is to say of one method.
fn whole(m: &Entry) -> Result<ExitCode> {
    let put = |text: String, indent: &str| -> Result<()> {
        for line in wrap(&text, Options::new(termwidth()).subsequent_indent(indent)) {
            out!("{line}");
        }
        Ok(())
    };
    put(format!("{}: {} ({})", m.name, m.about, m.paper), "  ")?;
    put(format!("Use it {}.", m.when.trim_end_matches('.')), "  ")?;
    put(format!("A step costs {} (F: forward passes, B: backward passes).", m.cost), "  ")?;
    for s in m.settings {
        put(format!("  --set method.{}={}  {} ({})", s.name, s.default, s.about, range(s.kind)), "      ")?;
    }
    Ok(ExitCode::SUCCESS)
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
    pub(super) fn layouts(&self) -> Result<ExitCode> {
        self.print("", &registry().layouts.iter().map(|l| Row::of(l.name, l.about, l.paper)).collect::<Vec<_>>())
    }

    pub(super) fn encoders(&self) -> Result<ExitCode> {
        let row = |e: &&balgrad_encoders::EncoderEntry| Row {
            modality: Some(e.modality),
            ..Row::of(e.name, e.about, e.paper)
        };
        self.print("", &registry().encoders.iter().map(row).collect::<Vec<_>>())
    }

    pub(super) fn fusions(&self) -> Result<ExitCode> {
        self.print("", &FUSIONS.iter().map(|f| Row::of(f.name, f.about, f.paper)).collect::<Vec<_>>())
    }

    pub(super) fn keys(&self) -> Result<ExitCode> {
        let row = |key: &crate::config::Key| Row {
            default: Some(key.default),
            values: Some(range(key.kind)),
            aliases: Some(key.aliases),
            ..Row::new(key.name, key.about)
        };
        self.print("", &KEYS.iter().map(row).collect::<Vec<_>>())
    }

    /// Rows under a title, as wide as the terminal; nothing where there are none.
    fn print(&self, title: &str, rows: &[Row]) -> Result<ExitCode> {
        if self.json {
            out!("{}", serde_json::to_string_pretty(rows)?);
            return Ok(ExitCode::SUCCESS);
        }
        if !title.is_empty() && !rows.is_empty() {
            out!("{title}");
        }
        let indent = if title.is_empty() { "" } else { "  " };
        let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(NAMES);
        let hang = " ".repeat(indent.len() + width + 2);
        for row in rows {
            let mut text = row.about.to_owned();
            if let (Some(default), Some(values)) = (row.default.filter(|d| !d.is_empty()), &row.values) {
                text += &format!(" [{values}; default {default}]");
            }
            if let Some(paper) = row.paper.filter(|paper| !["", "reference", "baseline"].contains(paper)) {
                text += &format!(" ({paper})");
            }
            let first = format!("{indent}{:width$}  ", row.name);
            for line in wrap(&text, Options::new(termwidth()).initial_indent(&first).subsequent_indent(&hang)) {
                out!("{line}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The least width of a column of names, so that groups line up.
const NAMES: usize = 12;
