//! Incidents to practise with: each provokes a problem on a stack, and shows the metric that it raises and the alarm that
//! watches the metric.

mod at_circle;
mod command;
mod deployment;
mod events;
mod reconciliation;
mod scene;
mod table;
mod webhooks;

use std::collections::BTreeMap;
use std::fmt;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

pub use self::command::{list, play_on_running_stack, play_on_stack_of_its_own};
use self::scene::Scene;
pub use self::table::{INCIDENTS, ONLY_ON_AWS};
use crate::embedded_metrics::{MetricValues, metric_values};
use crate::log::Line;
use crate::sources::Sources;

/// Something that goes wrong.
#[derive(Debug)]
pub struct Incident {
    /// Its name on the command line.
    pub name: &'static str,
    /// What goes wrong, in a sentence.
    pub title: &'static str,
    /// The metrics that it raises.
    pub raises: &'static [Raised],
    play: Play,
}

/// Provokes the incident.
type Play = for<'a> fn(&'a Scene) -> BoxFuture<'a, Result<(), PlayError>>;

/// Why an incident could not be played.
pub type PlayError = Box<dyn std::error::Error + Send + Sync>;

/// A metric that an incident raises.
#[derive(Debug)]
pub struct Raised {
    /// The logical id of the alarm in `infra/template.yaml` that watches the metric, or that has the same cause.
    pub alarm: Option<&'static str>,
    /// The name of the metric.
    pub metric: &'static str,
    /// Its dimensions.
    pub dimensions: &'static [(&'static str, &'static str)],
}

impl Incident {
    /// The incident with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        INCIDENTS.iter().find(|incident| incident.name == name)
    }

    /// The incident as JSON, without what it does.
    fn json(&self) -> Value {
        let raises = self.raises.iter().map(Raised::json);
        json!({ "name": self.name, "title": self.title, "raises": raises.collect::<Vec<_>>() })
    }

    /// Plays the incident on a stack, and sends what happens to `steps`: an object with `step` for each step, with
    /// `raised` for each metric at the end, or with `error`.
    pub(crate) async fn play(&self, sources: &Sources, steps: UnboundedSender<Value>) {
        let before = sources.log.count();
        let played = match Scene::new(sources.clone(), steps.clone()) {
            Ok(scene) => {
                let played = (self.play)(&scene).await;
                scene.end();
                played
            }
            Err(error) => Err(error),
        };
        let result = match played {
            Ok(()) => self.raised(sources, before).await,
            Err(error) => Err(error),
        };
        let messages = result.unwrap_or_else(|error| vec![json!({ "error": error.to_string() })]);
        for message in messages {
            // An error means that nobody reads any more.
            let _ = steps.send(message);
        }
    }

    /// Waits until the log has all metrics of the incident. Returns each with the sum of its values and a line that has it.
    async fn raised(&self, sources: &Sources, before: usize) -> Result<Vec<Value>, PlayError> {
        let mut all = Vec::new();
        for raised in self.raises {
            let found = sources.log.wait_for(before, |lines| raised.find(lines)).await;
            all.push(found.map_err(|_| format!("the functions did not count {raised}"))?);
        }
        Ok(all)
    }
}

/// The metric with its dimensions, such as `Logged metric=timeout`.
impl fmt::Display for Raised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.metric)?;
        self.dimensions.iter().try_for_each(|(name, value)| write!(formatter, " {name}={value}"))
    }
}

impl Raised {
    fn json(&self) -> Value {
        let dimensions: BTreeMap<_, _> = self.dimensions.iter().copied().collect();
        let runbook = self.alarm.map(|alarm| format!("docs/runbook.md#{}", alarm.to_lowercase()));
        json!({ "alarm": self.alarm, "runbook": runbook, "metric": self.metric, "dimensions": dimensions })
    }

    /// The metric with the sum of its values in these lines, and the last line that has it; `None` if it was not raised.
    fn find(&self, lines: &[Line]) -> Option<Value> {
        let is_this = |found: &MetricValues| {
            let has =
                |(name, value): &(&str, &str)| found.dimensions.get(*name).is_some_and(|one| one == value);
            found.name == self.metric
                && found.dimensions.len() == self.dimensions.len()
                && self.dimensions.iter().all(has)
        };
        let sum_of = |line: &Line| -> f64 {
            metric_values(&line.json).into_iter().filter(is_this).flat_map(|found| found.values).sum()
        };
        let sums = lines.iter().map(|line| (line, sum_of(line))).filter(|(_, sum)| *sum > 0.0);
        let (line, sum) = sums.fold((None, 0.0), |(_, total), (line, sum)| (Some(line), total + sum));
        let mut json = self.json();
        json["sum"] = sum.into();
        json["line"] = line?.json.clone();
        Some(json!({ "raised": json }))
    }
}
