//! When keys are replaced: every so often, or as a cron line says, within a window.
//!
//! Cron lines have five fields (minute, hour, day of month, month, day of week) in UTC. `*`, lists, ranges, steps and English names are
//! understood, and `@yearly`, `@monthly`, `@weekly`, `@daily`, `@hourly`. When both kinds of day are restricted, either will do.

use daypass_base::{Brief, Timestamp};
use daypass_sdk::{Error, Result, Seconds};
use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime, Time, UtcOffset};

/// A line that does not come within so many days never comes: leap days may lie eight years apart.
const DAYS_MAX: u32 = 8 * 366;
/// Shortest period of a key of a mount's own: the regular work looks once a minute.
const PERIOD_MIN: Seconds = Seconds(60);
/// Longest cron line, in bytes.
const LINE_BYTES_MAX: usize = 256;

/// Either a period or a cron line, or neither. The window belongs to the line: a rotation that did not begin within it waits for the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Schedule {
    pub(crate) rotation_period: Seconds,
    pub(crate) rotation_schedule: String,
    pub(crate) rotation_window: Seconds,
}

/// What a request says about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) period: Option<Seconds>,
    pub(crate) line: Option<String>,
    pub(crate) window: Option<Seconds>,
}

impl Schedule {
    pub(crate) fn is_set(&self) -> bool {
        !self.rotation_period.is_zero() || !self.rotation_schedule.is_empty()
    }

    /// This schedule with what a request says. A period takes the place of a line, and a line that of a period.
    /// Errors: `BadRequest`, in Vault's words where it has them.
    pub(crate) fn with(&self, wanted: Wanted) -> Result<Self> {
        let given = |seconds: Option<Seconds>| seconds.and_then(Seconds::set);
        let line = wanted.line.as_deref().map(str::trim);
        let has_line = line.is_some_and(|line| !line.is_empty());
        if has_line && given(wanted.period).is_some() {
            return Err(Error::bad_request(
                "mutually exclusive fields rotation_schedule and rotation_period were both specified; only one of them can be provided",
            ));
        }
        if given(wanted.window).is_some() && given(wanted.period).is_some() {
            return Err(Error::bad_request("rotation_window does not apply to period"));
        }
        let mut next = self.clone();
        if let Some(line) = line {
            line.clone_into(&mut next.rotation_schedule);
            if has_line {
                next.rotation_period = Seconds::ZERO;
            }
        }
        if let Some(period) = wanted.period {
            next.rotation_period = period;
            if !period.is_zero() {
                next.rotation_schedule = String::new();
            }
        }
        if given(wanted.window).is_some() && next.rotation_schedule.is_empty() {
            return Err(Error::bad_request("cannot use rotation_window without rotation_schedule"));
        }
        next.rotation_window =
            if next.rotation_schedule.is_empty() { Seconds::ZERO } else { wanted.window.unwrap_or(next.rotation_window) };
        if has_line {
            Cron::parse(&next.rotation_schedule).map_err(|problem| {
                Error::bad_request(format!("invalid rotation_schedule {:?}: {problem}", Brief(&next.rotation_schedule)))
            })?;
        }
        Ok(next)
    }

    /// Refuses a schedule of a key of the mount's own that cannot work. Errors: `BadRequest`.
    pub(crate) fn check(&self, has_keys: bool) -> Result<()> {
        let refusal = if self.is_set() && !has_keys {
            "rotation_period and rotation_schedule need an access_key and a secret_key: there is nothing else to rotate"
        } else if self.rotation_schedule.is_empty() && self.rotation_period.set().is_some_and(|period| period < PERIOD_MIN) {
            "rotation_period is too short: 60 s at least"
        } else {
            return Ok(());
        };
        Err(Error::bad_request(refusal))
    }

    /// The first moment after `after`. `None` without a schedule.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if self.rotation_schedule.is_empty() {
            return self.rotation_period.set().map(|period| after + period);
        }
        Cron::parse(&self.rotation_schedule).ok()?.next(after)
    }

    /// Whether the window of what was due at `due` is over.
    pub(crate) fn missed(&self, due: Timestamp, now: Timestamp) -> bool {
        self.rotation_window.set().is_some_and(|window| due + window < now)
    }

    /// When it is due, after `since`; what lies before the window of `now` was missed and is passed over.
    pub(crate) fn due(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let due = self.next(since)?;
        if self.missed(due, now) { self.next(now - self.rotation_window.duration()) } else { Some(due) }
    }
}

