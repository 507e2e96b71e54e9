//! AWS's partitions: which one a region or an ARN is in, and the names of hosts there.
//!
//! Sources: AWS General Reference, "ECR endpoints"; IAM User Guide, "Custom identity broker access to the console"; AWS Sign-In endpoints.

/// A part of AWS with accounts and hosts of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Partition {
    /// `aws`: the commercial regions.
    Aws,
    /// `aws-cn`.
    China,
    /// `aws-eusc`: the European Sovereign Cloud.
    EuropeanSovereign,
    /// `aws-us-gov`.
    GovCloud,
    /// `aws-iso`.
    Iso,
    /// `aws-iso-b`.
    IsoB,
    /// `aws-iso-e`.
    IsoE,
    /// `aws-iso-f`.
    IsoF,
}

impl Partition {
    const ALL: [Self; 8] = [Self::Aws, Self::China, Self::EuropeanSovereign, Self::GovCloud, Self::Iso, Self::IsoB, Self::IsoE, Self::IsoF];

    /// The partition of this name, as ARNs have it.
    ///
    /// ```
    /// use daypass_aws::Partition;
    /// assert_eq!(Partition::named("aws-cn"), Some(Partition::China));
    /// assert_eq!(Partition::named("aws-mars"), None);
    /// ```
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|partition| partition.name() == name)
    }

    /// The partition of a region, by the beginning of its name: regions that are new are in the commercial one.
    ///
    /// ```
    /// use daypass_aws::Partition;
    /// assert_eq!(Partition::of_region("eusc-de-east-1"), Partition::EuropeanSovereign);
    /// assert_eq!(Partition::of_region("eu-west-1"), Partition::Aws);
    /// ```
    #[must_use]
    pub fn of_region(region: &str) -> Self {
        let beginnings = [
            ("cn-", Self::China),
            ("eu-isoe-", Self::IsoE),
            ("eusc-", Self::EuropeanSovereign),
            ("us-gov-", Self::GovCloud),
            ("us-iso-", Self::Iso),
            ("us-isob-", Self::IsoB),
            ("us-isof-", Self::IsoF),
        ];
        beginnings.into_iter().find(|(beginning, _)| region.starts_with(beginning)).map_or(Self::Aws, |(_, partition)| partition)
    }

    /// Its name in ARNs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::China => "aws-cn",
            Self::EuropeanSovereign => "aws-eusc",
            Self::GovCloud => "aws-us-gov",
            Self::Iso => "aws-iso",
            Self::IsoB => "aws-iso-b",
            Self::IsoE => "aws-iso-e",
            Self::IsoF => "aws-iso-f",
        }
    }

    /// What its hosts of services and registries end in.
    #[must_use]
    pub fn dns_suffix(self) -> &'static str {
        match self {
            Self::Aws | Self::GovCloud => "amazonaws.com",
            Self::China => "amazonaws.com.cn",
            Self::EuropeanSovereign => "amazonaws.eu",
            Self::Iso => "c2s.ic.gov",
            Self::IsoB => "sc2s.sgov.gov",
            Self::IsoE => "cloud.adc-e.uk",
            Self::IsoF => "csp.hci.ic.gov",
        }
    }

    /// What its dual-stack hosts of registries end in; `None` where it is not known to have any.
    pub(crate) fn dual_stack_registries(self) -> Option<&'static str> {
        match self {
            Self::Aws | Self::GovCloud => Some("on.aws"),
            Self::China => Some("on.amazonwebservices.com.cn"),
            Self::EuropeanSovereign | Self::Iso | Self::IsoB | Self::IsoE | Self::IsoF => None,
        }
    }

    /// The region to use where nothing says one.
    #[must_use]
    pub fn main_region(self) -> &'static str {
        match self {
            Self::Aws => "us-east-1",
            Self::China => "cn-north-1",
            Self::EuropeanSovereign => "eusc-de-east-1",
            Self::GovCloud => "us-gov-west-1",
            Self::Iso => "us-iso-east-1",
            Self::IsoB => "us-isob-east-1",
            Self::IsoE => "eu-isoe-west-1",
            Self::IsoF => "us-isof-south-1",
        }
    }

    /// The URL of ECR's API in a region.
    ///
    /// ```
    /// use daypass_aws::Partition;
    /// assert_eq!(Partition::China.ecr_api("cn-north-1"), "https://api.ecr.cn-north-1.amazonaws.com.cn");
    /// ```
    #[must_use]
    pub fn ecr_api(self, region: &str) -> String {
        format!("https://api.ecr.{region}.{}", self.dns_suffix())
    }

    /// The URL of EC2's API in a region.
    ///
    /// ```
    /// use daypass_aws::Partition;
    /// assert_eq!(Partition::Aws.ec2_api("eu-west-1"), "https://ec2.eu-west-1.amazonaws.com");
    /// ```
    #[must_use]
    pub fn ec2_api(self, region: &str) -> String {
        format!("https://ec2.{region}.{}", self.dns_suffix())
    }

    /// The host of an account's registry in a region.
    ///
    /// ```
    /// use daypass_aws::Partition;
    /// let host = Partition::EuropeanSovereign.registry("111111111111", "eusc-de-east-1");
    /// assert_eq!(host, "111111111111.dkr.ecr.eusc-de-east-1.amazonaws.eu");
    /// ```
    #[must_use]
    pub fn registry(self, account: &str, region: &str) -> String {
        format!("{account}.dkr.ecr.{region}.{}", self.dns_suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_is_found_by_its_name_and_by_its_main_region() {
        for partition in Partition::ALL {
            assert_eq!(Partition::named(partition.name()), Some(partition));
            assert_eq!(Partition::of_region(partition.main_region()), partition);
        }
    }

    #[test]
    fn registries_are_named_as_aws_names_them() {
        for (region, host) in [
            ("eu-west-1", "111111111111.dkr.ecr.eu-west-1.amazonaws.com"),
            ("us-gov-east-1", "111111111111.dkr.ecr.us-gov-east-1.amazonaws.com"),
            ("cn-northwest-1", "111111111111.dkr.ecr.cn-northwest-1.amazonaws.com.cn"),
            ("us-isob-east-1", "111111111111.dkr.ecr.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            assert_eq!(Partition::of_region(region).registry("111111111111", region), host);
        }
    }
}
