//! The choices of a run: from a seed, or given.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A sequence of choices, each a small number. It decides everything that a run leaves open.
///
/// 0 is the choice in which nothing unusual happens. So a sequence that is shorter, or has smaller numbers, describes a
/// simpler run. That is how a failing run is shrunk.
#[derive(Debug)]
pub(crate) struct Choices {
    source: Source,
    /// All choices so far.
    taken: Vec<u32>,
}

#[derive(Debug)]
enum Source {
    Random(Box<StdRng>),
    Given(std::vec::IntoIter<u32>),
}

impl Choices {
    /// The choices of a seed.
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self::from(Source::Random(Box::new(StdRng::seed_from_u64(seed))))
    }

    /// These choices, and then 0 for ever.
    pub(crate) fn given(choices: Vec<u32>) -> Self {
        Self::from(Source::Given(choices.into_iter()))
    }

    fn from(source: Source) -> Self {
        Self { source, taken: Vec::new() }
    }

    /// One of `options`, all equally likely.
    pub(crate) fn below(&mut self, options: usize) -> usize {
        self.weighted(&vec![1; options])
    }

    /// Whether something happens that has so many chances in a hundred.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.weighted(&[100 - percent, percent]) == 1
    }

    /// One of the options with these weights; 0 if none has any weight. A given choice that has no weight is taken as the
    /// first that has.
    pub(crate) fn weighted(&mut self, weights: &[u32]) -> usize {
        let first = weights.iter().position(|weight| *weight > 0).unwrap_or(0);
        let chosen = match &mut self.source {
            Source::Random(random) => {
                let total: u32 = weights.iter().sum();
                let mut at = random.random_range(0..total.max(1));
                let found = weights.iter().position(|weight| {
                    let is_here = at < *weight;
                    at = at.saturating_sub(*weight);
                    is_here
                });
                found.unwrap_or(first)
            }
            Source::Given(choices) => {
                let given = choices.next().map_or(0, |choice| choice as usize);
                if weights.get(given).is_some_and(|weight| *weight > 0) { given } else { first }
            }
        };
        self.taken.push(u32::try_from(chosen).expect("there are few options"));
        chosen
    }

    /// All choices so far, without those at the end that would be 0 anyway.
    pub(crate) fn into_taken(mut self) -> Vec<u32> {
        while self.taken.last() == Some(&0) {
            self.taken.pop();
        }
        self.taken
    }
}
