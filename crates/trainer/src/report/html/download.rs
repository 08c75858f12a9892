//! Tables to take away: links that hold the file themselves.

use maud::{Markup, html};

/// A table as text: the names of its columns, then its rows.
pub(in crate::report) struct Sheet {
    /// Its file's name without an ending.
    pub(in crate::report) name: String,
    pub(in crate::report) head: Vec<String>,
    pub(in crate::report) rows: Vec<Vec<String>>,
}

impl Sheet {
    /// As CSV, quoted where needed.
    pub(in crate::report) fn csv(&self) -> String {
        let cell = |text: &String| match text.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.clone(),
        };
        let line = |cells: &Vec<String>| cells.iter().map(cell).collect::<Vec<_>>().join(",") + "\n";
        std::iter::once(&self.head).chain(&self.rows).map(line).collect()
    }

    /// As a LaTeX table with the rules of `booktabs`.
    pub(in crate::report) fn latex(&self) -> String {
        let line =
            |cells: &Vec<String>| cells.iter().map(|c| escaped(c)).collect::<Vec<_>>().join(" & ") + r" \\" + "\n";
        let columns = format!("l{}", "r".repeat(self.head.len().saturating_sub(1)));
        let rows: String = self.rows.iter().map(line).collect();
        format!(
            "\\begin{{tabular}}{{{columns}}}\n\\toprule\n{}\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}\n",
            line(&self.head)
        )
    }

    /// As a table of Markdown.
    pub(in crate::report) fn markdown(&self) -> String {
        let line = |cells: &Vec<String>| {
            format!("| {} |\n", cells.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let rule = format!(
            "|{}\n",
            std::iter::once("---|").chain(vec!["---:|"; self.head.len().saturating_sub(1)]).collect::<String>()
        );
        let rows: String = self.rows.iter().map(line).collect();
        line(&self.head) + &rule + &rows
    }
}

/// Links to a table's files.
pub(super) fn links(sheet: &Sheet) -> Markup {
    html! {
        p class="take" {
            a download={ (sheet.name) ".csv" } href={ "data:text/csv;charset=utf-8," (encoded(&sheet.csv())) } { "CSV" }
            " "
            a download={ (sheet.name) ".tex" } href={ "data:text/x-tex;charset=utf-8," (encoded(&sheet.latex())) } { "LaTeX" }
        }
    }
}

/// A text in the characters of an address.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// A text as LaTeX writes it.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '~' => out += r"\textasciitilde{}",
            '^' => out += r"\textasciicircum{}",
            '\\' => out += r"\textbackslash{}",
            '±' => out += r"$\pm$",
            '−' => out += "$-$",
            'Δ' => out += r"$\Delta$",
            '–' => out += "--",
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_so_that_it_can_be_read_again() {
        let sheet = Sheet {
            name: "t".into(),
            head: vec!["Method".into(), "Δ_a, %".into()],
            rows: vec![vec!["a \"b\"".into(), "1±2|".into()]],
        };
        assert_eq!(sheet.csv(), "Method,\"Δ_a, %\"\n\"a \"\"b\"\"\",1±2|\n");
        assert!(sheet.latex().contains(r"Method & $\Delta$\_a, \% \\") && sheet.latex().contains(r"1$\pm$2|"));
        assert_eq!(sheet.markdown(), "| Method | Δ_a, % |\n|---|---:|\n| a \"b\" | 1±2\\| |\n");
        assert_eq!(encoded("a b\n%"), "a%20b%0A%25");
    }
}
