//! "Did you mean": the known word nearest to one that is not known.

/// The nearest of `known`, where it is near enough to be a slip: an edit or two, or three in long words.
///
/// ```
/// use daypass_base::hcl::nearest;
/// assert_eq!(nearest("capabilitie", &["policy", "capabilities"]), Some("capabilities"));
/// assert_eq!(nearest("zebra", &["policy", "capabilities"]), None);
/// ```
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // Long nonsense is nobody's slip, and the table below grows with it.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    let reach = match word.len() {
        0..=3 => 1,
        4..=8 => 2,
        _ => 3,
    };
    let best = known.iter().map(|candidate| (distance(&word, candidate), *candidate)).min()?;
    (best.0 <= reach).then_some(best.1)
}

/// How many letters must be put in, left out, changed or swapped with a neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (row, x) in a.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, y) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut cost = (at(&previous, column) + usize::from(x != y)).min(at(&previous, column + 1) + 1).min(at(&current, column) + 1);
            let swapped = row > 0 && column > 0 && a.get(row - 1) == Some(y) && b.get(column - 1) == Some(x);
            if swapped {
                cost = cost.min(at(&before, column - 1) + 1);
            }
            current.push(cost);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous.last().copied().unwrap_or(usize::MAX)
}
