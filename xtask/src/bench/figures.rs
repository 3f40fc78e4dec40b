//! What was seen, against what is to be reached and what the peers did in the same run.

use anyhow::Result;
use serde_json::{Value, json};

#[derive(Clone, Copy)]
pub(super) enum Unit {
    Seconds,
    /// Given in seconds, shown in milliseconds.
    Milliseconds,
    /// Of 10^6 bytes.
    Megabytes,
    /// The more the better; of all others the less the better.
    PerSecond,
    /// As above.
    PerMinute,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2} s"),
            Self::Milliseconds if value.abs() < 0.01 => format!("{:.2} ms", value * 1e3),
            Self::Milliseconds => format!("{:.0} ms", value * 1e3),
            Self::Megabytes => format!("{value:.0} MB"),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::PerMinute => format!("{value:.0}/min"),
        }
    }

    fn is_rate(self) -> bool {
        matches!(self, Self::PerSecond | Self::PerMinute)
    }

    fn json(self) -> &'static str {
        match self {
            Self::Seconds | Self::Milliseconds => "s",
            Self::Megabytes => "MB",
            Self::PerSecond => "1/s",
            Self::PerMinute => "1/min",
        }
    }
}

/// Another program's value of the same figure.
pub(super) struct Peer {
    name: &'static str,
    pub(super) seen: f64,
    samples: Vec<f64>,
}

impl Peer {
    pub(super) fn new(name: &'static str, samples: Vec<f64>) -> Self {
        Self { name, seen: median(&samples), samples }
    }

    pub(super) fn mean(name: &'static str, samples: Vec<f64>) -> Self {
        Self { name, seen: mean(&samples), samples }
    }
}

/// One line of the table.
pub(super) struct Figure {
    pub(super) what: &'static str,
    unit: Unit,
    pub(super) seen: f64,
    samples: Vec<f64>,
    /// At most this; of rates at least this.
    reach: Option<f64>,
    peers: Vec<Peer>,
}

impl Figure {
    /// The median counts.
    pub(super) fn of(
        what: &'static str,
        unit: Unit,
        samples: Vec<f64>,
        reach: Option<f64>,
        peers: Vec<Peer>,
    ) -> Self {
        Self { what, unit, seen: median(&samples), samples, reach, peers }
    }

    /// The mean counts.
    pub(super) fn mean(
        what: &'static str,
        unit: Unit,
        samples: Vec<f64>,
        reach: f64,
        peers: Vec<Peer>,
    ) -> Self {
        Self { what, unit, seen: mean(&samples), samples, reach: Some(reach), peers }
    }

    /// The largest counts.
    pub(super) fn worst(
        what: &'static str,
        unit: Unit,
        samples: Vec<f64>,
        reach: f64,
        peers: Vec<Peer>,
    ) -> Self {
        Self { what, unit, seen: largest(&samples), samples, reach: Some(reach), peers }
    }

    pub(super) fn reached(&self) -> bool {
        self.reach
            .is_none_or(|reach| if self.unit.is_rate() { self.seen >= reach } else { self.seen <= reach })
    }
}

/// The middle sample, or the mean of the two in the middle; 0 without samples.
pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

fn mean(samples: &[f64]) -> f64 {
    if samples.is_empty() { 0.0 } else { samples.iter().sum::<f64>() / samples.len() as f64 }
}

fn smallest(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

fn largest(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(0.0, f64::max)
}

/// For people; also fit for docs/performance.md.
pub(super) fn table(figures: &[Figure], notes: &[String]) -> String {
    let mut rows = vec![["what", "reach", "seen", "spread", "peers in the same run", ""].map(str::to_owned)];
    for figure in figures {
        let unit = figure.unit;
        let peers = figure.peers.iter().map(|peer| {
            format!("{} {} ({:.2} of it)", peer.name, unit.show(peer.seen), figure.seen / peer.seen)
        });
        let spread = format!(
            "{} to {}, n={}",
            unit.show(smallest(&figure.samples)),
            unit.show(largest(&figure.samples)),
            figure.samples.len()
        );
        rows.push([
            figure.what.to_owned(),
            figure.reach.map_or_else(
                || "-".into(),
                |reach| format!("{} {}", if unit.is_rate() { ">=" } else { "<=" }, unit.show(reach)),
            ),
            unit.show(figure.seen),
            spread,
            peers.collect::<Vec<_>>().join("; "),
            if figure.reached() { "ok" } else { "MISSED" }.to_owned(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&rows[0]);
    text += &line(&std::array::from_fn(|column| "-".repeat(widths[column])));
    text.extend(rows[1..].iter().map(line));
    text.extend(notes.iter().map(|note| format!("note: {note}\n")));
    text
}

/// For programs. Times in seconds, memory in 10^6 bytes.
pub(super) fn json(figures: &[Figure], notes: &[String]) -> Result<String> {
    let figures: Vec<Value> = figures
        .iter()
        .map(|figure| {
            let peers: Vec<Value> = figure
                .peers
                .iter()
                .map(|peer| {
                    json!({"name": peer.name, "seen": peer.seen, "ratio": figure.seen / peer.seen, "samples": peer.samples})
                })
                .collect();
            json!({
                "what": figure.what, "unit": figure.unit.json(), "seen": figure.seen, "samples": figure.samples,
                "reach": figure.reach, "reached": figure.reached(), "peers": peers,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({"figures": figures, "notes": notes}))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn a_missed_figure_says_so() {
        let peer = Peer::new("minimal driver", vec![2.0, 2.0, 5.0]);
        let figure = Figure::of("wall", Unit::Seconds, vec![3.0], Some(2.5), vec![peer]);
        assert!(!figure.reached());
        let text = table(&[figure], &["a note".into()]);
        assert!(
            text.contains(
                "| <= 2.50 s | 3.00 s | 3.00 s to 3.00 s, n=1 | minimal driver 2.00 s (1.50 of it) | MISSED |"
            ),
            "{text}"
        );
        assert!(text.ends_with("note: a note\n"));
    }

    #[test]
    fn the_largest_and_the_mean_count_where_said() {
        let worst = Figure::worst("memory", Unit::Megabytes, vec![61.0, 10.0, 10.0], 60.0, Vec::new());
        assert!(!worst.reached());
        let mean = Figure::mean("delay", Unit::Milliseconds, vec![0.08, 0.01], 0.05, Vec::new());
        assert!(mean.reached() && table(&[mean], &[]).contains("| 45 ms "));
        let rate = |seen| Figure::of("rate", Unit::PerSecond, vec![seen], Some(1500.0), Vec::new());
        assert!(rate(1600.0).reached() && !rate(1400.0).reached());
        assert!(table(&[rate(1600.0)], &[]).contains("| >= 1500/s | 1600/s "));
    }
}
