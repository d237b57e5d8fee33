//! Times on the command line and in reports, always UTC.

use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::UnixSeconds;

/// Seconds of a UTC day; Unix time has no leap seconds.
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The last second that RFC 3339 can write.
const LAST_SECOND: i64 = 253_402_300_799;

/// A time as an operator names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// `2026-07-31` (its first second), or `2026-07-31T12:00:00Z`.
    At(UnixSeconds),
    /// `24h`, `7d`: so many seconds before now.
    Ago(u64),
}

impl When {
    /// The time that is meant.
    pub(super) const fn from(self, now: UnixSeconds) -> UnixSeconds {
        match self {
            Self::At(time) => time,
            Self::Ago(seconds) => UnixSeconds(now.0.saturating_sub(seconds)),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || {
            "not a time: write a day such as 2026-07-31, a time such as 2026-07-31T12:00:00Z, or how long ago \
             such as 90m, 24h, 7d"
                .to_owned()
        };
        if let Some(seconds) = ago(text) {
            return Ok(Self::Ago(seconds));
        }
        // A day is its first second.
        let whole = if text.contains(['T', 't']) { text.to_owned() } else { format!("{text}T00:00:00Z") };
        let time = OffsetDateTime::parse(&whole, &Rfc3339).map_err(|_| malformed())?;
        let seconds = u64::try_from(time.unix_timestamp()).map_err(|_| "before 1970".to_owned())?;
        Ok(Self::At(UnixSeconds(seconds)))
    }
}

/// The seconds of `90s`, `90m`, `24h`, `7d`, `2w`.
fn ago(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => DAY_SECONDS,
        "w" => 7 * DAY_SECONDS,
        _ => return None,
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Writes a time as RFC 3339, `2026-07-31T12:00:00Z`; what lies beyond the year 9999 is its end.
pub(super) fn shown(time: UnixSeconds) -> String {
    let seconds = i64::try_from(time.0).unwrap_or(LAST_SECOND).min(LAST_SECOND);
    let formatted =
        OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|time| time.format(&Rfc3339).ok());
    // Every second up to the last one can be written.
    formatted.unwrap_or_else(|| time.0.to_string())
}

/// A day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(u64);

impl Day {
    /// The day a time falls on.
    pub(super) const fn of(time: UnixSeconds) -> Self {
        Self(time.0 / DAY_SECONDS)
    }

    /// `2026-07-31`.
    pub(super) fn shown(self) -> String {
        let mut text = shown(UnixSeconds(self.0.saturating_mul(DAY_SECONDS)));
        text.truncate("2026-07-31".len());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: UnixSeconds = UnixSeconds(1_785_499_200);

    #[test]
    fn days_times_and_durations_are_understood() {
        let now = NOON.plus(60);
        for (text, seconds) in [
            ("2026-07-31", 1_785_456_000),
            ("2026-07-31T12:00:00Z", NOON.0),
            ("2026-07-31t14:00:00+02:00", NOON.0),
            ("2026-07-31T12:00:00.999Z", NOON.0),
            ("1970-01-01", 0),
            ("60s", NOON.0),
            ("90m", now.0 - 5_400),
            ("24h", now.0 - 86_400),
            ("7d", now.0 - 604_800),
            ("2w", now.0 - 1_209_600),
            ("9999999d", 0),
        ] {
            assert_eq!(text.parse::<When>().map(|when| when.from(now).0), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "d",
            "-1d",
            "+1d",
            "1.5h",
            "7",
            "7y",
            "2026-02-30",
            "2026-7-1",
            "31.07.2026",
            "20260731",
            "2026-07-31T12:00:00",
            "2026-07-31T24:00:00Z",
            "yesterday",
            "99999999999999999999d",
            "7\u{20ac}",
        ] {
            let refused = text.parse::<When>().unwrap_err();
            assert!(refused.starts_with("not a time: "), "{text:?}: {refused}");
        }
        assert_eq!("1969-12-31".parse::<When>(), Err("before 1970".to_owned()));
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        assert_eq!(shown(NOON), "2026-07-31T12:00:00Z");
        assert_eq!(
            (Day::of(NOON).shown(), Day::of(UnixSeconds(0)).shown()),
            ("2026-07-31".into(), "1970-01-01".into())
        );
        assert_eq!(shown(UnixSeconds(u64::MAX)), "9999-12-31T23:59:59Z");
        assert_eq!(Day::of(UnixSeconds(u64::MAX)).shown(), "9999-12-31");
    }

    proptest! {
        #[test]
        fn every_time_is_read_as_it_was_written(seconds in 0..=253_402_300_799_u64) {
            let time = UnixSeconds(seconds);
            prop_assert_eq!(shown(time).parse::<When>(), Ok(When::At(time)));
            let day = Day::of(time);
            prop_assert_eq!(day.shown().parse::<When>(), Ok(When::At(UnixSeconds(day.0 * DAY_SECONDS))));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,30}") {
            let _ = text.parse::<When>();
        }
    }
}
