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
    /// How much of its value is to be reached, where it was measured in the same run: machines are not equally fast, and
    /// the same machine is not each hour.
    wanted: Option<f64>,
}

impl Peer {
    pub(super) fn new(name: &'static str, samples: Vec<f64>) -> Self {
        Self { name, seen: median(&samples), samples, wanted: None }
    }

    pub(super) fn mean(name: &'static str, samples: Vec<f64>) -> Self {
        Self { name, seen: mean(&samples), samples, wanted: None }
    }

    /// Measured in the same run; on the machine for which the value to reach was set it did `reference`.
    pub(super) fn measured(name: &'static str, samples: Vec<f64>, reach: f64, reference: f64) -> Self {
        Self { wanted: Some(reach / reference), ..Self::new(name, samples) }
    }
}

/// Whether a value is what it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Reached,
    /// Not the value, but as much of the peer's in the same run.
    ByRatio,
    Missed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Reached => "ok",
            Self::ByRatio => "ok by ratio",
            Self::Missed => "MISSED",
        }
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

    fn verdict(&self) -> Verdict {
        let fits = |seen: f64, reach: f64| if self.unit.is_rate() { seen >= reach } else { seen <= reach };
        let by_ratio = |peer: &Peer| peer.wanted.is_some_and(|wanted| fits(self.seen / peer.seen, wanted));
        if self.reach.is_none_or(|reach| fits(self.seen, reach)) {
            Verdict::Reached
        } else if self.peers.iter().any(by_ratio) {
            Verdict::ByRatio
        } else {
            Verdict::Missed
        }
    }

    pub(super) fn reached(&self) -> bool {
        self.verdict() != Verdict::Missed
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

/// Small ones with more digits: `0.0121`, `0.15`, `17.80`.
fn factor(ratio: f64) -> String {
    if ratio < 0.1 { format!("{ratio:.4}") } else { format!("{ratio:.2}") }
}

/// For people; also fit for docs/performance.md.
pub(super) fn table(figures: &[Figure], notes: &[String]) -> String {
    let mut rows = vec![["what", "reach", "seen", "spread", "peers in the same run", ""].map(str::to_owned)];
    for figure in figures {
        let unit = figure.unit;
        let peers = figure.peers.iter().map(|peer| {
            let wanted =
                peer.wanted.map_or_else(String::new, |wanted| format!(", wanted {}", factor(wanted)));
            let ratio = factor(figure.seen / peer.seen);
            format!("{} {} ({ratio} of it{wanted})", peer.name, unit.show(peer.seen))
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
            figure.verdict().word().to_owned(),
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
                    json!({
                        "name": peer.name, "seen": peer.seen, "ratio": figure.seen / peer.seen, "wanted": peer.wanted,
                        "samples": peer.samples,
                    })
                })
                .collect();
            json!({
                "what": figure.what, "unit": figure.unit.json(), "seen": figure.seen, "samples": figure.samples,
                "reach": figure.reach, "reached": figure.reached(), "verdict": figure.verdict().word(), "peers": peers,
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

    /// On a slow machine the peer is slow, too.
    #[test]
    fn a_value_is_reached_by_its_ratio_to_a_peer_in_the_same_run() {
        let rate = |seen, peer| {
            let peer = Peer::measured("openQA", vec![peer], 1_500.0, 100.0);
            Figure::of("rate", Unit::PerSecond, vec![seen], Some(1_500.0), vec![peer])
        };
        assert_eq!(rate(1_500.0, 200.0).verdict(), Verdict::Reached);
        assert_eq!(rate(450.0, 30.0).verdict(), Verdict::ByRatio);
        assert_eq!(rate(440.0, 30.0).verdict(), Verdict::Missed);
        let text = table(&[rate(450.0, 30.0)], &[]);
        assert!(text.contains("openQA 30/s (15.00 of it, wanted 15.00) | ok by ratio |"), "{text}");
        let time = |seen| {
            let peer = Peer::measured("openQA", vec![42.0], 0.1, 8.3);
            Figure::of("post", Unit::Seconds, vec![seen], Some(0.1), vec![peer])
        };
        assert_eq!((time(0.5).verdict(), time(0.6).verdict()), (Verdict::ByRatio, Verdict::Missed));
        let reference = Peer::new("openQA (reference)", vec![1.0]);
        assert!(!Figure::of("rate", Unit::PerSecond, vec![20.0], Some(30.0), vec![reference]).reached());
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