/// A parsed cron line: a bit for each value that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both kinds of day are restricted: one of them is enough.
    either_day: bool,
}

/// A field: its name, its bounds, and names for its values from the lowest.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[] };
const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[] };
const DAY: Field = Field { name: "day of month", least: 1, most: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// 7 is Sunday too.
const WEEKDAY: Field = Field { name: "day of week", least: 0, most: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Cron {
    fn parse(line: &str) -> Result<Self, String> {
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("it is {} bytes long, over the limit of {LINE_BYTES_MAX}", line.len()));
        }
        let line = match line {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(format!("it has {} fields; wanted are 5: minute, hour, day of month, month, day of week", fields.len()));
        };
        let weekdays = WEEKDAY.bits(weekday)?;
        let open = |text: &str| text.starts_with(['*', '?']);
        let cron = Self {
            minutes: MINUTE.bits(minute)?,
            hours: HOUR.bits(hour)?,
            days: DAY.bits(day)?,
            months: MONTH.bits(month)?,
            weekdays: weekdays | weekdays >> 7 & 1,
            either_day: !open(day) && !open(weekday),
        };
        match cron.next(Timestamp::from_nanos(0)) {
            Some(_) => Ok(cron),
            None => Err("that day never comes".to_owned()),
        }
    }

    fn fits(&self, day: Date) -> bool {
        let by_month = has(self.days, u32::from(day.day()));
        let by_week = has(self.weekdays, u32::from(day.weekday().number_days_from_sunday()));
        has(self.months, u32::from(u8::from(day.month()))) && if self.either_day { by_month || by_week } else { by_month && by_week }
    }

    /// The first moment after `after`.
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let minute = after.seconds().div_euclid(60).checked_add(1)?;
        let start = OffsetDateTime::from_unix_timestamp(minute.checked_mul(60)?).ok()?.to_offset(UtcOffset::UTC);
        let (mut day, mut from) = (start.date(), (start.hour(), start.minute()));
        for _ in 0..=DAYS_MAX {
            if self.fits(day)
                && let Some((hour, minute)) = self.time(from)
            {
                let at = day.with_time(Time::from_hms(hour, minute, 0).ok()?).assume_utc();
                return Some(Timestamp::from_seconds(at.unix_timestamp()));
            }
            day = day.next_day()?;
            from = (0, 0);
        }
        None
    }

    /// The first hour and minute of a day, not before `from`.
    fn time(&self, from: (u8, u8)) -> Option<(u8, u8)> {
        let hours = (from.0..24).filter(|hour| has(self.hours, u32::from(*hour)));
        hours.flat_map(|hour| (0..60).map(move |minute| (hour, minute))).find(|at| *at >= from && has(self.minutes, u32::from(at.1)))
    }
}

fn has(bits: u64, value: u32) -> bool {
    bits >> value & 1 == 1
}

