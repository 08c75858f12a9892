//! Table 1 for papers, spreadsheets and pages of text.

use super::Summary;
use super::html::download::Sheet;
use super::html::grid::sheet;
use super::tables::{in_percent, views};

/// One table for each data set, with the rules of `booktabs`.
pub fn latex(summary: &Summary) -> String {
    let table = |(name, sheet): (String, Sheet)| format!("% {name}\n{}", sheet.latex());
    sheets(summary).into_iter().map(table).collect::<Vec<_>>().join("\n")
}

/// All data sets in one table, the first column of which names them.
pub fn csv(summary: &Summary) -> String {
    let mut out = String::new();
    for view in views(summary) {
        let mut sheet = sheet(&view);
        sheet.head.insert(0, "Data set".to_owned());
        sheet.rows.iter_mut().for_each(|row| row.insert(0, view.dataset.to_owned()));
        out += &sheet.csv();
    }
    out
}

/// One table for each data set.
pub fn markdown(summary: &Summary) -> String {
    let table = |(name, sheet): (String, Sheet)| format!("**{name}**\n\n{}", sheet.markdown());
    sheets(summary).into_iter().map(table).collect::<Vec<_>>().join("\n")
}

fn sheets(summary: &Summary) -> Vec<(String, Sheet)> {
    let name =
        |view: &super::tables::View<'_>| format!("{}: {}{}", view.dataset, view.metric.title, in_percent(view.metric));
    views(summary).iter().map(|view| (name(view).replace('\n', " "), sheet(view))).collect()
}
