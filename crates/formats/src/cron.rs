//! Checking of cron lines.

/// A field of a cron line.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Sunday is 0, and 7.
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// As they stand; the seconds may be left out.
const FIELDS: [Field; 6] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of the month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: MONTHS },
    Field { name: "day of the week", least: 0, most: 7, names: DAYS },
    Field { name: "second", least: 0, most: 59, names: &[] },
];
/// Where the day of the week stands.
const WEEKDAY: usize = 4;

/// Says what is wrong with a line.
pub(crate) fn check(line: &str) -> Result<(), String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if fields.len() != 5 && fields.len() != 6 {
        return Err(format!(
            "{} fields; expected minute, hour, day, month, day of the week, and perhaps second",
            fields.len()
        ));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        for part in text.split(',') {
            check_part(part, field)?;
        }
    }
    Ok(())
}

fn check_part(part: &str, field: &Field) -> Result<(), String> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    if let Some(step) = step
        && step.parse::<u32>().ok().is_none_or(|step| step == 0)
    {
        return Err(format!("`{part}` for the {}: expected a step from 1 on behind the /", field.name));
    }
    if range == "*" {
        return Ok(());
    }
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    match (value(from, field), value(to, field)) {
        (Some(from), Some(to)) if from <= to => Ok(()),
        _ => {
            let Field { name, least, most, .. } = field;
            Err(format!(
                "`{part}` for the {name}: expected *, a number from {least} to {most}, a range such as {least}-{most}, or several with commas"
            ))
        }
    }
}

fn value(text: &str, field: &Field) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = field.names.iter().position(|name| *name == lower) {
        return Some(at as u32 + field.least);
    }
    text.parse().ok().filter(|value| (field.least..=field.most).contains(value))
}

/// A line of Zuul's timer, whose week (`APScheduler`'s) begins with Monday as 0, with the days of the week as names.
/// The flag says that something changed.
pub(crate) fn from_zuul(line: &str) -> (String, bool) {
    let mut fields: Vec<String> = line.split_whitespace().map(ToOwned::to_owned).collect();
    let Some(days) = fields.get_mut(WEEKDAY) else { return (line.to_owned(), false) };
    let named: Vec<String> = days.split(',').map(name_days).collect();
    let named = named.join(",");
    let changed = *days != named;
    *days = named;
    (fields.join(" "), changed)
}

fn name_days(part: &str) -> String {
    let (range, step) = part.split_once('/').unwrap_or((part, "1"));
    let Ok(step @ 1..) = step.parse::<usize>() else { return part.to_owned() };
    // A day counted from Monday.
    let day = |text: &str| {
        let named = DAYS.iter().position(|name| text.eq_ignore_ascii_case(name)).map(|day| (day + 6) % 7);
        named.or_else(|| text.parse().ok()).filter(|day| *day < 7)
    };
    let name = |day: usize| DAYS[(day + 1) % 7];
    let (from, to) = match range.split_once('-') {
        _ if range == "*" && step == 1 => return "*".to_owned(),
        _ if range == "*" => (Some(0), Some(6)),
        Some((from, to)) => (day(from), day(to)),
        None => (day(range), day(range)),
    };
    let (Some(from), Some(to)) = (from, to) else { return part.to_owned() };
    // Sunday is the last day there and the first here, so ranges may not remain ranges.
    match step {
        1 if from == to => name(from).to_owned(),
        1 if from < to && to < 6 => format!("{}-{}", name(from), name(to)),
        _ if from <= to => (from..=to).step_by(step).map(name).collect::<Vec<_>>().join(","),
        _ => part.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for good in ["0 6 * * *", "*/5 1-3,7 1 jan-mar sun 30", "59 23 31 12 7", "0 0 * * mon-fri"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, expected) in [
            ("* * * *", "4 fields"),
            ("60 * * * *", "`60` for the minute"),
            ("* * 0 * *", "`0` for the day of the month"),
            ("* * * foo *", "`foo` for the month"),
            ("*/0 * * * *", "a step from 1 on"),
            ("5-3 * * * *", "`5-3` for the minute"),
            ("* * last * *", "`last`"),
            ("", "0 fields"),
        ] {
            let said = check(bad).expect_err(bad);
            assert!(said.contains(expected), "{bad}: {said}");
        }
    }

    #[test]
    fn weeks_that_begin_with_monday() {
        for (zuul, ours) in [
            ("0 0 * * 0", "0 0 * * mon"),
            ("0 0 * * 6", "0 0 * * sun"),
            ("0 0 * * 0-4", "0 0 * * mon-fri"),
            ("0 0 * * 5-6,2", "0 0 * * sat,sun,wed"),
            ("0 0 * * */2", "0 0 * * mon,wed,fri,sun"),
            ("0 0 * * mon", "0 0 * * mon"),
        ] {
            assert_eq!(from_zuul(zuul), (ours.to_owned(), zuul != ours), "{zuul}");
            assert_eq!(check(ours), Ok(()));
        }
    }
}
