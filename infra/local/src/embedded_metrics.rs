//! Reads the metrics in a log line as CloudWatch does.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The values of a metric in one line, for one of its dimension sets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricValues {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// CloudWatch's unit, such as `Count` or `Milliseconds`.
    pub unit: String,
    /// The dimensions: names and values.
    pub dimensions: BTreeMap<String, String>,
    /// The values.
    pub values: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: String,
    dimensions: Vec<Vec<String>>,
    metrics: Vec<Definition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: String,
    #[serde(default = "no_unit")]
    unit: String,
}

fn no_unit() -> String {
    "None".to_owned()
}

/// The metrics in a line. A line that does not follow the specification has none, as in CloudWatch: its `_aws` is
/// incomplete, a dimension is not a text, or a value is not a number.
pub fn metric_values(line: &Value) -> Vec<MetricValues> {
    read(line).unwrap_or_default()
}

fn read(line: &Value) -> Option<Vec<MetricValues>> {
    line["_aws"]["Timestamp"].as_u64()?;
    let directives: Vec<Directive> =
        serde_json::from_value(line["_aws"]["CloudWatchMetrics"].clone()).ok()?;
    let mut metric_values = Vec::new();
    for Directive { namespace, dimensions, metrics } in directives {
        for set in &dimensions {
            let value = |name: &String| Some((name.clone(), line[name].as_str()?.to_owned()));
            let dimensions = set.iter().map(value).collect::<Option<BTreeMap<_, _>>>()?;
            for Definition { name, unit } in &metrics {
                metric_values.push(MetricValues {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    unit: unit.clone(),
                    dimensions: dimensions.clone(),
                    values: values(&line[name])?,
                });
            }
        }
    }
    Some(metric_values)
}

/// A number or a list of numbers.
fn values(member: &Value) -> Option<Vec<f64>> {
    match member {
        Value::Array(values) => values.iter().map(Value::as_f64).collect(),
        value => Some(vec![value.as_f64()?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line() -> Value {
        json!({
            "operation": "create_challenge",
            "outcome": "ok",
            "CircleLatency": 41,
            "CircleRetries": [0, 2],
            "_aws": { "Timestamp": 1_790_000_000_000_u64, "CloudWatchMetrics": [{
                "Namespace": "circle-pin-reset",
                "Dimensions": [["operation", "outcome"], []],
                "Metrics": [{ "Name": "CircleLatency", "Unit": "Milliseconds" }, { "Name": "CircleRetries" }],
            }] },
        })
    }

    #[test]
    fn each_metric_counts_in_each_of_its_dimension_sets() {
        let both = json!({ "operation": "create_challenge", "outcome": "ok" });
        let expected = json!([
            ["CircleLatency", "Milliseconds", both, [41.0]],
            ["CircleRetries", "None", both, [0.0, 2.0]],
            ["CircleLatency", "Milliseconds", {}, [41.0]],
            ["CircleRetries", "None", {}, [0.0, 2.0]],
        ]);
        let found = metric_values(&line());
        let found = found.iter().map(|one| json!([one.name, one.unit, one.dimensions, one.values]));
        assert_eq!(json!(found.collect::<Vec<_>>()), expected);
        assert!(metric_values(&line()).iter().all(|one| one.namespace == "circle-pin-reset"));
    }

    #[test]
    fn line_that_does_not_follow_the_specification_has_no_metrics() {
        let without = |change: fn(&mut Value)| {
            let mut line = line();
            change(&mut line);
            metric_values(&line)
        };
        assert_eq!(metric_values(&json!({ "message": "an ordinary line" })), []);
        assert_eq!(without(|line| line["outcome"] = json!(7)), []);
        assert_eq!(without(|line| line["CircleLatency"] = json!("41")), []);
        assert_eq!(without(|line| line["CircleRetries"] = json!([1, "2"])), []);
        assert_eq!(without(|line| line["_aws"]["Timestamp"] = Value::Null), []);
        assert_eq!(without(|line| line["_aws"]["CloudWatchMetrics"][0]["Namespace"] = Value::Null), []);
        assert_eq!(without(|line| line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] = json!([])), []);
    }
}
