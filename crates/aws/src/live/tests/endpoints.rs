//! Where calls go: partitions, endpoints and regions of the configuration, fallbacks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use daypass_base::SystemClock;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::{LiveAws, Settings, call, calls, child, in_child, root_keys, sandbox};
use crate::{Aws, Call, ErrorKind, Iam, StsEndpoint, Target};

/// A region of each partition, and its hosts of STS and IAM. Source: AWS General Reference, "Endpoints and quotas" of both services.
const PARTITIONS: [(&str, &str, &str); 9] = [
    ("us-east-1", "sts.us-east-1.amazonaws.com", "iam.amazonaws.com"),
    ("eu-west-1", "sts.eu-west-1.amazonaws.com", "iam.amazonaws.com"),
    ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn", "iam.cn-north-1.amazonaws.com.cn"),
    ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com", "iam.us-gov.amazonaws.com"),
    ("eusc-de-east-1", "sts.eusc-de-east-1.amazonaws.eu", "iam.eusc-de-east-1.amazonaws.eu"),
    ("us-iso-east-1", "sts.us-iso-east-1.c2s.ic.gov", "iam.us-iso-east-1.c2s.ic.gov"),
    ("us-isob-east-1", "sts.us-isob-east-1.sc2s.sgov.gov", "iam.us-isob-east-1.sc2s.sgov.gov"),
    ("eu-isoe-west-1", "sts.eu-isoe-west-1.cloud.adc-e.uk", "iam.eu-isoe-west-1.cloud.adc-e.uk"),
    ("us-isof-south-1", "sts.us-isof-south-1.csp.hci.ic.gov", "iam.us-isof-south-1.csp.hci.ic.gov"),
];

/// A proxy that leads nowhere, and the hosts that it was asked for.
async fn dead_end() -> (String, Arc<Mutex<Vec<String>>>) {
    let hosts = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::clone(&hosts);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            seen.lock().unwrap().extend(head.split_whitespace().nth(1).map(str::to_owned));
        }
    });
    (url, hosts)
}

#[tokio::test]
async fn the_region_says_where_sts_and_iam_are_in_every_partition() {
    let (proxy, hosts) = dead_end().await;
    child("endpoints::child_calls_each_partition", vec![("HTTPS_PROXY".to_owned(), proxy)]).await;
    let wanted: Vec<String> = PARTITIONS.iter().flat_map(|(_, sts, iam)| [format!("{sts}:443"), format!("{iam}:443")]).collect();
    assert_eq!(*hosts.lock().unwrap(), wanted);
}

#[tokio::test]
async fn child_calls_each_partition() {
    if !in_child() {
        return;
    }
    let aws = LiveAws::new(Arc::new(SystemClock::new()), Settings::default());
    for (region, ..) in PARTITIONS {
        let target = Target { region: Some(region.to_owned()), keys: Some(root_keys()), max_retries: Some(0), ..Target::default() };
        let call = Call::usual(&target, Duration::from_secs(10));
        assert_eq!(aws.get_caller_identity(call).await.unwrap_err().kind, ErrorKind::Unreachable, "{region}");
        assert_eq!(aws.get_user(call, None).await.unwrap_err().kind, ErrorKind::Unreachable, "{region}");
    }
}

#[tokio::test]
async fn sts_and_iam_have_endpoints_of_their_own_with_fallbacks_for_sts() {
    let clock: Arc<dyn daypass_base::Clock> = Arc::new(SystemClock::new());
    let (sts, iam) = (sandbox(Arc::clone(&clock)).await, sandbox(Arc::clone(&clock)).await);
    let aws = LiveAws::new(clock, Settings::default());
    let endpoint = |url: String, region: &str| StsEndpoint { url, region: Some(region.to_owned()) };
    let target = Target {
        region: Some("us-east-1".to_owned()),
        sts_endpoints: vec![endpoint("http://127.0.0.1:1".to_owned(), "eu-north-1"), endpoint(sts.url(), "eu-west-1")],
        iam_endpoint: Some(iam.url()),
        keys: Some(root_keys()),
        max_retries: Some(0),
        ..Target::default()
    };
    aws.get_caller_identity(call(&target)).await.unwrap();
    let user = aws.get_user(call(&target), None).await.unwrap();
    assert_eq!(user.name, "daypass-root");
    assert_eq!((calls(&sts, "GetCallerIdentity"), calls(&sts, "GetUser")), (1, 0));
    assert_eq!((calls(&iam, "GetCallerIdentity"), calls(&iam, "GetUser")), (0, 1));
}

#[tokio::test]
async fn temporary_keys_sign_with_their_session_token() {
    let clock: Arc<dyn daypass_base::Clock> = Arc::new(SystemClock::new());
    let sandbox = sandbox(Arc::clone(&clock)).await;
    let aws = LiveAws::new(clock, Settings { endpoint: Some(sandbox.url()), ..Settings::default() });
    let target = Target { region: Some("us-east-1".to_owned()), keys: Some(root_keys()), ..Target::default() };
    let session = aws.get_session_token(call(&target), crate::SessionToken { duration: daypass_base::Seconds(900), ..Default::default() });
    let session = session.await.unwrap();
    let keys = crate::StaticKeys { access_key_id: session.access_key_id, secret_access_key: session.secret_access_key };
    let with = Target { keys: Some(keys.clone()), session_token: Some(session.session_token), ..target.clone() };
    let own = aws.get_caller_identity(call(&with)).await.unwrap();
    assert_eq!(own.arn, "arn:aws:iam::999999999999:user/daypass-root");
    let without = Target { keys: Some(keys), ..target };
    assert_eq!(aws.get_caller_identity(call(&without)).await.unwrap_err().kind, ErrorKind::Denied);
}
