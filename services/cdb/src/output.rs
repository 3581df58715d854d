//! Tables and JSON: data on standard output, talk on standard error.

use std::io::IsTerminal as _;

use serde_json::Value;

/// Prints JSON on one line.
pub fn json(value: &Value) {
    println!("{value}");
}

/// Prints a table; columns are as wide as their widest cell, the last one is cut at the terminal's width.
pub fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        text.trim_end().to_owned()
    };
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    println!("{}", bold(&line(&header)));
    for row in rows {
        println!("{}", line(row));
    }
}

/// Whether colour may be used on standard output.
fn has_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn painted(text: &str, code: &str) -> String {
    if has_colour() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Bold, where a person looks.
pub fn bold(text: &str) -> String {
    painted(text, "1")
}
/// Grey.
pub fn dim(text: &str) -> String {
    painted(text, "2")
}
/// Good news.
pub fn green(text: &str) -> String {
    painted(text, "32")
}
/// Bad news.
pub fn red(text: &str) -> String {
    painted(text, "31")
}
/// Neither.
pub fn yellow(text: &str) -> String {
    painted(text, "33")
}

/// A JSON value as a cell.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