impl Field {
    fn bits(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    fn part(&self, text: &str) -> Result<u64, String> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(self.number(step)?)),
            None => (text, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (self.least, self.most),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None => (self.value(range)?, if step.is_some() { self.most } else { self.value(range)? }),
        };
        let step = step.unwrap_or(1);
        if step == 0 || first > last {
            return Err(format!("{} {:?} is no range", self.name, Brief(text)));
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        Ok((first..=last).step_by(step).fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        let named = self.names.iter().zip(self.least..).find(|(name, _)| **name == lower).map(|(_, value)| value);
        let value = named.map_or_else(|| self.number(text), Ok)?;
        if (self.least..=self.most).contains(&value) {
            return Ok(value);
        }
        Err(format!("{} {:?} is not between {} and {}", self.name, Brief(text), self.least, self.most))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(|| format!("{} {:?} is not understood", self.name, Brief(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn after(line: &str, start: &str) -> String {
        Cron::parse(line).unwrap().next(at(start)).unwrap().to_string()
    }

    #[test]
    fn lines_come_when_cron_says() {
        // 2026-01-02 is a Friday.
        let start = "2026-01-02T03:04:05Z";
        for (line, next) in [
            ("* * * * *", "2026-01-02T03:05:00Z"),
            ("4 3 * * *", "2026-01-03T03:04:00Z"),
            ("5 3 * * *", "2026-01-02T03:05:00Z"),
            ("*/15 * * * *", "2026-01-02T03:15:00Z"),
            ("50/5 * * * *", "2026-01-02T03:50:00Z"),
            ("0 0 * * SUN", "2026-01-04T00:00:00Z"),
            ("0 0 * * 7", "2026-01-04T00:00:00Z"),
            ("30 22-23 * * mon-fri", "2026-01-02T22:30:00Z"),
            ("0 9 1,15 * *", "2026-01-15T09:00:00Z"),
            ("0 0 15 * sat", "2026-01-03T00:00:00Z"),
            ("0 0 1-7 * ?", "2026-01-03T00:00:00Z"),
            ("0 0 29 feb *", "2028-02-29T00:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
            ("@hourly", "2026-01-02T04:00:00Z"),
        ] {
            assert_eq!(after(line, start), next, "{line}");
        }
        assert_eq!(after("0 0 29 2 *", "2096-03-01T00:00:00Z"), "2104-02-29T00:00:00Z", "eight years without a leap day");
    }

    #[test]
    fn what_is_no_line_is_refused_with_the_field() {
        for (line, said) in [
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("60 * * * *", "minute \"60\" is not between 0 and 59"),
            ("* * 0 * *", "day of month \"0\""),
            ("* * * foo *", "month \"foo\" is not understood"),
            ("*/0 * * * *", "minute \"*/0\" is no range"),
            ("5-1 * * * *", "minute \"5-1\" is no range"),
            ("+5 * * * *", "is not understood"),
            ("0 0 30 2 *", "never comes"),
            ("@reboot", "1 fields"),
        ] {
            let problem = Cron::parse(line).unwrap_err();
            assert!(problem.contains(said), "{line}: {problem}");
        }
        assert!(Cron::parse(&"* ".repeat(200)).unwrap_err().contains("over the limit of 256"));
    }

    #[test]
    fn a_period_and_a_line_take_each_others_place() {
        let line = |line: &str, window| Wanted { line: Some(line.to_owned()), window, ..Wanted::default() };
        let period = |seconds| Wanted { period: Some(Seconds(seconds)), ..Wanted::default() };
        let daily = Schedule::default().with(line("@daily", Some(Seconds(3600)))).unwrap();
        assert_eq!((daily.rotation_schedule.as_str(), daily.rotation_window), ("@daily", Seconds(3600)));
        let hourly = daily.with(period(3600)).unwrap();
        assert_eq!(hourly, Schedule { rotation_period: Seconds(3600), ..Schedule::default() });
        assert_eq!(hourly.with(Wanted::default()).unwrap(), hourly);
        assert_eq!(hourly.with(line("@daily", None)).unwrap().rotation_period, Seconds::ZERO);
        assert!(!hourly.with(period(0)).unwrap().is_set());
        assert!(!daily.with(line("", None)).unwrap().is_set());
        let text = |schedule: &Schedule, wanted| schedule.with(wanted).unwrap_err().message;
        let both = Wanted { period: Some(Seconds(60)), ..line("@daily", None) };
        assert!(text(&daily, both).starts_with("mutually exclusive fields"));
        let window = Wanted { window: Some(Seconds(60)), ..Wanted::default() };
        assert_eq!(text(&hourly, window.clone()), "cannot use rotation_window without rotation_schedule");
        assert_eq!(text(&hourly, Wanted { window: Some(Seconds(60)), ..period(60) }), "rotation_window does not apply to period");
        assert_eq!(daily.with(window).unwrap().rotation_window, Seconds(60));
        assert!(text(&hourly, line("soon", None)).contains("\"soon\""));
    }

    #[test]
    fn what_its_window_missed_waits_for_the_next_time() {
        let schedule = Schedule { rotation_schedule: "0 2 * * *".to_owned(), rotation_window: Seconds(3600), ..Schedule::default() };
        let since = at("2026-01-01T12:00:00Z");
        let due = |now: &str| schedule.due(since, at(now)).unwrap().to_string();
        assert_eq!(due("2026-01-02T01:00:00Z"), "2026-01-02T02:00:00Z");
        assert_eq!(due("2026-01-02T03:00:00Z"), "2026-01-02T02:00:00Z");
        assert_eq!(due("2026-01-02T03:00:01Z"), "2026-01-03T02:00:00Z");
        assert_eq!(due("2026-01-09T02:30:00Z"), "2026-01-09T02:00:00Z");
        let open = Schedule { rotation_window: Seconds::ZERO, ..schedule };
        assert_eq!(open.due(since, at("2026-01-09T02:30:00Z")).unwrap().to_string(), "2026-01-02T02:00:00Z", "late is better than never");
    }
}
