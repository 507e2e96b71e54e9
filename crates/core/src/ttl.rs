//! How long tokens and leases live: the arithmetic of Vault's expiration, pure.

use daypass_base::{Seconds, Timestamp, duration};

/// What goes into the decision. All lifetimes in seconds; zero is "not set".
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// When the token or lease was first issued.
    pub(crate) issued: Timestamp,
    pub(crate) now: Timestamp,
    /// The mount's default and maximum.
    pub(crate) mount_default: Seconds,
    pub(crate) mount_max: Seconds,
    /// The role's or the request's lifetime.
    pub(crate) ttl: Seconds,
    /// The role's maximum.
    pub(crate) max_ttl: Seconds,
    /// A limit that holds even for periodic tokens.
    pub(crate) explicit_max: Seconds,
    /// Set for periodic tokens.
    pub(crate) period: Seconds,
    /// What a renewing client asks for.
    pub(crate) increment: Seconds,
}

/// The lifetime granted, and a remark when it is less than asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) ttl: Seconds,
    pub(crate) warning: Option<String>,
}

/// The life of a token or lease is over: no renewal can lengthen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PastMax;

/// Decides how long from `now` it lives.
pub(crate) fn grant(wish: &Wish) -> Result<Grant, PastMax> {
    if !wish.period.is_zero() {
        return periodic(wish);
    }
    let asked = [wish.increment, wish.ttl, wish.mount_default].into_iter().find(|ttl| !ttl.is_zero()).unwrap_or_default();
    let max = least([wish.mount_max, wish.max_ttl, wish.explicit_max]);
    let end = wish.issued + max;
    if max.is_zero() || wish.now + asked <= end {
        return Ok(Grant { ttl: asked, warning: None });
    }
    let left = Seconds::from(end.since(wish.now));
    if left.is_zero() {
        return Err(PastMax);
    }
    Ok(Grant { ttl: left, warning: Some(capped(asked, max)) })
}

fn periodic(wish: &Wish) -> Result<Grant, PastMax> {
    let mut grant = Grant { ttl: wish.period, warning: None };
    if !wish.mount_max.is_zero() && wish.period > wish.mount_max {
        grant.ttl = wish.mount_max;
        grant.warning = Some(format!(
            "period of \"{}\" exceeded the effective max_ttl of \"{}\"; period value is capped accordingly",
            short(wish.period),
            short(wish.mount_max)
        ));
    }
    if !wish.explicit_max.is_zero() {
        let left = Seconds::from((wish.issued + wish.explicit_max).since(wish.now));
        if left.is_zero() {
            return Err(PastMax);
        }
        if grant.ttl > left {
            grant.warning = Some(capped(grant.ttl, wish.explicit_max));
            grant.ttl = left;
        }
    }
    Ok(grant)
}

fn capped(asked: Seconds, max: Seconds) -> String {
    format!("TTL of \"{}\" exceeded the effective max_ttl of \"{}\"; TTL value is capped accordingly", short(asked), short(max))
}

fn short(seconds: Seconds) -> String {
    duration::short_string(seconds.duration())
}

/// The least of those that are set; zero when none is.
pub(crate) fn least(values: impl IntoIterator<Item = Seconds>) -> Seconds {
    values.into_iter().filter(|value| !value.is_zero()).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn wish() -> Wish {
        let now = Timestamp::from_seconds(1_000_000);
        Wish {
            issued: now,
            now,
            mount_default: Seconds(768 * HOUR),
            mount_max: Seconds(768 * HOUR),
            ttl: Seconds::ZERO,
            max_ttl: Seconds::ZERO,
            explicit_max: Seconds::ZERO,
            period: Seconds::ZERO,
            increment: Seconds::ZERO,
        }
    }

    #[test]
    fn the_mounts_default_serves_when_nobody_asks() {
        assert_eq!(grant(&wish()).unwrap(), Grant { ttl: Seconds(768 * HOUR), warning: None });
    }

    #[test]
    fn a_wish_over_the_maximum_is_cut_with_a_warning() {
        let granted = grant(&Wish { ttl: Seconds(2 * HOUR), max_ttl: Seconds(HOUR), ..wish() }).unwrap();
        assert_eq!(granted.ttl, Seconds(HOUR));
        assert_eq!(granted.warning.unwrap(), "TTL of \"2h\" exceeded the effective max_ttl of \"1h\"; TTL value is capped accordingly");
    }

    #[test]
    fn a_renewal_counts_from_now_and_ends_with_the_maximum() {
        let later = Wish { now: wish().issued + Seconds(HOUR), increment: Seconds(2 * HOUR), explicit_max: Seconds(2 * HOUR), ..wish() };
        assert_eq!(grant(&later).unwrap().ttl, Seconds(HOUR));
        let over = Wish { now: wish().issued + Seconds(3 * HOUR), ..later };
        assert_eq!(grant(&over), Err(PastMax));
    }

    #[test]
    fn a_renewal_may_shorten() {
        assert_eq!(grant(&Wish { ttl: Seconds(HOUR), increment: Seconds(60), ..wish() }).unwrap().ttl, Seconds(60));
    }

    #[test]
    fn a_period_has_no_end_but_the_explicit_one() {
        let long_ago = Wish { now: wish().issued + Seconds(9_000 * HOUR), period: Seconds(HOUR), ..wish() };
        assert_eq!(grant(&long_ago).unwrap().ttl, Seconds(HOUR));
        assert_eq!(grant(&Wish { explicit_max: Seconds(9_000 * HOUR), ..long_ago }), Err(PastMax));
        assert_eq!(grant(&Wish { explicit_max: Seconds(9_000 * HOUR + 60), ..long_ago }).unwrap().ttl, Seconds(60));
    }
}
