//! The sign-in endpoint of AWS's console: from a session to a page that somebody can open.

use daypass_base::{BoxFuture, Seconds, Secret};

use crate::Partition;
use crate::api::{Call, Credential, Result};

/// The call of the console's federation endpoint. Part of [`crate::Aws`]; the same rules hold.
pub trait SignIn: Send + Sync + 'static {
    /// `getSigninToken`, made into a URL that opens the console for who has it, if it is opened within fifteen minutes.
    fn sign_in<'a>(&'a self, call: Call<'a>, visit: ConsoleVisit) -> BoxFuture<'a, Result<Secret<String>>>;
}

/// A visit to the console.
#[derive(Debug, Clone)]
pub struct ConsoleVisit {
    /// Whose session it is: a role's, or a federated user's. Sessions of `GetSessionToken` are not taken.
    pub session: Credential,
    /// The endpoint, as [`Partition::federation`] names it.
    pub endpoint: String,
    /// The page to open.
    pub destination: String,
    /// The page to sign in again; may be empty.
    pub issuer: String,
    /// Lifetime of the console's session, 900 s to 12 h. `None`: as long as the credential, one hour for chained ones. AWS refuses any
    /// other of sessions that were made by another role's session, and of federated users.
    pub duration: Option<Seconds>,
}

impl Partition {
    /// The federation endpoint in a region. Sources: IAM User Guide, "Custom identity broker"; AWS Sign-In endpoints.
    ///
    /// ```
    /// use daypass_aws::Partition;
    /// assert_eq!(Partition::Aws.federation(None), "https://signin.aws.amazon.com/federation");
    /// assert_eq!(Partition::EuropeanSovereign.federation(None), "https://eusc-de-east-1.signin.amazonaws-eusc.eu/federation");
    /// ```
    #[must_use]
    pub fn federation(self, region: Option<&str>) -> String {
        let domain = match self {
            Self::Aws => "signin.aws.amazon.com",
            Self::China => "signin.amazonaws.cn",
            Self::EuropeanSovereign => "signin.amazonaws-eusc.eu",
            Self::GovCloud => "signin.amazonaws-us-gov.com",
            Self::Iso => "signin.c2shome.ic.gov",
            Self::IsoB => "signin.sc2shome.sgov.gov",
            Self::IsoE => "signin.csphome.adc-e.uk",
            Self::IsoF => "signin.csphome.hci.ic.gov",
        };
        // Three partitions have an endpoint for all of their regions.
        let global = matches!(self, Self::Aws | Self::China | Self::GovCloud);
        match region {
            None if global => format!("https://{domain}/federation"),
            region => format!("https://{}.{domain}/federation", region.unwrap_or(self.main_region())),
        }
    }

    /// The page that its console begins with.
    ///
    /// ```
    /// use daypass_aws::Partition;
    /// assert_eq!(Partition::GovCloud.console_home(), "https://console.amazonaws-us-gov.com/");
    /// ```
    #[must_use]
    pub fn console_home(self) -> String {
        match self {
            Self::Aws | Self::China | Self::GovCloud => format!("https://{}/", self.console()),
            _ => format!("https://{}.{}/", self.main_region(), self.console()),
        }
    }

    /// The domain of its console.
    #[must_use]
    pub fn console(self) -> &'static str {
        match self {
            Self::Aws => "console.aws.amazon.com",
            Self::China => "console.amazonaws.cn",
            Self::EuropeanSovereign => "console.amazonaws-eusc.eu",
            Self::GovCloud => "console.amazonaws-us-gov.com",
            Self::Iso => "console.c2shome.ic.gov",
            Self::IsoB => "console.sc2shome.sgov.gov",
            Self::IsoE => "console.csphome.adc-e.uk",
            Self::IsoF => "console.csphome.hci.ic.gov",
        }
    }
}
