//! Lives of tokens, through the whole pipeline, on a simulated clock.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rooms::sys::tests::Server;

async fn made(server: &Server, path: &str, body: Value) -> String {
    let (status, answer) = server.ask("POST", path, body).await;
    assert_eq!(status, 200, "{answer}");
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

async fn status_of(server: &Server, token: &str) -> u16 {
    server.ask_as(Some(token), "GET", "auth/token/lookup-self", Value::Null).await.0
}

/// A token of a role with a period and an explicit maximum was renewed past that maximum: only the token's own limit was looked at.
#[tokio::test]
async fn a_period_does_not_outlive_the_roles_explicit_maximum() {
    let server = Server::start().await;
    server.ask("POST", "auth/token/roles/r", json!({ "token_period": "10m", "token_explicit_max_ttl": "15m" })).await;
    let token = made(&server, "auth/token/create/r", json!({ "policies": ["default"] })).await;
    server.clock.advance(Duration::from_mins(8));
    let (status, answer) = server.ask_as(Some(&token), "POST", "auth/token/renew-self", json!({})).await;
    assert_eq!((status, &answer["auth"]["lease_duration"]), (200, &json!(7 * 60)), "what is left of the maximum, not another period");
    server.clock.advance(Duration::from_mins(8));
    assert_eq!(status_of(&server, &token).await, 403);
}

#[tokio::test]
async fn a_token_ends_on_time_and_its_children_with_it() {
    let server = Server::start().await;
    server.ask("PUT", "sys/policies/acl/p", json!({ "policy": "path \"auth/token/*\" { capabilities = [\"read\", \"update\"] }" })).await;
    let parent = made(&server, "auth/token/create", json!({ "policies": ["p"], "ttl": "10m" })).await;
    let child = server.ask_as(Some(&parent), "POST", "auth/token/create", json!({ "ttl": "5h" })).await.1;
    let child = child["auth"]["client_token"].as_str().unwrap().to_owned();
    let batch = server.ask_as(Some(&parent), "POST", "auth/token/create", json!({ "type": "batch", "ttl": "5h" })).await.1;
    let batch = batch["auth"]["client_token"].as_str().unwrap().to_owned();
    let orphan = server.ask_as(Some(&parent), "POST", "auth/token/create-orphan", json!({ "ttl": "5h" })).await.1;
    let orphan = orphan["auth"]["client_token"].as_str().unwrap().to_owned();
    server.clock.advance(Duration::from_mins(9));
    assert_eq!(status_of(&server, &parent).await, 200);
    server.clock.advance(Duration::from_mins(2));
    assert_eq!((status_of(&server, &parent).await, status_of(&server, &batch).await), (403, 403), "at once");
    // The expiry worker wakes with the clock and takes the children along.
    for _ in 0..100 {
        server.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(status_of(&server, &child).await, 403);
    assert_eq!(status_of(&server, &orphan).await, 200, "orphans live on");
}

#[tokio::test]
async fn a_wrapped_answer_is_fetched_once_however_many_try() {
    let server = std::sync::Arc::new(Server::start().await);
    let mut headers = http::HeaderMap::new();
    headers.insert("x-vault-wrap-ttl", "60s".parse().unwrap());
    let wrapped = server.ask_with(headers, "POST", "auth/token/create", json!({ "policies": ["default"], "ttl": "1h" })).await.1;
    let wrapping = wrapped["wrap_info"]["token"].as_str().unwrap().to_owned();
    let tries: Vec<_> = (0..64)
        .map(|_| {
            let (server, wrapping) = (std::sync::Arc::clone(&server), wrapping.clone());
            tokio::spawn(async move { server.ask_as(Some(&wrapping), "POST", "sys/wrapping/unwrap", json!({})).await.0 })
        })
        .collect();
    let mut fetched = 0;
    for one in tries {
        match one.await.unwrap() {
            200 => fetched += 1,
            status => assert_eq!(status, 400),
        }
    }
    assert_eq!(fetched, 1);
}

#[tokio::test]
async fn a_limited_token_serves_exactly_as_often_as_it_says() {
    let server = std::sync::Arc::new(Server::start().await);
    let token = made(&server, "auth/token/create", json!({ "policies": ["default"], "ttl": "1h", "num_uses": 20 })).await;
    let uses: Vec<_> = (0..64)
        .map(|_| {
            let (server, token) = (std::sync::Arc::clone(&server), token.clone());
            tokio::spawn(async move { status_of(&server, &token).await })
        })
        .collect();
    let mut served = 0;
    for one in uses {
        served += usize::from(one.await.unwrap() == 200);
    }
    assert_eq!(served, 20);
}
