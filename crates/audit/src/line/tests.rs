use std::collections::BTreeMap;

use daypass_base::Seconds;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::headers::HeaderRule;
use crate::record::{GrantingPolicy, PolicyResults, Room, Share};

fn salt() -> Salt {
    Salt::new(&Secret::new(b"salt".to_vec()))
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

fn written(record: &Record<'_>, format: &Format) -> String {
    String::from_utf8(write_line(record, format, &salt(), &HeaderRules::default())).unwrap()
}

fn parsed(record: &Record<'_>, format: &Format) -> Value {
    serde_json::from_str(&written(record, format)).unwrap()
}

#[test]
fn hashes_are_those_of_vault() {
    // HMAC-SHA256 with the salt as key, computed with Python's hmac module.
    assert_eq!(salt().hash("hello"), "hmac-sha256:86a81c3023136e5ef95a5545563804237182a5e2fafb5fd44adb958873182f48");
}

#[test]
fn a_request_has_the_documented_shape() {
    let (policies, token_policies) = (vec!["default", "ci"], vec!["default".to_owned(), "ci".to_owned()]);
    let metadata = BTreeMap::from([("role_name", "jenkins")]);
    let data = map(json!({"ttl": "15m"}));
    let headers = vec![("User-Agent", "curl/8"), ("x-vault-token", "hvs.secret"), ("accept", "*/*")];
    let granting = [GrantingPolicy { name: "ci", policy_type: "acl" }];
    let record = Record {
        record_type: RecordType::Request,
        time: Timestamp::from_nanos(1_767_323_045_678_901_234),
        auth: Some(AuthRecord {
            client_token: "hvs.secret",
            accessor: "acc",
            display_name: "approle",
            policies: Some(&policies),
            token_policies: Some(&token_policies),
            policy_results: Some(PolicyResults { allowed: true, granting_policies: &granting }),
            metadata: Some(&metadata),
            entity_id: "e-1",
            token_type: "service",
            token_ttl: Seconds(1200),
            token_issue_time: Some(Timestamp::from_nanos(1_767_323_045_678_901_234)),
            ..AuthRecord::default()
        }),
        request: RequestRecord {
            id: "id-1",
            client_id: "e-1",
            operation: "read",
            mount: MountRecord {
                point: "aws/",
                mount_type: "aws",
                accessor: "aws_1a2b3c4d",
                class: "secret",
                running_version: "v1.21.4+builtin.vault",
            },
            client_token: "hvs.secret",
            client_token_accessor: "acc",
            path: "aws/sts/deploy",
            data: Some(&data),
            headers: Some(&headers),
            remote_address: "10.0.0.5",
            remote_port: 51234,
            request_uri: "/v1/aws/sts/deploy?ttl=15m",
            wrap_ttl: Seconds(60),
            ..RequestRecord::default()
        },
        ..Record::default()
    };
    let expected = concat!(
        r#"{"auth":{"accessor":"hmac-sha256:2cb02eb9cbecb83a9935370a94365d52ecd767dcd415a32221e84fe991564c69","client_token":"hmac-sha256:0e557469d14abb7373905953ed6b7d8cb4e37c9d28d8de9b7fe8236ed28f8751","#,
        r#""display_name":"approle","entity_id":"e-1","metadata":{"role_name":"jenkins"},"policies":["default","ci"],"#,
        r#""policy_results":{"allowed":true,"granting_policies":[{"name":"ci","namespace_id":"root","type":"acl"}]},"#,
        r#""token_policies":["default","ci"],"token_issue_time":"2026-01-02T03:04:05Z","token_ttl":1200,"token_type":"service"},"#,
        r#""request":{"client_id":"e-1","client_token":"hmac-sha256:0e557469d14abb7373905953ed6b7d8cb4e37c9d28d8de9b7fe8236ed28f8751","client_token_accessor":"hmac-sha256:2cb02eb9cbecb83a9935370a94365d52ecd767dcd415a32221e84fe991564c69","#,
        r#""data":{"ttl":"hmac-sha256:620da100e659b3235954e1b9ed28c2aae59eba016e5b9a5f2e8a534a390aca14"},"headers":{"user-agent":["curl/8"]},"id":"id-1","mount_accessor":"aws_1a2b3c4d","#,
        r#""mount_class":"secret","mount_point":"aws/","mount_running_version":"v1.21.4+builtin.vault","mount_type":"aws","#,
        r#""namespace":{"id":"root"},"operation":"read","path":"aws/sts/deploy","remote_address":"10.0.0.5","remote_port":51234,"#,
        r#""request_uri":"/v1/aws/sts/deploy?ttl=15m","wrap_ttl":60},"#,
        r#""time":"2026-01-02T03:04:05.678901234Z","type":"request"}"#,
        "\n",
    );
    assert_eq!(written(&record, &Format::default()), expected);
}

#[test]
fn a_response_has_the_documented_shape() {
    let data = map(
        json!({"access_key": "AKIA", "secret_key": "s3cr3t & value", "ttl": 3600, "none": null, "ok": true, "list": ["x", 1, {"deep": "x"}]}),
    );
    let warnings = vec!["clamped"];
    let record = Record {
        record_type: RecordType::Response,
        error: "1 error occurred",
        request: RequestRecord {
            id: "id-1",
            path: "aws/sts/deploy",
            operation: "read",
            mount: MountRecord { point: "aws/", running_version: "v1", ..MountRecord::default() },
            ..RequestRecord::default()
        },
        response: Some(ResponseRecord {
            data: Some(&data),
            lease_id: "aws/sts/deploy/abc",
            warnings: Some(&warnings),
            redirect: "https://x/",
            auth: Some(AuthRecord { client_token: "hvs.secret", ..AuthRecord::default() }),
            wrap_info: Some(WrapRecord {
                token: "hvs.secret",
                accessor: "acc",
                ttl: Seconds(60),
                creation_time: Timestamp::from_seconds(1_767_323_045),
                creation_path: "aws/sts/deploy",
                wrapped_accessor: "acc",
            }),
            ..ResponseRecord::default()
        }),
        ..Record::default()
    };
    let line = parsed(&record, &Format::default());
    assert_eq!(line["type"], "response");
    assert_eq!(line["error"], "1 error occurred");
    assert_eq!(
        line["response"],
        json!({
            "auth": {"client_token": "hmac-sha256:0e557469d14abb7373905953ed6b7d8cb4e37c9d28d8de9b7fe8236ed28f8751"},
            "data": {
                "access_key": "hmac-sha256:101e687c4c746c07bfef991665436630b0c771fa10599c6ca490959de8b93921", "secret_key": "hmac-sha256:93e372000e71842a75fc54aa6ca6a2e4e8a52821389e6a4c1da8bc7399e47640", "ttl": 3600, "none": null, "ok": true,
                "list": ["hmac-sha256:555eb18440ae9c41f5d150d5628fa2b28bbdd8c479600188ebc68db666b0195f", 1, {"deep": "hmac-sha256:555eb18440ae9c41f5d150d5628fa2b28bbdd8c479600188ebc68db666b0195f"}],
            },
            "mount_point": "aws/", "mount_running_plugin_version": "v1", "redirect": "https://x/",
            "secret": {"lease_id": "aws/sts/deploy/abc"}, "warnings": ["clamped"],
            "wrap_info": {
                "accessor": "hmac-sha256:2cb02eb9cbecb83a9935370a94365d52ecd767dcd415a32221e84fe991564c69", "creation_path": "aws/sts/deploy", "creation_time": "2026-01-02T03:04:05Z",
                "token": "hmac-sha256:0e557469d14abb7373905953ed6b7d8cb4e37c9d28d8de9b7fe8236ed28f8751", "ttl": 60, "wrapped_accessor": "hmac-sha256:2cb02eb9cbecb83a9935370a94365d52ecd767dcd415a32221e84fe991564c69",
            },
        })
    );
    // In a record of a request, the answer is not there yet.
    assert_eq!(parsed(&Record { record_type: RecordType::Request, ..record }, &Format::default()).get("response"), None);
}

#[test]
fn empty_fields_are_left_out_and_a_refusal_is_not() {
    let (nobody, nothing): (Vec<String>, Map<String, Value>) = (Vec::new(), Map::new());
    let no_pairs: Vec<(String, String)> = Vec::new();
    let auth = AuthRecord {
        policies: Some(&nobody),
        metadata: Some(&no_pairs),
        policy_results: Some(PolicyResults::default()),
        ..AuthRecord::default()
    };
    let request = RequestRecord { data: Some(&nothing), headers: Some(&no_pairs), ..RequestRecord::default() };
    let record = Record { auth: Some(auth), request, ..Record::default() };
    let expected = concat!(
        r#"{"auth":{"policy_results":{"allowed":false}},"request":{"namespace":{"id":"root"}},"time":"1970-01-01T00:00:00Z","#,
        r#""type":"request"}"#,
        "\n"
    );
    assert_eq!(written(&record, &Format::default()), expected);
}

#[test]
fn keys_named_by_the_mount_stay_clear_where_they_are_nearest() {
    let data = map(json!({"ttl": "15m", "role": ["x", ["x"]], "outer": {"ttl": "15m", "other": "x"}, "role_object": {"x": "x"}}));
    let clear = ["ttl".to_owned(), "role".to_owned(), "role_object".to_owned()];
    let request = RequestRecord { data: Some(&data), ..RequestRecord::default() };
    let record = Record { request, non_hmac_request_keys: &clear, ..Record::default() };
    let hashed = "hmac-sha256:555eb18440ae9c41f5d150d5628fa2b28bbdd8c479600188ebc68db666b0195f";
    assert_eq!(
        parsed(&record, &Format::default())["request"]["data"],
        json!({"ttl": "15m", "role": ["x", ["x"]], "outer": {"ttl": "15m", "other": hashed}, "role_object": {"x": hashed}})
    );
}

#[test]
fn options_of_the_device_are_followed() {
    let data = map(json!({"keys": ["a", "b"], "key_info": {"a": {}}, "other": "x"}));
    let request = RequestRecord { operation: "list", client_token: "hvs.secret", client_token_accessor: "acc", ..RequestRecord::default() };
    let response = ResponseRecord { data: Some(&data), ..ResponseRecord::default() };
    let record = Record { record_type: RecordType::Response, request, response: Some(response), ..Record::default() };

    let elided = parsed(&record, &Format { elide_list_responses: true, ..Format::default() });
    assert_eq!(
        elided["response"]["data"],
        json!({"keys": 2, "key_info": 1, "other": "hmac-sha256:555eb18440ae9c41f5d150d5628fa2b28bbdd8c479600188ebc68db666b0195f"})
    );
    let read = Record { request: RequestRecord { operation: "read", ..record.request }, ..record };
    assert!(parsed(&read, &Format { elide_list_responses: true, ..Format::default() })["response"]["data"]["keys"].is_array());

    let raw = parsed(&record, &Format { log_raw: true, ..Format::default() });
    assert_eq!((&raw["request"]["client_token"], &raw["response"]["data"]["other"]), (&json!("hvs.secret"), &json!("x")));
    let accessors = parsed(&record, &Format { hmac_accessor: false, ..Format::default() });
    assert_eq!(accessors["request"]["client_token_accessor"], "acc");
    assert_ne!(accessors["request"]["client_token"], "hvs.secret");
    assert!(written(&record, &Format { prefix: "@cee: ".to_owned(), ..Format::default() }).starts_with("@cee: {"));
}

#[test]
fn headers_are_logged_as_the_rules_say() {
    let headers = vec![("X-Secret", "hello"), ("X-Clear", "one"), ("x-clear", "two"), ("Cookie", "c")];
    let configured =
        BTreeMap::from([("X-Secret".to_owned(), HeaderRule { hmac: true }), ("x-clear".to_owned(), HeaderRule { hmac: false })]);
    let record = Record { request: RequestRecord { headers: Some(&headers), ..RequestRecord::default() }, ..Record::default() };
    let raw = Format { log_raw: true, ..Format::default() };
    for format in [Format::default(), raw] {
        let line: Value = serde_json::from_slice(&write_line(&record, &format, &salt(), &HeaderRules::new(configured.clone()))).unwrap();
        assert_eq!(
            line["request"]["headers"],
            json!({"x-clear": ["one", "two"], "x-secret": ["hmac-sha256:86a81c3023136e5ef95a5545563804237182a5e2fafb5fd44adb958873182f48"]})
        );
    }
}

#[test]
fn values_in_the_query_are_hashed_as_their_parameters_are() {
    let uri = |uri: &str| {
        let clear = ["role_arn".to_owned()];
        let record = Record {
            request: RequestRecord { request_uri: uri, ..RequestRecord::default() },
            non_hmac_request_keys: &clear,
            ..Record::default()
        };
        parsed(&record, &Format::default())["request"]["request_uri"].as_str().unwrap().to_owned()
    };
    assert_eq!(uri("/v1/a?list=true&limit=5"), "/v1/a?list=true&limit=5");
    assert_eq!(
        uri("/v1/sys/wrapping/lookup?token=hvs.secret"),
        "/v1/sys/wrapping/lookup?token=hmac-sha256:0e557469d14abb7373905953ed6b7d8cb4e37c9d28d8de9b7fe8236ed28f8751"
    );
    assert_eq!(
        uri("/v1/a?v=s3cr3t+%26%20value&role_arn=arn"),
        "/v1/a?v=hmac-sha256:93e372000e71842a75fc54aa6ca6a2e4e8a52821389e6a4c1da8bc7399e47640&role_arn=arn"
    );
    assert_eq!(uri("/v1/a?hello"), "/v1/a?hmac-sha256:86a81c3023136e5ef95a5545563804237182a5e2fafb5fd44adb958873182f48");
    assert_eq!(uri("/v1/a?QUJD="), format!("/v1/a?{}", salt().hash("QUJD=")));
    assert_eq!(uri("/v1/a?list"), "/v1/a?list");
    assert_eq!(uri("/v1/a?x=&&%"), format!("/v1/a?x=&&{}", salt().hash("%")));
}

/// Story: 1.5 MB of empty strings, sent without a token, became two lines of 40 MB.
#[test]
fn data_for_which_there_is_no_room_is_a_size_and_a_hash() {
    let data = map(json!({"b": ["", "", 5], "a": {"password": "s3cr3t"}}));
    let text = r#"{"b":["","",5],"a":{"password":"s3cr3t"}}"#;
    let summary = json!({"bytes": text.len(), "hmac": salt().hash(text)});
    let request = RequestRecord { data: Some(&data), operation: "list", ..RequestRecord::default() };
    let listed = map(json!({"keys": vec!["name"; 50]}));
    let response = Some(ResponseRecord { data: Some(&listed), ..ResponseRecord::default() });
    let room = Room { request_data: 200, response_data: 200, share: Share::All };
    let record = Record { record_type: RecordType::Response, request, response, room, ..Record::default() };
    let raw = Format { log_raw: true, ..Format::default() };
    for (format, request_fits, response_fits) in [
        (Format::default(), false, false),
        (Format { elide_list_responses: true, ..Format::default() }, false, true),
        (raw, true, false),
        (Format { encoding: Encoding::Jsonx, ..Format::default() }, false, false),
    ] {
        let line = written(&record, &format);
        assert!(line.len() < 2000 && (format.log_raw || !line.contains("s3cr3t")), "{line}");
        if format.encoding == Encoding::Jsonx {
            assert!(line.contains("<json:object name=\"data_elided\"><json:number name=\"bytes\">"), "{line}");
            continue;
        }
        let line: Value = serde_json::from_str(&line).unwrap();
        let (request, response) = (&line["request"], &line["response"]);
        assert_eq!((request["data"].is_object(), response["data"].is_object()), (request_fits, response_fits), "{format:?}");
        assert_eq!(request["data_elided"], if request_fits { Value::Null } else { summary.clone() });
        assert_eq!(response["data_elided"].is_object(), !response_fits);
    }
    let large = map(json!({"list": vec!["some text"; 5000]}));
    let text = Value::Object(large.clone()).to_string();
    let record = Record { request: RequestRecord { data: Some(&large), ..request }, ..record };
    assert_eq!(parsed(&record, &Format::default())["request"]["data_elided"], json!({"bytes": text.len(), "hmac": salt().hash(&text)}));
}

#[test]
fn warnings_that_repeat_what_was_sent_do_not_fill_a_line() {
    let long = format!("Endpoint ignored these unrecognized parameters: [{}]", "x".repeat(1 << 20));
    let warnings = vec!["first".to_owned(), long, "last".to_owned()];
    let response = Some(ResponseRecord { warnings: Some(&warnings), ..ResponseRecord::default() });
    let record = Record { record_type: RecordType::Response, response, ..Record::default() };
    let left_out = "1 more are left out here: together they have more than 16384 bytes";
    assert_eq!(parsed(&record, &Format::default())["response"]["warnings"], json!(["first", "last", left_out]));
}

/// JSON whose strings all begin with the same mark, so that one can be looked for.
fn secrets() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(|text| Value::from(format!("SECRET{text}")))
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,6}", inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_data_takes_is_counted_before_anything_is_hashed(value in secrets(), key in any::<String>(), text in any::<String>()) {
        let data = map(json!({"value": value.clone(), "clear": [&text, value], key: text}));
        let clear = ["clear".to_owned()];
        for log_raw in [false, true] {
            for encoding in [Encoding::Json, Encoding::Jsonx] {
                let format = Format { log_raw, encoding, ..Format::default() };
                let empty = Record { non_hmac_request_keys: &clear, ..Record::default() };
                let request = RequestRecord { data: Some(&data), ..RequestRecord::default() };
                let taken = written(&Record { request, ..empty }, &format).len() - written(&empty, &format).len();
                let fits = |most: usize| has_room(&data, &format, &clear, most);
                if encoding == Encoding::Json {
                    let bytes = taken - r#""data":,"#.len();
                    prop_assert!(fits(bytes) && !fits(bytes - 1), "{bytes}");
                } else {
                    let bytes = taken - r#"<json:object name="data"></json:object>"#.len();
                    prop_assert!(fits(bytes * 4) && !fits(bytes - 1), "{bytes}");
                }
            }
        }
    }

    #[test]
    fn no_secret_is_ever_in_a_line(request in secrets(), response in secrets(), token in "SECRET.{0,30}", tail in ".{0,20}") {
        let (request, response) = (map(json!({"value": request})), map(json!({"value": response, "keys": [&token]})));
        let uri = format!("/v1/a?x={token}&SECRET{tail}");
        let headers = vec![("x-vault-token", token.as_str()), ("authorization", token.as_str())];
        let auth = AuthRecord { client_token: &token, accessor: &token, ..AuthRecord::default() };
        let wrap_info = WrapRecord { token: &token, accessor: &token, wrapped_accessor: &token, ..WrapRecord::default() };
        let record = Record {
            record_type: RecordType::Response,
            auth: Some(auth),
            request: RequestRecord {
                data: Some(&request), client_token: &token, client_token_accessor: &token, request_uri: &uri, headers: Some(&headers),
                ..RequestRecord::default()
            },
            response: Some(ResponseRecord { data: Some(&response), auth: Some(auth), wrap_info: Some(wrap_info), ..ResponseRecord::default() }),
            ..Record::default()
        };
        let line = written(&record, &Format::default());
        prop_assert!(!line.contains("SECRET"), "{}", line);
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1), "one line");
        prop_assert!(serde_json::from_str::<Value>(&line).is_ok());
    }

    #[test]
    fn any_text_gives_one_line_of_json_that_says_it(text in any::<String>(), key in any::<String>()) {
        let data = map(json!({key.clone(): text.clone()}));
        let (names, pairs) = (vec![text.as_str()], vec![(key.as_str(), text.as_str())]);
        let auth = AuthRecord { display_name: &text, policies: Some(&names), metadata: Some(&pairs), ..AuthRecord::default() };
        let record = Record { error: &text, auth: Some(auth), request: RequestRecord { path: &text, data: Some(&data), ..RequestRecord::default() }, ..Record::default() };
        let raw = Format { log_raw: true, ..Format::default() };
        let bytes = written(&record, &raw);
        prop_assert_eq!(bytes.find('\n'), Some(bytes.len() - 1));
        let line: Value = serde_json::from_str(&bytes).unwrap();
        prop_assert_eq!(&line["request"]["data"][&key], &text);
        prop_assert_eq!(&line["auth"]["metadata"][&key], &text);
        prop_assert_eq!(&line["auth"]["policies"], &json!([text]));
    }
}
