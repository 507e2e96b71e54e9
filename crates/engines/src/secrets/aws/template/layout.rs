//! Times by Go's layouts, in UTC: `2006-01-02T15:04:05Z07:00`.

use std::fmt::Write;

use daypass_base::Timestamp;

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The parts that stand for something, each before those that it starts with.
const PARTS: [&str; 27] = [
    "January", "Jan", "Monday", "Mon", "MST", "2006", "Z07:00", "Z0700", "-07:00", "-0700", "-07", "002", "01", "02", "03", "04", "05",
    "06", "15", "PM", "pm", "_2", "1", "2", "3", "4", "5",
];

/// Shows a moment by a layout.
pub(super) fn format(at: Timestamp, layout: &str) -> String {
    let mut out = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((digits, after)) = fraction(rest) {
            let nanos = format!("{:09}", at.date_time().nanosecond());
            out.push('.');
            out.push_str(nanos.get(..digits).unwrap_or(&nanos));
            rest = after;
        } else if let Some(part) = PARTS.into_iter().find(|part| rest.starts_with(part)) {
            show(&mut out, part, at);
            rest = rest.get(part.len()..).unwrap_or_default();
        } else {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

/// `.000`: that many digits of the second's fraction.
fn fraction(layout: &str) -> Option<(usize, &str)> {
    let after = layout.strip_prefix('.')?;
    let digits = after.bytes().take_while(|byte| *byte == b'0').count();
    let rest = after.get(digits..)?;
    (digits > 0 && digits <= 9 && !rest.starts_with(|c: char| c.is_ascii_digit())).then_some((digits, rest))
}

fn show(out: &mut String, part: &str, at: Timestamp) {
    let time = at.date_time();
    let (month, weekday) = (u8::from(time.month()), time.weekday().number_days_from_monday());
    let month_name = MONTHS.get(usize::from(month) - 1).copied().unwrap_or_default();
    let day_name = DAYS.get(usize::from(weekday)).copied().unwrap_or_default();
    let hour12 = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let _infallible = match part {
        "January" => write!(out, "{month_name}"),
        "Jan" => write!(out, "{}", month_name.get(..3).unwrap_or_default()),
        "Monday" => write!(out, "{day_name}"),
        "Mon" => write!(out, "{}", day_name.get(..3).unwrap_or_default()),
        "MST" => write!(out, "UTC"),
        "2006" => write!(out, "{:04}", time.year()),
        "06" => write!(out, "{:02}", time.year().rem_euclid(100)),
        "Z07:00" | "Z0700" => write!(out, "Z"),
        "-07:00" => write!(out, "+00:00"),
        "-0700" => write!(out, "+0000"),
        "-07" => write!(out, "+00"),
        "002" => write!(out, "{:03}", time.ordinal()),
        "01" => write!(out, "{month:02}"),
        "1" => write!(out, "{month}"),
        "02" => write!(out, "{:02}", time.day()),
        "_2" => write!(out, "{:>2}", time.day()),
        "2" => write!(out, "{}", time.day()),
        "15" => write!(out, "{:02}", time.hour()),
        "03" => write!(out, "{hour12:02}"),
        "3" => write!(out, "{hour12}"),
        "04" => write!(out, "{:02}", time.minute()),
        "4" => write!(out, "{}", time.minute()),
        "05" => write!(out, "{:02}", time.second()),
        "5" => write!(out, "{}", time.second()),
        "PM" => write!(out, "{}", if time.hour() < 12 { "AM" } else { "PM" }),
        "pm" => write!(out, "{}", if time.hour() < 12 { "am" } else { "pm" }),
        other => write!(out, "{other}"),
    };
}
