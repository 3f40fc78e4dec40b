//! Which effects ask somebody outside before they are carried out. They do so beside the others, a few at once, and of one
//! host fewer: who does not answer keeps only those waiting who ask the same.

use crate::whom::Whom;

/// Questions at once.
const AT_ONCE: usize = 8;
/// Questions to one host at once.
const OF_HOST: usize = 2;

/// Effects of a rule that go together, and what they ask.
#[derive(Debug)]
struct UnderWay {
    whom: Whom,
    rule: String,
    keys: Vec<String>,
}

/// What is being asked.
#[derive(Debug, Default)]
pub(super) struct Asks(Vec<UnderWay>);

impl Asks {
    /// True if effects ask now. What is asked already is known soon, and is not asked twice.
    pub(super) fn begin(&mut self, whom: Whom, rule: &str, keys: &[String]) -> bool {
        let of_host = self.0.iter().filter(|one| one.whom.host == whom.host).count();
        let may = self.0.len() < AT_ONCE && of_host < OF_HOST && self.0.iter().all(|one| one.whom != whom);
        if may {
            self.0.push(UnderWay { whom, rule: rule.to_owned(), keys: keys.to_vec() });
        }
        may
    }

    /// The effects with these keys ask no more.
    pub(super) fn end(&mut self, keys: &[String]) {
        self.0.retain(|one| one.keys != keys);
    }

    /// True if the effect asks.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|one| one.keys.iter().any(|own| own == key))
    }

    /// How many effects of a rule ask; of all rules without one.
    pub(super) fn effects(&self, rule: Option<&str>) -> usize {
        let counts = |one: &&UnderWay| rule.is_none_or(|rule| one.rule == rule);
        self.0.iter().filter(counts).map(|one| one.keys.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_ask_at_once_and_of_one_host_fewer() {
        let mut asks = Asks::default();
        let mut begin = |host: &str, what: &str, keys: &[&str]| {
            let whom = Whom { host: host.to_owned(), what: what.to_owned() };
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let began = asks.begin(whom, "lint", &keys);
            (began, asks.effects(None))
        };
        assert_eq!(begin("h", "x main", &["a", "b"]), (true, 2));
        assert_eq!(begin("h", "x main", &["c"]), (false, 2), "that is asked already");
        assert_eq!(begin("h", "y main", &["c"]), (true, 3));
        assert_eq!(begin("h", "z main", &["d"]), (false, 3), "the host has enough to answer");
        for number in 3..=AT_ONCE {
            let host = format!("h{number}");
            assert!(begin(&host, "x", &[&host]).0, "{host}");
        }
        assert_eq!(begin("another", "x", &["e"]), (false, AT_ONCE + 1), "all that may ask do");

        assert_eq!((asks.has("b"), asks.has("e")), (true, false));
        asks.end(&["a".to_owned(), "b".to_owned()]);
        assert!(!asks.has("b"));
        assert_eq!((asks.effects(Some("lint")), asks.effects(Some("other"))), (AT_ONCE - 1, 0));
        let whom = Whom { host: "h".to_owned(), what: "z main".to_owned() };
        assert!(asks.begin(whom, "other", &["d".to_owned()]), "there is room again");
        assert_eq!(asks.effects(Some("other")), 1);
    }
}
