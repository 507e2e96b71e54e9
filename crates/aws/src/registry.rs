//! Names of ECR's registries, read as strictly as AWS writes them: whoever is given a login under such a name has to be AWS.
//!
//! Sources: AWS General Reference, "ECR endpoints"; ECR's guide, "Making requests over IPv6"; the pattern of amazon-ecr-credential-helper.

use crate::ecr::PUBLIC_REGISTRY;
use crate::partition::Partition;

/// A registry, the same under each of its names: plain, FIPS, dual-stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry<'a> {
    /// Of an account in a region.
    Private {
        /// Whose hosts these are.
        partition: Partition,
        /// Twelve digits.
        account: &'a str,
        /// A region of the partition.
        region: &'a str,
    },
    /// The one of ECR Public.
    Public,
}

impl<'a> Registry<'a> {
    /// The registry of this host; `None` for any name that is not AWS's to the last letter.
    ///
    /// ```
    /// use daypass_aws::Registry;
    /// let plain = Registry::named("111111111111.dkr.ecr.us-east-1.amazonaws.com");
    /// assert!(plain.is_some());
    /// assert_eq!(Registry::named("111111111111.dkr-ecr-fips.us-east-1.on.aws"), plain);
    /// assert_eq!(Registry::named("111111111111.dkr.ecr.us-east-1.evil.example"), None);
    /// ```
    #[must_use]
    pub fn named(host: &'a str) -> Option<Self> {
        if PUBLIC_REGISTRY.strip_prefix("https://") == Some(host) {
            return Some(Self::Public);
        }
        let (account, rest) = host.split_once('.')?;
        let after = |services: [&str; 2]| services.into_iter().find_map(|service| rest.strip_prefix(service));
        let (place, is_dual) = match after(["dkr.ecr.", "dkr.ecr-fips."]) {
            Some(place) => (place, false),
            None => (after(["dkr-ecr.", "dkr-ecr-fips."])?, true),
        };
        let (region, suffix) = place.split_once('.')?;
        let is_region = !region.is_empty() && region.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let partition = Partition::of_region(region);
        let theirs = if is_dual { partition.dual_stack_registries() } else { Some(partition.dns_suffix()) };
        (is_account && is_region && theirs == Some(suffix)).then_some(Self::Private { partition, account, region })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_known_under_all_its_names() {
        let of = |region| Some(Registry::Private { partition: Partition::of_region(region), account: "111111111111", region });
        for (region, names) in [
            ("us-east-1", ["dkr.ecr.us-east-1.amazonaws.com", "dkr.ecr-fips.us-east-1.amazonaws.com", "dkr-ecr.us-east-1.on.aws"]),
            ("us-gov-west-1", ["dkr-ecr-fips.us-gov-west-1.on.aws", "dkr.ecr.us-gov-west-1.amazonaws.com", "dkr-ecr.us-gov-west-1.on.aws"]),
            (
                "cn-north-1",
                [
                    "dkr.ecr.cn-north-1.amazonaws.com.cn",
                    "dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
                    "dkr.ecr-fips.cn-north-1.amazonaws.com.cn",
                ],
            ),
            ("us-iso-east-1", ["dkr.ecr.us-iso-east-1.c2s.ic.gov"; 3]),
            ("eusc-de-east-1", ["dkr.ecr.eusc-de-east-1.amazonaws.eu"; 3]),
        ] {
            for name in names {
                assert_eq!(Registry::named(&format!("111111111111.{name}")), of(region), "{name}");
            }
        }
        assert_eq!(Registry::named("public.ecr.aws"), Some(Registry::Public));
    }

    /// Story: account and region were read off the first labels, whatever domain stood behind them: anybody's registry got the password.
    #[test]
    fn what_only_begins_like_a_registry_is_none() {
        for name in [
            "",
            "docker.io",
            "index.docker.io",
            "public.ecr.aws.evil.example",
            "1.dkr.ecr.us-east-1.amazonaws.com",
            "11111111111x.dkr.ecr.us-east-1.amazonaws.com",
            "111111111111.s3.amazonaws.com",
            "111111111111.dkr.ecr.us-east-1",
            "111111111111.dkr.ecr.us-east-1.",
            "111111111111.dkr.ecr..amazonaws.com",
            "111111111111.dkr.ecr.amazonaws.com",
            "111111111111.dkr.ecr.us-east-1.evil.example",
            "111111111111.dkr.ecr.us-east-1.amazonaws.com.evil.example",
            "111111111111.dkr.ecr.us-east-1.amazonaws.com@evil.example",
            "111111111111.dkr.ecr.us-east-1.amazonaws.com:8443",
            "111111111111.dkr.ecr.us-east-1.amazonaws.com?x",
            "111111111111.dkr.ecr.us-east-1.amazonaws.com.",
            "111111111111.dkr.ecr.x@evil.amazonaws.com",
            "111111111111.dkr.ecr.us_east_1.amazonaws.com",
            "111111111111.dkr.ecr.us-east-1.amazonaws.com.cn",
            "111111111111.dkr.ecr.cn-north-1.amazonaws.com",
            "111111111111.dkr.ecr.us-east-1.on.aws",
            "111111111111.dkr-ecr.us-east-1.amazonaws.com",
            "111111111111.dkr-ecr.us-iso-east-1.on.aws",
            "111111111111.dkr.ecr-evil.us-east-1.amazonaws.com",
        ] {
            assert_eq!(Registry::named(name), None, "{name}");
        }
    }
}
