//! Who stands on whom, as lines beside a list: each item in a lane, each lane a line from an item to those behind it.

/// What is drawn beside one item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lane {
    /// Where the item is.
    pub(super) at: usize,
    /// The lane of what it stands on, if that is another one.
    pub(super) from: Option<usize>,
    /// A line comes from above in its own lane.
    pub(super) up: bool,
    /// Something behind stands on it.
    pub(super) down: bool,
    /// Other lanes that go past.
    pub(super) past: Vec<usize>,
}

/// The lanes of a queue; `ahead` has for each item the index of what it stands on, which comes before it.
pub(super) fn lay_out(ahead: &[Option<usize>]) -> Vec<Lane> {
    let mut last_behind = vec![None; ahead.len()];
    for (index, ahead) in ahead.iter().enumerate() {
        if let Some(last) = ahead.and_then(|ahead| last_behind.get_mut(ahead)) {
            *last = Some(index);
        }
    }
    // Who owns the line of a lane.
    let mut lanes: Vec<Option<usize>> = Vec::new();
    let mut drawn = Vec::with_capacity(ahead.len());
    for (index, ahead) in ahead.iter().enumerate() {
        let below = ahead.filter(|ahead| *ahead < index);
        let parent = below.and_then(|below| lanes.iter().position(|owner| *owner == Some(below)));
        let continues = below.is_some_and(|below| last_behind[below] == Some(index));
        let at = match parent {
            Some(lane) if continues => lane,
            parent => free_after(&lanes, parent.map_or(0, |lane| lane + 1)),
        };
        if lanes.len() <= at {
            lanes.resize(at + 1, None);
        }
        let past = (0..lanes.len()).filter(|lane| *lane != at && lanes[*lane].is_some()).collect();
        let down = last_behind[index].is_some();
        lanes[at] = down.then_some(index);
        let from = parent.filter(|lane| *lane != at);
        drawn.push(Lane { at, from, up: parent == Some(at), down, past });
    }
    drawn
}

fn free_after(lanes: &[Option<usize>], first: usize) -> usize {
    let free = |lane: &usize| lanes.get(*lane).is_none_or(Option::is_none);
    (first..lanes.len().max(first)).find(free).unwrap_or(lanes.len().max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line an item: `o` the item, `|` what goes past, `/` where its line leaves the other lane.
    fn picture(ahead: &[Option<usize>]) -> Vec<String> {
        let draw = |lane: &Lane| {
            let width = lane.past.iter().chain([&lane.at]).max().copied().unwrap_or(0) + 1;
            let mut row = vec![' '; width];
            for past in &lane.past {
                row[*past] = '|';
            }
            if let Some(from) = lane.from {
                row[from] = '/';
            }
            row[lane.at] = if lane.up || lane.from.is_some() { 'o' } else { '*' };
            row.into_iter().collect()
        };
        lay_out(ahead).iter().map(draw).collect()
    }

    #[test]
    fn a_chain_is_one_line_and_what_fails_stands_beside_it() {
        assert_eq!(picture(&[]), [""; 0]);
        assert_eq!(picture(&[None, Some(0), Some(1)]), ["*", "o", "o"]);
        // 1 fails: 2 stands on 0 as well, and 3 on 2.
        assert_eq!(picture(&[None, Some(0), Some(0), Some(2)]), ["*", "/o", "o", "o"]);
        // 1 fails, and 2, which needs it, stays behind it.
        assert_eq!(picture(&[None, Some(0), Some(1), Some(0)]), ["*", "/o", "|o", "o"]);
        // Roots one below another, and two failures at once.
        assert_eq!(picture(&[None, None, Some(1), Some(1), Some(1)]), ["*", "*", "/o", "/o", "o"]);
        // What is not before it is not drawn as if it were.
        assert_eq!(picture(&[Some(1), Some(7)]), ["*", "*"]);
    }
}
