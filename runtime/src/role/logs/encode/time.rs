//! RFC 3339 timestamps. Lines come in bursts within one second, so the second is kept as text.

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Formats nanoseconds since 1970 as `2026-01-31T23:59:59.123456789Z`.
#[derive(Debug)]
pub struct Clock {
    second: i64,
    text: [u8; 19],
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            second: 0,
            text: *b"1970-01-01T00:00:00",
        }
    }
}

impl Clock {
    /// Appends `time`. Every `i64` lies between the years 1677 and 2262, so four digits do.
    pub fn push(&mut self, time: i64, out: &mut Vec<u8>) {
        let mut fraction = *b".000000000Z";
        digits(time.rem_euclid(NANOS) as u64, &mut fraction[1..10]);
        out.extend_from_slice(self.second(time));
        out.extend_from_slice(&fraction);
    }

    /// The same with six digits of fraction, the rest cut off.
    pub fn push_micros(&mut self, time: i64, out: &mut Vec<u8>) {
        let mut fraction = *b".000000Z";
        digits(time.rem_euclid(NANOS) as u64 / 1000, &mut fraction[1..7]);
        out.extend_from_slice(self.second(time));
        out.extend_from_slice(&fraction);
    }

    fn second(&mut self, time: i64) -> &[u8] {
        let second = time.div_euclid(NANOS);
        if second != self.second {
            self.second = second;
            self.text = second_text(second);
        }
        &self.text
    }
}

fn second_text(second: i64) -> [u8; 19] {
    let (year, month, day) = civil(second.div_euclid(DAY));
    let of_day = second.rem_euclid(DAY) as u64;
    let mut text = *b"0000-00-00T00:00:00";
    digits(year.unsigned_abs(), &mut text[0..4]);
    digits(month, &mut text[5..7]);
    digits(day, &mut text[8..10]);
    digits(of_day / 3600, &mut text[11..13]);
    digits(of_day / 60 % 60, &mut text[14..16]);
    digits(of_day % 60, &mut text[17..19]);
    text
}

fn digits(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is a year's last; 146,097 days make the 400
/// years after which the calendar repeats.
fn civil(days: i64) -> (i64, u64, u64) {
    const ERA: i64 = 146_097;
    let from_march_0000 = days + 719_468;
    let era = from_march_0000.div_euclid(ERA);
    let of_era = from_march_0000.rem_euclid(ERA) as u64;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era as i64 + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(time: i64) -> String {
        let mut out = Vec::new();
        Clock::default().push(time, &mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn agrees_with_the_calendar_library(time in any::<i64>()) {
            let theirs = jiff::Timestamp::from_nanosecond(i128::from(time)).unwrap();
            let text = text(time);
            prop_assert_eq!(&text, &format!("{theirs:.9}"));
            let mut micros = Vec::new();
            Clock::default().push_micros(time, &mut micros);
            prop_assert_eq!(String::from_utf8(micros).unwrap(), format!("{}Z", &text[..26]));
        }
    }

    #[test]
    fn the_remembered_second_is_left_when_time_moves() {
        let mut clock = Clock::default();
        let mut out = Vec::new();
        for time in [0, -1, NANOS, 0] {
            clock.push(time, &mut out);
            out.push(b' ');
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "1970-01-01T00:00:00.000000000Z 1969-12-31T23:59:59.999999999Z \
             1970-01-01T00:00:01.000000000Z 1970-01-01T00:00:00.000000000Z "
        );
    }
}
