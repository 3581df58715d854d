//! `docs/status.md` names what is there.

use std::path::Path;

#[test]
fn every_row_is_there_and_every_test_it_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = std::fs::read_to_string(root.join("docs/status.md")).unwrap();
    let rows: Vec<Vec<&str>> =
        page.lines().filter(|line| line.starts_with("| ")).skip(1).map(|line| line.split('|').collect()).collect();
    let numbers: Vec<usize> = rows.iter().map(|row| row[1].trim().parse().expect("a number")).collect();
    assert_eq!(numbers, (1..=67).collect::<Vec<_>>());
    let mut named = 0;
    for row in rows {
        for item in row[3].split('`').skip(1).step_by(2) {
            let (path, test) = item.split_once("::").unwrap_or((item, ""));
            if !path.contains('/') {
                continue;
            }
            let text = std::fs::read_to_string(root.join(path))
                .unwrap_or_else(|error| panic!("row {}: {path}: {error}", row[1]));
            assert!(test.is_empty() || text.contains(&format!("fn {test}(")), "row {}: {item} does not exist", row[1]);
            named += 1;
        }
    }
    assert!(named > 50, "{named} tests and scripts are named: is the table read?");
}
