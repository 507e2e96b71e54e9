//! Which setting wins, and what is said about bad ones.

use super::*;

fn ctx(pairs: &'static [(&'static str, &'static str)]) -> Ctx {
    let find = move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Ctx { program: "daypass", variables: Box::new(find) }
}

fn config(pairs: &'static [(&'static str, &'static str)], http: &Http) -> Result<Config, String> {
    ctx(pairs).config(http).map_err(|failure| failure.text().to_owned())
}

#[test]
fn flags_win_over_daypass_which_wins_over_vault() {
    let both = &[("VAULT_ADDR", "http://v:1"), ("DAYPASS_ADDR", "http://d:2")];
    assert_eq!(config(both, &Http::default()).unwrap().address.host, "d");
    let flag = Http { address: Some("http://f:3".into()), ..Http::default() };
    assert_eq!(config(both, &flag).unwrap().address.host, "f");
    assert_eq!(config(&[("VAULT_ADDR", "http://v:1"), ("DAYPASS_ADDR", "")], &Http::default()).unwrap().address.host, "v");
    assert_eq!(config(&[], &Http::default()).unwrap().address.authority, "127.0.0.1:8200");
}

#[test]
fn the_token_comes_from_the_environment_before_the_file() {
    let token = ctx(&[("VAULT_TOKEN", "a"), ("DAYPASS_TOKEN", "b")]).token().unwrap();
    assert_eq!(token.unwrap().expose(), "b");
    assert!(ctx(&[]).token().unwrap().is_none());
}

#[test]
fn times_and_counts_are_checked() {
    assert_eq!(config(&[("VAULT_CLIENT_TIMEOUT", "90")], &Http::default()).unwrap().timeout, Duration::from_secs(90));
    assert!(config(&[("VAULT_CLIENT_TIMEOUT", "soon")], &Http::default()).unwrap_err().contains("VAULT_CLIENT_TIMEOUT"));
    assert!(config(&[("VAULT_MAX_RETRIES", "-1")], &Http::default()).unwrap_err().contains("VAULT_MAX_RETRIES"));
    assert!(config(&[("VAULT_SKIP_VERIFY", "perhaps")], &Http::default()).unwrap_err().contains("neither true nor false"));
    let http = Http { wrap_ttl: Some("bogus".into()), ..Http::default() };
    assert_eq!(config(&[], &http).unwrap_err(), "invalid value \"bogus\" for flag -wrap-ttl: time: invalid duration \"bogus\"");
}

#[test]
fn reserved_headers_are_refused() {
    let http = Http { header: vec!["X-Vault-Token=x".into()], ..Http::default() };
    assert!(config(&[], &http).unwrap_err().contains("internal usage only"));
    let http = Http { header: vec!["X-Own=a=b".into()], ..Http::default() };
    assert_eq!(config(&[], &http).unwrap().headers.get("x-own").unwrap(), "a=b");
}
