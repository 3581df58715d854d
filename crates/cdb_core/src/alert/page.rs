//! A page of `/metrics` as samples. Lines that are none, and values that are no numbers, are left out.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

/// Samples of one page at most; our services have a few hundred.
const SAMPLES_MAX: usize = 20_000;

/// One time series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// The metric's name; of a histogram with `_bucket`, `_count` or `_sum`.
    pub metric: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Reads a page in the text format.
#[must_use]
pub fn read(text: &str) -> Vec<(Series, Decimal)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(sample).take(SAMPLES_MAX).collect()
}

fn sample(line: &str) -> Option<(Series, Decimal)> {
    let (series, value) = line.trim_end().rsplit_once(' ')?;
    Some((self::series(series)?, number(value)?))
}

/// `1`, `0.25`, `1e-05`; `NaN` and `+Inf` are no numbers.
fn number(text: &str) -> Option<Decimal> {
    text.parse().ok().or_else(|| Decimal::from_scientific(text).ok())
}

/// Reads `name{label="value",...}`.
#[must_use]
pub fn series(text: &str) -> Option<Series> {
    let text = text.trim();
    let (metric, labels) = match text.split_once('{') {
        None => (text, BTreeMap::new()),
        Some((metric, rest)) => (metric, labels(rest.strip_suffix('}')?)?),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts_well = metric.starts_with(|c: char| c.is_ascii_alphabetic());
    (starts_well && metric.chars().all(is_name)).then(|| Series { metric: metric.to_owned(), labels })
}

/// Reads `label="value",...`, in which values may be quoted commas and escaped quotes.
fn labels(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.trim().is_empty() {
        let (label, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(label.trim().to_owned(), value);
        let after = rest.get(end.checked_add(1)?..)?;
        text = after.trim_start().strip_prefix(',').unwrap_or(after);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_as_prometheus_writes_them() {
        let page = "# HELP a_total x\n# TYPE a_total counter\na_total 3\nb{x=\"1,\\\"2\\\"\",y=\"a}b\"} 0.5\nc NaN\n\
                    d_bucket{le=\"+Inf\"} 1e3\n\nno sample\n}{ 1\n";
        let read: Vec<_> =
            read(page).into_iter().map(|(series, value)| (series.metric, series.labels, value)).collect();
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        let expected: Vec<(String, BTreeMap<String, String>, Decimal)> = vec![
            ("a_total".into(), labels(&[]), 3.into()),
            ("b".into(), labels(&[("x", "1,\"2\""), ("y", "a}b")]), "0.5".parse().unwrap()),
            ("d_bucket".into(), labels(&[("le", "+Inf")]), 1_000.into()),
        ];
        assert_eq!(read, expected);
    }
}
