//! What a run showed, as a file that is committed, and what has become worse since the last one.

use super::load::Figures;
use crate::project::Project;
use serde_json::{Map, Value, json};

/// How much more a request may cost, or memory may grow, before it is a regression.
const WORSE_MAX: f64 = 1.1;

/// The last committed result.
pub(crate) const FILE: &str = "bench/last.json";

/// Everything that was measured, in order.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) workloads: Vec<Row>,
    /// Name, ours, the peer's.
    pub(crate) figures: Vec<(String, f64, Option<f64>)>,
}

/// One workload at one number of connections; medians of the rounds.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) connections: u32,
    pub(crate) ours: Figures,
    pub(crate) peer: Option<Figures>,
}

impl Results {
    /// As Markdown tables.
    pub(crate) fn print(&self) {
        println!(
            "\n| workload | connections | req/s | p50 | p99 | p99.9 | CPU µs per request | peer: req/s | p50 | p99 | p99.9 | CPU µs | ratio of CPU | of req/s |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        for row in &self.workloads {
            let other = row.peer.as_ref().map_or_else(
                || " | | | | | | ".to_owned(),
                |peer| format!("{} | {:.1}x | {:.1}x", cells(peer), peer.cpu / row.ours.cpu, row.ours.rate / peer.rate),
            );
            println!("| {} | {} | {} | {other} |", row.name, row.connections, cells(&row.ours));
        }
        println!("\n| figure | daypass | peer |\n|---|---|---|");
        for (name, ours, peer) in &self.figures {
            println!("| {name} | {ours} | {} |", peer.map(|peer| peer.to_string()).unwrap_or_default());
        }
    }

    /// As it is committed.
    pub(crate) fn to_json(&self) -> Value {
        let one =
            |f: &Figures| json!({"rate": f.rate.round(), "p50": f.p50, "p99": f.p99, "p999": f.p999, "cpu": (f.cpu * 10.0).round() / 10.0});
        let row = |row: &Row| json!({"name": row.name, "connections": row.connections, "ours": one(&row.ours), "peer": row.peer.as_ref().map(one)});
        let figures: Map<String, Value> =
            self.figures.iter().map(|(name, ours, peer)| (name.clone(), json!({"ours": ours, "peer": peer}))).collect();
        json!({"workloads": self.workloads.iter().map(row).collect::<Vec<_>>(), "figures": figures})
    }

    /// What costs more than a tenth more than in the last committed result. The peer tells how fast the machine is today: what it costs more or
    /// less, nobody changed.
    pub(crate) fn worse_than(&self, last: &Value) -> Vec<String> {
        let then = |row: &Row, whose: &str| {
            let rows = last["workloads"].as_array()?;
            let same = rows.iter().find(|old| old["name"] == row.name.as_str() && old["connections"] == row.connections)?;
            same.get(whose)?["cpu"].as_f64()
        };
        let mut speeds: Vec<f64> =
            self.workloads.iter().filter_map(|row| Some(row.peer.as_ref()?.cpu / then(row, "peer").filter(|cpu| *cpu > 0.0)?)).collect();
        speeds.sort_by(f64::total_cmp);
        let speed = speeds.get(speeds.len() / 2).copied().unwrap_or(1.0);
        let mut worse = Vec::new();
        for row in &self.workloads {
            if let Some(old) = then(row, "ours")
                && row.ours.cpu > old * speed * WORSE_MAX
            {
                let text = format!("{} at {}: {:.1} µs of CPU, {old:.1} before", row.name, row.connections, row.ours.cpu);
                worse.push(format!("{text}; the machine takes {speed:.2} times as long as then"));
            }
        }
        for (name, ours, _) in self.figures.iter().filter(|(name, _, _)| name.starts_with("RSS")) {
            if let Some(old) = last["figures"].get(name).and_then(|figure| figure["ours"].as_f64())
                && *ours > old * WORSE_MAX
            {
                worse.push(format!("{name}: {ours}, {old} before"));
            }
        }
        worse
    }
}

/// The last committed result; `Null` before the first.
pub(crate) fn last(project: &Project) -> Value {
    project.read(FILE).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null)
}

/// The medians of several rounds, each figure for itself.
pub(crate) fn median(rounds: &[Figures]) -> Option<Figures> {
    let of = |figure: fn(&Figures) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    };
    let (rate, p50, p99) = (of(|f| f.rate)?, of(|f| f.p50)?, of(|f| f.p99)?);
    Some(Figures { rate, p50, p99, p999: of(|f| f.p999)?, cpu: of(|f| f.cpu)?, total: rounds.iter().map(|f| f.total).sum() })
}

fn cells(figures: &Figures) -> String {
    let [p50, p99, p999] = [figures.p50, figures.p99, figures.p999].map(time);
    format!("{:.0} | {p50} | {p99} | {p999} | {:.1}", figures.rate, figures.cpu)
}

fn time(micros: f64) -> String {
    if micros < 1000.0 { format!("{micros:.0} µs") } else { format!("{:.2} ms", micros / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(ours: f64, peer: f64, memory: f64) -> Results {
        let figures = |cpu| Figures { rate: 1.0, p50: 1.0, p99: 1.0, p999: 1.0, total: 1, cpu };
        let row = Row { name: "look".to_owned(), connections: 64, ours: figures(ours), peer: Some(figures(peer)) };
        Results { workloads: vec![row], figures: vec![("RSS, idle, MB".to_owned(), memory, None)] }
    }

    #[test]
    fn a_tenth_more_is_a_regression_unless_the_machine_is_slower_by_as_much() {
        let last = results(50.0, 500.0, 20.0).to_json();
        assert!(results(54.0, 500.0, 21.0).worse_than(&last).is_empty());
        assert!(results(100.0, 1000.0, 20.0).worse_than(&last).is_empty(), "half the speed for both");
        assert_eq!(results(56.0, 500.0, 20.0).worse_than(&last).len(), 1);
        assert_eq!(results(50.0, 400.0, 23.0).worse_than(&last).len(), 2, "the peer was faster, we were not; and memory");
        assert!(results(500.0, 500.0, 200.0).worse_than(&Value::Null).is_empty(), "nothing to compare with");
    }

    #[test]
    fn medians_are_taken_figure_by_figure() {
        let round = |rate, p99| Figures { rate, p50: 1.0, p99, p999: 1.0, total: 10, cpu: 1.0 };
        let of = median(&[round(1.0, 9.0), round(3.0, 7.0), round(2.0, 8.0)]).unwrap();
        assert_eq!((of.rate, of.p99, of.total), (2.0, 8.0, 30));
        assert!(median(&[]).is_none());
    }
}
