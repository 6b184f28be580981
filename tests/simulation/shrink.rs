//! Makes a failing run simpler: fewer choices, and smaller ones.

/// The simplest choices that were found in so many tries for which `fails` returns true, as it does for `choices`.
///
/// Blocks of choices are left out or become 0, large blocks first. Then each choice becomes smaller. This is repeated until
/// nothing helps.
pub(crate) fn shrink(choices: Vec<u32>, max_tries: u64, mut fails: impl FnMut(&[u32]) -> bool) -> Vec<u32> {
    let (mut best, mut tries) = (choices, 0);
    let mut is_better = |candidate: &[u32]| {
        tries += 1;
        tries <= max_tries && fails(candidate)
    };
    loop {
        let before = best.clone();
        let mut size = best.len().div_ceil(2);
        while size > 0 {
            let mut end = best.len();
            while end > 0 {
                let start = end.saturating_sub(size);
                let without = [&best[..start], &best[end..]].concat();
                let mut zeroed = best.clone();
                zeroed[start..end].fill(0);
                if is_better(&without) {
                    best = without;
                } else if zeroed != best && is_better(&zeroed) {
                    best = zeroed;
                }
                end = start;
            }
            size /= 2;
        }
        for position in 0..best.len() {
            while best[position] > 0 {
                let mut smaller = best.clone();
                smaller[position] -= 1;
                if !is_better(&smaller) {
                    break;
                }
                best = smaller;
            }
        }
        if best == before {
            return best;
        }
    }
}

#[test]
fn shrinking_keeps_only_what_a_failure_needs() {
    let choices: Vec<u32> = (0..200).map(|number| number % 7).collect();
    // It needs a 3 and, somewhere after it, a number above 4.
    let fails = |choices: &[u32]| {
        let three = choices.iter().position(|choice| *choice == 3);
        three.is_some_and(|three| choices[three..].iter().any(|choice| *choice > 4))
    };
    assert_eq!(shrink(choices, 600, fails), [3, 5]);
}
